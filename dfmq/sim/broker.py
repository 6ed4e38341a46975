"""The broker's process in the simulator: its machine with hands. The embedded seed is a PeerProcess beside it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from dfmq.machines.broker.machine import BrokerMachine
from dfmq.machines.effects import Publish, Record, Send
from dfmq.machines.events import PeerSaid, PeerUnreachable
from dfmq.model.ids import PeerId
from dfmq.model.settings import BrokerSettings
from dfmq.sim.process import Process
from dfmq.wire import codec

if TYPE_CHECKING:
    from dfmq.sim.network import Card
    from dfmq.sim.world import World


class BrokerProcess(Process):
    """One life of the broker."""

    def __init__(self, world: World, card: Card, settings: BrokerSettings, epoch: int) -> None:
        machine = BrokerMachine(settings, epoch, Random(world.rng.random()), "tcp://broker:7401")
        super().__init__(world, card, f"broker {epoch}", machine)
        self.epoch = epoch
        self._saying: dict[PeerId, list[bytes]] = {}

    def arrive(self, peer: PeerId, bodies: list[bytes]) -> None:
        """A multipart message came in on the ROUTER."""
        self.world.broker_heard += len(bodies)
        for body in bodies:
            self.hear(PeerSaid(peer, codec.broker_hears.decode(body)))

    def end_turn(self) -> None:
        """Say what the turn gathered: a multipart message a peer."""
        if not self._saying:
            return
        saying, self._saying = self._saying, {}
        for peer, bodies in saying.items():
            process = self.world.peer_of(peer)
            if process is None or not process.is_connected:
                self.world.agenda.at(self.world.agenda.now, self.hear, PeerUnreachable(peer))
                continue
            self.world.broker_said += len(bodies)
            size = sum(map(len, bodies))
            self.world.network.control(self.card, process.card, size, process.arrive_from_broker, self, bodies)

    def _send(self, effect: Send) -> None:
        self._saying.setdefault(effect.peer, []).append(codec.encode(effect.message))

    def _publish(self, effect: Publish) -> None:
        self.world.publish_notice(self, codec.encode(effect.message))

    HANDS = {Record: Process._record, Send: _send, Publish: _publish}  # noqa: RUF012
