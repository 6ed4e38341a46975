"""The broker's books, laid out on one desk for those that decide. Holds them together; decides nothing itself."""

from __future__ import annotations

from dfmq.machines.broker.backsource import BackSource
from dfmq.machines.broker.catalog import Catalog
from dfmq.machines.broker.health import Health
from dfmq.machines.broker.leases import Leases
from dfmq.machines.broker.outbox import Outbox
from dfmq.machines.broker.rates import Rates
from dfmq.machines.broker.roster import Roster
from dfmq.machines.broker.slots import Slots
from dfmq.machines.broker.zones import Zones
from dfmq.model.settings import BrokerSettings


class Desk:
    """Law: each book's own; and that they agree, which is in agreement."""

    def __init__(self, settings: BrokerSettings, epoch: int) -> None:
        self.settings = settings
        self.epoch = epoch
        self.roster = Roster(settings.beat_seconds)
        self.catalog = Catalog()
        self.slots = Slots()
        self.rates = Rates()
        self.health = Health()
        self.zones = Zones()
        self.leases = Leases(self.slots, self.zones, epoch)
        self.backsource = BackSource(settings.source.negative_seconds)
        self.outbox = Outbox()

    def check(self) -> None:
        """Every book's own law."""
        for book in (
            self.roster, self.catalog, self.slots, self.rates, self.health, self.zones, self.leases, self.backsource,
        ):  # fmt: skip
            book.check()
