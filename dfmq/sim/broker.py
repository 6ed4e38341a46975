"""The broker's process in the simulator: its machine with hands. The embedded seed is a PeerProcess beside it."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from dfmq.machines.broker.machine import BrokerMachine
from dfmq.machines.effects import Publish, Record, Send
from dfmq.machines.events import CaughtUp, FellBehind, PeerSaid, PeerUnreachable
from dfmq.model.ids import PeerId
from dfmq.model.settings import BrokerSettings
from dfmq.sim.process import Process
from dfmq.wire import codec
from dfmq.wire.messages import Beat, Message, Want

if TYPE_CHECKING:
    from dfmq.sim.network import Card
    from dfmq.sim.world import World

#: What a Beat takes of the time of another message, and what each piece wanted takes beside the message: a Have and a
#: Want of one piece take a real broker 250 µs, of three 364 (bench.broker).
BEAT_SHARE = 0.1
PIECE_SHARE = 0.6
#: messages that may wait before the machine is told that it is behind; as edges/bus/loop has it
MOST_IN_A_ROW = 64


class BrokerProcess(Process):
    """One life of the broker."""

    def __init__(self, world: World, card: Card, settings: BrokerSettings, epoch: int) -> None:
        machine = BrokerMachine(settings, epoch, Random(world.rng.random()), "tcp://broker:7401")
        super().__init__(world, card, f"broker {epoch}", machine)
        self.epoch = epoch
        self._saying: dict[PeerId, list[bytes]] = {}
        #: what came in while it was busy
        self._unread: deque[tuple[PeerId, list[Message]]] = deque()
        self._is_busy = self._is_behind = False
        #: nothing was unread at this instant, if it is busy
        self._idle_until = 0.0

    def arrive(self, peer: PeerId, bodies: list[bytes]) -> None:
        """A multipart message came in on the ROUTER."""
        self.world.broker_heard += len(bodies)
        messages: list[Message] = [codec.broker_hears.decode(body) for body in bodies]
        if not self.world.plan.broker_seconds:
            self._read(peer, messages)
            return
        self._unread.append((peer, messages))
        if not self._is_busy:
            self._is_busy = True
            self._idle_until = self._agenda.now
            self._work()
        elif not self._is_behind and len(self._unread) > MOST_IN_A_ROW:
            self._is_behind = True
            self.hear(FellBehind(self._idle_until))

    def _read(self, peer: PeerId, messages: list[Message]) -> None:
        for message in messages:
            self.hear(PeerSaid(peer, message))

    def _work(self) -> None:
        """Take the next message, and the time it takes."""
        if not self._unread:
            self._is_busy = False
            if self._is_behind:
                self._is_behind = False
                self.hear(CaughtUp())
            return
        peer, messages = self._unread.popleft()
        cost = sum(BEAT_SHARE if isinstance(message, Beat) else 1.0 for message in messages)
        cost += PIECE_SHARE * sum(message.count for message in messages if isinstance(message, Want))
        self._agenda.after(cost * self.world.plan.broker_seconds, self._worked, peer, messages)

    def _worked(self, peer: PeerId, messages: list[Message]) -> None:
        if self.is_alive:
            self._read(peer, messages)
            self._work()

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
