"""A BrokerMachine and somebody to talk to it: what is said passes through the codec, the law is checked each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from support.talk import CUT, GENERATION, REQUEST, TASK, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.broker.machine import BrokerMachine
from dfmq.model.ids import HostId
from dfmq.model.settings import BrokerSettings
from dfmq.model.task import Request, task_id
from dfmq.wire import codec
from dfmq.wire import messages as said
from dfmq.wire.messages import Message

M = TypeVar("M", bound=Message)


class BrokerTalk:
    """A BrokerMachine. `hears` gives what it then says, as (to whom, message)."""

    def __init__(self) -> None:
        self.now = 100.0
        settings = BrokerSettings(home="")
        self.beat = settings.beat_seconds
        self.machine = BrokerMachine(settings, 7, random.Random(1), "tcp://broker.example:7401")
        #: every notice so far
        self.published: list[Message] = []

    def told(self, event: Any) -> list[tuple[str, Message]]:
        """Tell it a fact that is no message."""
        return self._handle(event)

    def _handle(self, event: Any) -> list[tuple[str, Message]]:
        effects: list[Any] = list(self.machine.handle(event, self.now))
        while (at := self.machine.next_deadline()) is not None and at <= self.now:
            effects += self.machine.handle(told.DeadlineReached(), self.now)
        self.machine.check()
        self.published += [effect.message for effect in effects if isinstance(effect, do.Publish)]
        sent = [effect for effect in effects if isinstance(effect, do.Send)]
        return [
            (effect.peer.rstrip(b"-").decode(), codec.peer_hears.decode(codec.encode(effect.message)))
            for effect in sent
        ]

    def hears(self, name: str, message: Message) -> list[tuple[str, Message]]:
        decoded = codec.broker_hears.decode(codec.encode(message))
        return self._handle(told.PeerSaid(peer_id(name), decoded))

    def hello(self, name: str, *, seed: bool = False, slots: int = 4) -> list[tuple[str, Message]]:
        host = HostId(name.encode().rjust(16, b"-"))
        return self.hears(
            name, said.Hello(peer=peer_id(name), host=host, exchange=exchange(name), seed=seed, slots=slots)
        )

    def opens(self, name: str, want: int = 1, **others: Any) -> list[tuple[str, Message]]:
        request = others.pop("request", REQUEST)
        return self.hears(name, said.Open(task=task_id(request), request=request, want=want, **others))

    def sourced(self, name: str, permit: said.Permit, **others: Any) -> list[tuple[str, Message]]:
        fields: dict[str, Any] = {
            "generation": GENERATION,
            "length": CUT.length,
            "piece_length": CUT.piece_length,
            "chunk_length": CUT.chunk_length,
            "fresh_seconds": 60.0,
        } | others
        return self.hears(name, said.Sourced(permit=permit.permit, task=permit.task, **fields))

    def proven(self, name: str, piece: int) -> list[tuple[str, Message]]:
        return self.hears(name, said.Proven(task=TASK, generation=GENERATION, piece=piece, proofs=proofs(piece)))

    def passes(self, seconds: float, living: Sequence[str] = ()) -> list[tuple[str, Message]]:
        """Time goes by in quarters of a second; the living beat."""
        out = []
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            out += self._handle(told.DeadlineReached())
            for name in living:
                out += [(to, what) for to, what in self.hears(name, said.Beat()) if not isinstance(what, said.BeatSeen)]
        return out


def of(kind: type[M], out: Sequence[tuple[str, Message]], to: str | None = None) -> list[M]:
    """The messages of a kind in what a broker said, to anybody or to one."""
    return [what for name, what in out if isinstance(what, kind) and to in (None, name)]


def leases(out: Sequence[tuple[str, Message]], to: str | None = None) -> list[said.Lease]:
    return [lease for grant in of(said.Grant, out, to) for lease in grant.leases]


def with_content(*children: str, want: int = 0, seed_slots: int = 32) -> BrokerTalk:
    """A broker with a seed that has both pieces, and children that have the task open."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True, slots=seed_slots)
    for child in children:
        broker.hello(child)
    (permit,) = of(said.Permit, broker.opens(children[0], 0))
    broker.sourced("seed", permit)
    broker.proven("seed", 0)
    broker.proven("seed", 1)
    for child in children[1:]:
        broker.opens(child, 0)
    if want:
        for child in children:
            broker.hears(child, said.Want(task=TASK, count=want))
    return broker


def failed(
    broker: BrokerTalk, name: str, permit: said.Permit, code: str, retry_after: float = 0.0
) -> list[tuple[str, Message]]:
    return broker.hears(
        name,
        said.SourceFailed(permit=permit.permit, task=permit.task, code=code, text="why not", retry_after=retry_after),
    )


def opened_with(request: Request, **sourced: object) -> BrokerTalk:
    """A broker whose seed has fetched the task with the request of a peer `first`."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("first")
    (permit,) = of(said.Permit, broker.opens("first", 0, request=request))
    broker.sourced("seed", permit, **sourced)
    for piece in (0, 1):
        broker.hears("seed", said.Proven(task=permit.task, generation=GENERATION, piece=piece, proofs=proofs(piece)))
    return broker
