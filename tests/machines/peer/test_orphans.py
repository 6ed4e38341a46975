"""Reads whose broker is lost: how long they go on, for whom, and how fast."""

from __future__ import annotations

from support.reader import CHUNK, PIECE, Reader, a_content

from dfmq.machines import effects as want
from dfmq.machines.peer.readings import ORPHAN_SECONDS


def orphaned(*, limit: int = 0) -> Reader:
    """A read of which six chunks have come when the broker is lost."""
    reader = Reader(a_content(4 * PIECE))
    reader.limit, reader.is_wanted = limit, bool(limit)
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    reader.store()
    reader.feed(reader.fetching.forget_broker(reader.now))
    reader.effects.clear()
    return reader


def test_what_nobody_wants_is_read_on_for_a_while_and_then_given_up() -> None:
    reader = orphaned()
    reader.chunks(1)
    assert reader.wait() == ORPHAN_SECONDS
    assert not reader.fetching.reads(reader.task)
    assert reader.one(want.Record) == want.Record("source.quit", {"task": reader.task, "bytes": 7 * CHUNK})
    assert reader.fetching.next_deadline() is None
    reader.permit(2)
    assert reader.ask is not None
    assert reader.ask.offset == 7 * CHUNK, "what came is kept"


def test_a_permit_in_time_finds_it_still_going() -> None:
    reader = orphaned()
    reader.now += ORPHAN_SECONDS - 1
    reader.permit(2)
    assert not reader.take(want.AskSource)
    assert reader.fetching.next_deadline() is None
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert reader.source_bytes == len(reader.content)


def test_what_somebody_here_wants_is_read_to_its_end() -> None:
    reader = orphaned(limit=1000)
    for _ in range(3):
        assert reader.wait() == ORPHAN_SECONDS
    reader.body()
    reader.store()
    assert reader.holding.is_complete
    assert reader.fetching.next_deadline() is None


def test_its_limit_goes_with_the_last_who_wants_it_and_not_before_the_read() -> None:
    reader = orphaned(limit=1000)
    reader.is_wanted, reader.limit = False, 0
    assert reader.fetching.pace() == []
    reader.is_wanted = True
    (pace,) = reader.fetching.pace()
    assert isinstance(pace, want.PaceSource) and pace.rate == 0
    reader.is_wanted = False
    reader.wait()
    assert not reader.fetching.reads(reader.task)


def test_what_is_tried_again_for_nobody_is_given_up_too() -> None:
    reader = orphaned()
    reader.now += ORPHAN_SECONDS - 0.1
    reader.breaks()
    while reader.fetching.reads(reader.task):
        reader.wait()
        if reader.ask is not None and reader.now < ORPHAN_SECONDS:
            reader.breaks()
    assert reader.now <= ORPHAN_SECONDS
    assert reader.fetching.next_deadline() is None


def test_it_is_not_read_on_for_who_must_not_go_to_the_source_and_what_came_stays_in_use() -> None:
    reader = orphaned(limit=1000)
    reader.is_frugal = True
    assert reader.wait() == ORPHAN_SECONDS
    assert not reader.fetching.reads(reader.task)
    assert want.PinTask(reader.task, False) not in reader.effects
