"""A PeerMachine and its world: broker, parents, children, clients, disk. The law is checked after every event."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from support.talk import CHUNKS, CUT, GENERATION, REQUEST, TASK, digest, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.machine import PeerMachine
from dfmq.model.ids import HostId, LeaseId
from dfmq.model.settings import PeerSettings
from dfmq.model.task import Content, Shelved
from dfmq.wire import codec
from dfmq.wire import messages as said
from dfmq.wire.messages import Message

E = TypeVar("E", bound=do.Effect)


class PeerTalk:
    """A PeerMachine. Each method gives the effects of one event, and keeps them in `all`."""

    def __init__(self, remembered: int = 0, **settings_of_peer: Any) -> None:
        self.now = 100.0
        brokers = ("tcp://one.example:7400", "tcp://two.example:7400")
        settings = PeerSettings(**{"home": "", "brokers": brokers, **settings_of_peer})
        host = HostId(b"host".ljust(16, b"-"))
        self.machine = PeerMachine(settings, peer_id("me"), host, random.Random(1), remembered=remembered)
        self.born = list(self.machine.bound(exchange("me"), "tcp://me:1", "tcp://me:2", self.now))

    def told(self, event: Any) -> list[Any]:
        effects = list(self.machine.handle(event, self.now))
        self.machine.check()
        return effects

    def hears(self, message: Message) -> list[Any]:
        """The broker says it."""
        return self.told(told.BrokerSaid(codec.peer_hears.decode(codec.encode(message))))

    def child(self, message: Message) -> list[Any]:
        return self.told(told.ChildSaid(peer_id("child"), codec.parent_hears.decode(codec.encode(message))))

    def client(self, message: Message) -> list[Any]:
        return self.told(told.ClientSaid(b"client", codec.local_hears.decode(codec.encode(message))))

    def passes(self, seconds: float) -> list[Any]:
        """Time goes by, deadline by deadline."""
        effects, end = [], self.now + seconds
        while (at := self.machine.next_deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            effects += self.told(told.DeadlineReached())
        self.now = end
        return effects

    def wants(self) -> list[Any]:
        """Welcomed, a client's Get, nothing on disk: up to Open."""
        effects = self.hears(said.Welcome(epoch=7)) + self.client(said.Get(get=1, request=REQUEST))
        return effects + self.told(told.StoreLoaded(TASK, None))

    def opened(self) -> list[Any]:
        """And on: the content is known, the store ready."""
        effects = self.wants()
        effects += self.hears(
            said.Opened(
                task=TASK,
                generation=GENERATION,
                length=CUT.length,
                piece_length=CUT.piece_length,
                chunk_length=CUT.chunk_length,
            )
        )
        return effects + self.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))

    def granted(self, lease: int, piece: int, parent: str = "parent") -> list[Any]:
        one = said.Lease(
            lease=lease, piece=piece, parent=peer_id(parent), endpoint=exchange(parent), proofs=proofs(piece)
        )
        return self.hears(said.Grant(task=TASK, generation=GENERATION, leases=[one]))

    def chunk(self, lease: int, piece: int, chunk: int, true: bool = True) -> list[Any]:
        found = digest(piece, chunk) if true else b"x" * 16
        length = CUT.chunk_span(piece, chunk)[1]
        return self.told(told.ChunkArrived(LeaseId(lease), piece, chunk, length, found, f"payload {piece}.{chunk}"))

    def stored(self, piece: int, chunks: Sequence[int]) -> list[Any]:
        return self.told(told.ChunksStored(TASK, GENERATION, [(piece, chunk) for chunk in chunks]))

    def takes(self, lease: int, piece: int) -> list[Any]:
        """A whole piece: granted, received, stored."""
        effects = self.granted(lease, piece)
        for chunk in range(CHUNKS):
            effects += self.chunk(lease, piece, chunk)
        return effects + self.stored(piece, range(CHUNKS))


def all_of(kind: type[E], effects: Sequence[Any]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def to_broker(effects: Sequence[Any]) -> list[Message]:
    return [effect.message for effect in all_of(do.TellBroker, effects)]


def to_parents(effects: Sequence[Any]) -> list[Message]:
    return [effect.message for effect in all_of(do.AskParent, effects)]


def to_client(effects: Sequence[Any]) -> list[Message]:
    return [effect.message for effect in all_of(do.TellClient, effects)]


def shelved(held: int) -> Shelved:
    """What an earlier life left."""
    return Shelved(Content(GENERATION, CUT), held, {}, {0: proofs(0), 1: proofs(1)}, REQUEST, etag='"v1"')
