"""Whatever is said to a machine, in whatever order, it raises nothing and its books balance; and what it says can be
sent: each message keeps its own bounds.

A talk is one integer. A failing one names it: `pytest "tests/laws/test_any_talk.py" -k "peer and 17"`. More of them:
HYPOTHESIS_PROFILE=soak.
"""

from __future__ import annotations

import os
import random
from collections import deque
from typing import Any, get_args

import pytest
from support.speech import NAMES, REQUEST, Speaker, a_digest
from support.talk import CUT, GENERATION, TASK, digest, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.broker.machine import BrokerMachine
from dfmq.machines.peer.machine import PeerMachine
from dfmq.model.ids import HostId, LeaseId
from dfmq.model.settings import BrokerSettings, PeerSettings
from dfmq.wire import codec, envelope, messages

TALKS = 3000 if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 120
TURNS = 150
WAITS = [0.0] * 40 + [0.05] * 30 + [0.3] * 20 + [1.0] * 9 + [61.0]
SHAPE: dict[str, Any] = {
    "generation": GENERATION,
    "length": CUT.length,
    "piece_length": CUT.piece_length,
    "chunk_length": CUT.chunk_length,
}


def sendable(effects: list[Any], hears: codec.Decoder[Any], kind: type[Any]) -> None:
    """Each message of these effects is heard by the other side as it was meant, and is short enough."""
    for effect in effects:
        if isinstance(effect, kind):
            body = codec.encode(effect.message)
            assert len(body) <= envelope.MOST_BODY_BYTES
            assert hears.decode(body) == effect.message


# ── the broker ────────────────────────────────────────────────────────────────────────────────────────────────────

HELLOES: list[tuple[str, messages.Message]] = [
    (
        name,
        messages.Hello(
            peer=peer_id(name), host=name.encode().rjust(16, b"-"), exchange=exchange(name), seed=name == "seed"
        ),
    )
    for name in NAMES
]
SWARM: list[tuple[str, messages.Message]] = [
    *((name, messages.Open(task=TASK, request=REQUEST, want=2)) for name in "abc"),
    ("seed", messages.Sourced(permit=1, task=TASK, fresh_seconds=60.0, **SHAPE)),
    *(
        ("seed", messages.Proven(task=TASK, generation=GENERATION, piece=piece, proofs=proofs(piece)))
        for piece in (0, 1)
    ),
]


@pytest.mark.parametrize("seed", range(TALKS))
def test_a_broker_stands_whatever_it_is_told(seed: int) -> None:
    rng = random.Random(seed)
    speaker, broker = Speaker(rng), BrokerMachine(BrokerSettings(home=""), 7, random.Random(seed))
    kinds = get_args(messages.CONTROL_TO_BROKER)
    often = (messages.Open, messages.Want, messages.Have, messages.Failed, messages.Beat, messages.Beat)
    talk: deque[tuple[str, messages.Message]] = deque([*HELLOES, *SWARM[: rng.randint(0, len(SWARM))]])
    now = 100.0
    for _ in range(TURNS):
        if not talk:
            now += rng.choice(WAITS)
            talk.append((rng.choice(NAMES), speaker.one_of(kinds, often)))
            talk.extend((name, messages.Beat()) for name in NAMES if rng.randrange(8) == 0)
        name, message = talk.popleft()
        events = [told.PeerSaid(peer_id(name), message), told.DeadlineReached()]
        if rng.randrange(60) == 0:
            events.append(told.PeerUnreachable(peer_id(rng.choice(NAMES))))
        for event in events:
            effects = list(broker.handle(event, now))
            broker.check()
            sendable(effects, codec.peer_hears, do.Send)
            for effect in effects:
                if isinstance(effect, do.Send) and getattr(effect.message, "code", "") == "unknown_peer":
                    talk.append(next(hello for hello in HELLOES if peer_id(hello[0]) == effect.peer))
    broker.tasks()
    broker.peers()
    broker.counts()


# ── the peer ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Disk:
    """Answers what the machine asks of its store, as a store may: each question once, sometimes with no."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def answer(self, effect: Any) -> Any:
        rng = self._rng
        if isinstance(effect, do.LoadTask):
            return told.StoreLoaded(effect.task, None)
        if isinstance(effect, do.OpenStore):
            if rng.randrange(10) == 0:
                return told.StoreFailed(effect.task, "no_space", "full")
            held = rng.choice([0, 0, 0, 1])
            known = {0: proofs(0)} if held and effect.content.generation == GENERATION else {}
            return told.StoreOpened(effect.task, effect.content.generation, held if known else 0, {}, known)
        if isinstance(effect, do.StoreChunk):
            if rng.randrange(40) == 0:
                return told.StoreFailed(effect.task, "store", "I/O error")
            return told.ChunksStored(effect.task, effect.generation, [(effect.piece, effect.chunk)])
        if isinstance(effect, do.ProveContent):
            return told.ContentProved(effect.task, effect.generation, effect.algorithm, rng.choice(["ab", ""]))
        return None


class Source:
    """Answers what the machine asks of a source; reads to the end, or breaks off."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def answer(self, effect: Any) -> list[Any]:
        rng = self._rng
        if isinstance(effect, do.AskSource):
            kind = rng.choice(["full", "full", "partial", "unchanged", "no"])
            if kind == "no":
                code = rng.choice(["source_failed", "source_refused", "not_authorised"])
                return [told.SourceBroke(effect.permit, code, "no", rng.random() < 0.5, 0.0)]
            offset = effect.offset if kind == "partial" else 0
            if (kind == "unchanged" and not effect.unchanged_will_do) or (kind == "partial" and not effect.offset):
                kind = "full"
            etag = rng.choice(['"v1"', '"v1"', '"v2"', ""])
            return [told.SourceAnswered(effect.permit, kind, offset, CUT.length, etag, "", None, True)]
        if isinstance(effect, do.ReadSource):
            return self._body(effect)
        return []

    def _body(self, effect: do.ReadSource) -> list[Any]:
        rng, cut, events = self._rng, effect.cut, []
        at, end = effect.offset, cut.length if cut.length is not None else CUT.length or 0
        while at < end:
            if rng.randrange(12) == 0:
                return [*events, told.SourceBroke(effect.permit, "source_failed", "broke off", False, 0.0)]
            piece, inside = divmod(at, cut.piece_length)
            chunk = inside // cut.chunk_length
            length = min(cut.chunk_span(piece, chunk)[1], end - at)
            found = bytes([piece, chunk]) * 8 if rng.randrange(30) else b"changed in between"[:16]
            events.append(told.SourceChunk(effect.permit, piece, chunk, length, found, "payload"))
            at += length
        return [*events, told.SourceEnded(effect.permit, end)]


class Neighbourhood:
    """Broker and parents: answers beats and Helloes mostly, and sends the chunks that are fetched, mostly right."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def answer(self, effect: Any) -> list[Any]:
        rng = self._rng
        if isinstance(effect, do.TellBroker) and rng.randrange(10):
            if isinstance(effect.message, messages.Hello):
                return [told.BrokerSaid(messages.Welcome(epoch=1))]
            if isinstance(effect.message, messages.Beat):
                return [told.BrokerSaid(messages.BeatSeen(stamp=effect.message.stamp, behind=rng.randrange(2) == 1))]
        if isinstance(effect, do.AskParent) and isinstance(effect.message, messages.Fetch) and rng.randrange(5):
            fetch = effect.message
            chunks = [chunk for chunk in range(4) if fetch.chunks and fetch.chunks[0] >> chunk & 1]
            return [
                told.ChunkArrived(
                    LeaseId(fetch.lease),
                    fetch.piece,
                    chunk,
                    CUT.chunk_length,
                    digest(fetch.piece % 2, chunk),
                    "payload",
                )
                for chunk in chunks
            ]
        return []


class Told:
    """Draws what a peer may be told."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        #: whoever is believed: the broker, and while there is none, neighbours
        self._broker = Speaker(rng, honest=True)
        self._speaker = Speaker(rng)

    def event(self) -> Any:
        rng, speaker = self._rng, self._speaker
        kind = rng.randrange(12)
        if kind < 4:
            often = (messages.Grant, messages.Opened, messages.Grant)
            return told.BrokerSaid(self._broker.one_of(get_args(messages.CONTROL_TO_PEER), often))
        if kind < 7:
            piece, chunk = rng.choice([0, 1]), rng.randrange(4)
            right = bytes([piece, chunk]) * 8
            length = CUT.chunk_length if rng.randrange(10) else 1
            found = right if rng.randrange(5) else a_digest(rng)
            return told.ChunkArrived(LeaseId(rng.randint(1, 11)), piece, chunk, length, found, "payload")
        if kind == 7:
            child = peer_id(rng.choice("ab"))
            return told.ChildSaid(child, speaker.one_of(get_args(messages.EXCHANGE_TO_PARENT), (messages.Fetch,)))
        if kind == 8:
            return told.ClientSaid(rng.choice([b"one", b"two"]), speaker.one_of(get_args(messages.LOCAL_TO_PEER)))
        if kind == 9:
            return told.ParentSaid(exchange(rng.choice(NAMES)), speaker.one_of(get_args(messages.EXCHANGE_TO_CHILD)))
        return self._rarely()

    def _rarely(self) -> Any:
        rng, speaker = self._rng, self._speaker
        return rng.choice(
            [
                told.NeighbourHinted(self._broker.one_of([messages.Hint])),
                told.NeighbourHinted(self._broker.one_of([messages.Hint])),
                told.NoticeHeard(speaker.one_of([messages.Notice])),
                told.ClientLost(rng.choice([b"one", b"two"])),
                told.ChunkUnsent(LeaseId(rng.randint(1, 11))),
                told.StoreDamaged(TASK),
                told.StoreDoubted(TASK),
                told.DeadlineReached(),
            ]
        )


BEGUN: list[Any] = [
    told.BrokerSaid(messages.Welcome(epoch=1)),
    told.ClientSaid(b"one", messages.Get(get=1, request=REQUEST)),
    told.BrokerSaid(messages.Opened(task=TASK, **SHAPE)),
]


@pytest.mark.parametrize("seed", range(TALKS))
def test_a_peer_stands_whatever_it_is_told(seed: int) -> None:
    rng = random.Random(seed)
    draws, disk, source, others = Told(rng), Disk(rng), Source(rng), Neighbourhood(rng)
    peer = PeerMachine(
        PeerSettings(home=""), peer_id("me"), HostId(b"h" * 16), random.Random(seed), is_seed=seed % 3 == 0
    )
    now, begun = 100.0, BEGUN[: rng.randint(0, 3)]
    peer.bound("tcp://me:1", "tcp://me:2", "tcp://me:3", now)
    #: what the world will answer, each queue in its own order: the store, the source, broker and parents
    waiting: list[list[Any]] = [[], [], []]
    for turn in range(TURNS):
        now += rng.choice(WAITS) if turn >= len(begun) else 0.0
        events = [begun[turn] if turn < len(begun) else draws.event()]
        for queue in waiting:
            events += queue[: (count := rng.randint(0, len(queue)))]
            del queue[:count]
        at = peer.next_deadline()
        if at is not None and at <= now:
            events.append(told.DeadlineReached())
        for event in events:
            effects = list(peer.handle(event, now))
            peer.check()
            sendable(effects, codec.broker_hears, do.TellBroker)
            sendable(effects, codec.parent_hears, do.AskParent)
            sendable(effects, codec.client_hears, do.TellClient)
            for effect in effects:
                if isinstance(effect, do.DropSource):
                    waiting[1] = [answer for answer in waiting[1] if answer.permit != effect.permit]
                answer = disk.answer(effect)
                waiting[0] += [answer] if answer is not None else []
                waiting[1] += source.answer(effect)
                waiting[2] += others.answer(effect)
    peer.status(now)
