"""Serving children: availability, turns, bounds, and the ends of streams."""

from __future__ import annotations

from typing import Any

import pytest

from dfmq.machines.effects import ForgetInbox, Record, SendChunk, StoredSpan, TellChild
from dfmq.machines.peer import upload as rules
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.upload import Upload
from dfmq.model import bitfield
from dfmq.model.ids import Generation, LeaseId, TaskId
from dfmq.model.pieces import KIB, MIB, PieceMap
from dfmq.model.task import Content, Request
from dfmq.wire.messages import Credit, Fetch, Stop

TASK = TaskId(b"t" * 16)
GENERATION = Generation(b"g" * 8)
CHUNK = 64 * KIB
#: four pieces of four chunks, the last piece of one chunk and a bit
CUT = PieceMap(3 * 256 * KIB + CHUNK + 1, 256 * KIB, CHUNK)


class Parent:
    """An Upload with one task, of which pieces are put in by the test."""

    def __init__(self, *held: int, up_limit: int = 0, cut: PieceMap = CUT) -> None:
        self.holdings = Holdings()
        self.holding = self.holdings[TASK] = Holding(TASK, Content(GENERATION, cut), Request(url="http://source/x"))
        self.holding.is_open = True
        self.holding.held = bitfield.of(held)
        self.upload = Upload(self.holdings, up_limit, Alarm())
        self.now = 100.0

    def done(self, effects: list[Any]) -> list[Any]:
        self.upload.check()
        return effects

    def fetch(
        self,
        piece: int = 0,
        *,
        lease: int = 1,
        child: bytes = b"child",
        chunks: int = 0b1111,
        credit: int = MIB,
        inbox: str = "tcp://child:1",
        generation: bytes = GENERATION,
        task: bytes = TASK,
    ) -> list[Any]:
        message = Fetch(
            lease=lease,
            task=task,
            generation=generation,
            piece=piece,
            chunks=bitfield.to_bytes(chunks),
            credit=credit,
            inbox=inbox,
        )
        return self.done(self.upload.child_said(child, message, self.now))

    def credit(self, credit: int, lease: int = 1, child: bytes = b"child") -> list[Any]:
        return self.done(self.upload.child_said(child, Credit(lease=lease, credit=credit), self.now))

    def stop(self, lease: int = 1, child: bytes = b"child") -> list[Any]:
        return self.done(self.upload.child_said(child, Stop(lease=lease), self.now))

    def prove(self, piece: int, chunk: int, payload: str = "") -> list[Any]:
        """A chunk comes in."""
        self.holding.gather(piece, None).add(chunk, payload or f"{piece}/{chunk}")
        return self.done(self.upload.chunk_proven(TASK, piece, chunk, self.now))

    def wait(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.done(self.upload.deadline(self.now))


def sent(effects: list[Any]) -> list[tuple[int, int]]:
    """(lease, chunk) of what is sent, in order."""
    return [(effect.lease, effect.chunk) for effect in effects if isinstance(effect, SendChunk)]


def codes(effects: list[Any]) -> list[str]:
    """Codes of the Stops that are said to children."""
    return [effect.message.code for effect in effects if isinstance(effect, TellChild)]


def test_a_held_piece_is_sent_from_the_store_and_the_stream_is_over() -> None:
    parent = Parent(0, 3)
    effects = parent.fetch(3)
    assert sent(effects) == [(1, 0), (1, 1)]
    spans = [effect.payload for effect in effects if isinstance(effect, SendChunk)]
    start = 3 * 256 * KIB
    assert spans == [
        StoredSpan(TASK, GENERATION, start, CHUNK),
        StoredSpan(TASK, GENERATION, start + CHUNK, 1),
    ]
    assert isinstance(effects[-1], Record)
    assert (effects[-1].name, effects[-1].fields["bytes"]) == ("stream.served", CHUNK + 1)
    assert parent.upload.active == 0


def test_only_the_chunks_that_were_asked_for_are_sent() -> None:
    assert sent(Parent(0).fetch(0, chunks=0b1010)) == [(1, 1), (1, 3)]


def test_chunks_are_passed_on_as_they_come_in_each_once() -> None:
    parent = Parent()
    parent.holding.gather(1, None)
    assert parent.fetch(1) == []
    effects = parent.prove(1, 2, "the very frame")
    assert sent(effects) == [(1, 2)]
    assert effects[0].payload == "the very frame"
    assert sent(parent.prove(1, 0)) == [(1, 0)]
    assert parent.done(parent.upload.chunk_proven(TASK, 1, 0, parent.now)) == []
    assert sent(parent.prove(1, 1)) == [(1, 1)]
    assert sent(parent.prove(1, 3)) == [(1, 3)]
    assert parent.upload.active == 0


def test_nothing_is_sent_beyond_the_credit() -> None:
    parent = Parent(0)
    assert sent(parent.fetch(0, credit=2 * CHUNK - 1)) == [(1, 0)]
    assert sent(parent.credit(1)) == [(1, 1)]
    assert sent(parent.credit(CHUNK - 1)) == []
    assert sent(parent.credit(1)) == [(1, 2)]
    # credit of another child's lease, or of none, moves nothing
    assert parent.credit(MIB, child=b"other") == []
    assert parent.credit(MIB, lease=9) == []


@pytest.mark.parametrize(
    "wrong", [{"task": b"x" * 16}, {"generation": b"x" * 8}, {"piece": 4}, {"piece": 2**24 - 1}], ids=str
)
def test_what_is_not_here_is_refused_at_once(wrong: dict[str, Any]) -> None:
    parent = Parent(0)
    effects = parent.fetch(**wrong)
    assert codes(effects) == ["not_held"]
    assert parent.upload.active == 0


def test_a_child_whose_lease_came_before_ours_has_a_little_patience() -> None:
    parent = Parent(0)
    assert parent.fetch(1) == []
    parent.wait(0.4)
    assert sent(parent.prove(1, 0)) == [(1, 0)]
    assert codes(parent.wait(0.2)) == []
    assert parent.fetch(2, lease=2) == []
    assert codes(parent.wait(0.6)) == ["not_held"]
    assert parent.upload.active == 1


def test_streams_take_turns() -> None:
    parent = Parent(0, 1, up_limit=MIB)
    parent.fetch(0, lease=1, credit=CHUNK, chunks=0b1)  # empties the bucket
    parent.fetch(0, lease=2)
    parent.fetch(1, lease=3)
    order = []
    while parent.upload.active:
        at = parent.upload.next_deadline()
        assert at is not None
        order += sent(parent.wait(at - parent.now))
    assert order == [(2, 0), (3, 0), (2, 1), (3, 1), (2, 2), (3, 2), (2, 3), (3, 3)]
    # eight chunks of a sixteenth of a second each, the first of which may go at once after a pause
    assert parent.now - 100.0 == pytest.approx(8 / 16, abs=0.11)


def test_a_fetch_again_replaces_the_stream() -> None:
    parent = Parent(0)
    parent.holding.gather(1, None)
    parent.fetch(1, lease=5)
    assert sent(parent.fetch(0, lease=5, chunks=0b11)) == [(5, 0), (5, 1)]
    assert parent.upload.active == 0
    assert sent(parent.prove(1, 0)) == []


def test_a_stop_ends_the_stream_without_an_answer() -> None:
    parent = Parent(0)
    parent.fetch(0, credit=CHUNK)
    assert codes(parent.stop()) == []
    assert parent.upload.active == 0
    assert parent.credit(MIB) == []


def test_a_childs_streams_and_all_streams_are_bounded() -> None:
    parent = Parent(0)
    refused = [codes(parent.fetch(0, lease=lease, credit=0)) for lease in range(rules.MOST_OF_A_CHILD + 1)]
    assert refused == [[]] * rules.MOST_OF_A_CHILD + [["busy"]]
    parent.upload.pressure("full")
    assert codes(parent.fetch(0, lease=1, child=b"other", credit=0)) == ["busy"]
    parent.upload.pressure("calm")
    assert codes(parent.fetch(0, lease=1, child=b"other", credit=0)) == []


def test_a_full_host_sends_slower_and_a_calm_one_as_before() -> None:
    parent = Parent(*range(3))
    parent.upload.pressure("full")
    first = sent(parent.fetch(0)) + sent(parent.fetch(1, lease=2))
    assert len(first) < 8
    parent.upload.pressure("calm")
    assert len(first) + len(sent(parent.wait(0.2))) == 8


def test_streams_of_what_was_dropped_or_changed_end() -> None:
    parent = Parent(0)
    parent.holding.gather(1, None)
    parent.fetch(0, lease=1, credit=CHUNK)
    parent.fetch(1, lease=2)
    del parent.holdings[TASK]
    assert codes(parent.done(parent.upload.task_changed(TASK, parent.now))) == ["not_held", "not_held"]


def test_a_stream_never_serves_a_generation_that_is_not_here_any_more() -> None:
    parent = Parent(0)
    parent.fetch(0, credit=CHUNK)
    parent.holdings[TASK] = Holding(TASK, Content(Generation(b"h" * 8), CUT), Request(url="http://source/x"))
    effects = parent.credit(MIB)
    assert (sent(effects), codes(effects)) == ([], ["not_held"])


def test_a_stream_of_a_growing_content_ends_where_the_content_ends() -> None:
    parent = Parent(cut=PieceMap(None, 256 * KIB, CHUNK))
    parent.holding.gather(0, None)
    parent.fetch(0, chunks=0b1111)
    parent.prove(0, 0)
    parent.holding.seal(CHUNK + 7)
    parent.holding.assemblies[0].add(1, "the last")
    effects = parent.done(parent.upload.task_changed(TASK, parent.now))
    assert sent(effects) == [(1, 1)]
    assert parent.upload.active == 0


def test_an_inbox_that_takes_nothing_more_ends_its_stream_and_the_connection_with_the_last() -> None:
    parent = Parent(0)
    parent.fetch(0, lease=1, credit=CHUNK)
    parent.fetch(0, lease=2, credit=CHUNK)
    effects = parent.done(parent.upload.unsent(LeaseId(1), parent.now))
    assert codes(effects) == ["busy"]
    assert not any(isinstance(effect, ForgetInbox) for effect in effects)
    effects = parent.done(parent.upload.unsent(LeaseId(2), parent.now))
    assert ForgetInbox("tcp://child:1") in effects
    assert parent.wait(120.0) == []


def test_a_connection_is_kept_for_a_minute_and_while_it_is_used() -> None:
    parent = Parent(0)
    parent.fetch(0)
    assert parent.wait(59.0) == []
    parent.fetch(0, lease=2)
    assert parent.wait(59.0) == []
    parent.fetch(0, lease=3, credit=CHUNK)
    assert parent.wait(50.0) == []
    parent.credit(1, lease=3)
    assert parent.wait(20.0) == []
    parent.stop(lease=3)
    assert parent.wait(61.0) == [ForgetInbox("tcp://child:1")]
    assert parent.upload.next_deadline() is None


def test_many_inboxes_are_not_all_kept() -> None:
    parent = Parent(0)
    forgotten = []
    for n in range(rules.MOST_IDLE_INBOXES + 3):
        parent.now += 0.001
        forgotten += [e.inbox for e in parent.fetch(0, inbox=f"tcp://x:{n}") if isinstance(e, ForgetInbox)]
    assert forgotten == ["tcp://x:0", "tcp://x:1", "tcp://x:2"]


def test_a_stream_nobody_moves_belongs_to_a_child_that_is_gone() -> None:
    parent = Parent(0)
    parent.fetch(0, credit=CHUNK)
    parent.wait(50.0)
    parent.credit(CHUNK)
    assert codes(parent.wait(20.0)) == []
    assert codes(parent.wait(60.0)) == ["going"]


def test_what_was_sent_is_measured() -> None:
    parent = Parent(*range(3))
    assert parent.upload.meter.rate(parent.now) == 0
    parent.fetch(0)
    assert parent.upload.meter.rate(parent.now) == 4 * CHUNK
