"""The broker's books that a choice reads, set up by hand."""

from __future__ import annotations

import random
from itertools import islice

from dfmq.machines.broker.catalog import Member, Task
from dfmq.machines.broker.choosing import Choosing
from dfmq.machines.broker.health import Health
from dfmq.machines.broker.leases import Leases, LiveLease
from dfmq.machines.broker.rates import Rates
from dfmq.machines.broker.slots import SLOT, Slots
from dfmq.machines.broker.zones import Zones
from dfmq.model.ids import Generation, HostId, TaskId
from dfmq.model.pieces import KIB, PieceMap
from dfmq.model.task import Content, Request

CUT = PieceMap(4 * 256 * KIB, 256 * KIB, 64 * KIB)
MB = 1_000_000
CHILD = 0


def host(index: int) -> HostId:
    return HostId(b"%016d" % index)


class Books:
    """One task of four proven pieces; peer 0 is the child, each peer has four slots and a host of its own."""

    def __init__(self, peers: int, seed: int = 1, zones: str = "", limits: dict[int, int] | None = None) -> None:
        """`limits`: peer → what it was told to send at most, bytes per second."""
        limits = limits or {}
        self.slots, self.rates, self.health, self.zones = Slots(), Rates(), Health(), Zones()
        self.leases = Leases(self.slots, self.zones)
        self.choosing = Choosing(self.leases, self.slots, self.rates, self.health, self.zones, random.Random(seed))
        self.task = Task(TaskId(b"T" * 16), "")
        self.task.begin(Content(Generation(b"g" * 8), CUT))
        for piece in range(CUT.count):
            self.task.prove(piece, b"p" * 64)
        for index in range(peers):
            self.slots.join(index, 4 * SLOT)
            self.rates.join(index, 4, False, limits.get(index, 0), 0, ord(zones[index]) if zones else 0)
            self.health.join(host(index), index)
            self.zones.join(index, zones[index] if zones else "", limits.get(index, 0))
            self.task.members[index] = Member(Request(url="http://source.example/x"), b"", False, True)

    def takes(self, child: int, piece: int, parent: int) -> LiveLease:
        self.task.take(child, piece)
        return self.leases.grant(self.task.id, piece, child, parent, SLOT, 0.0, 30.0, 1.0)

    def full(self, *parents: int) -> None:
        for parent in parents:
            self.slots.book(parent, 4 * SLOT)

    def rate(self, index: int, rate: int) -> None:
        self.rates.report(index, rate, rate, 3, is_loaded=True)

    def chosen(self, times: int = 40) -> set[tuple[int, int]]:
        """Every choice for the child in so many draws; what is chosen can be granted, and nothing else can be."""
        found = {choice for _ in range(times) for choice in islice(self.choosing.choices(self.task, CHILD), 1)}
        assert bool(found) == self.choosing.is_grantable(self.task, CHILD)
        return found
