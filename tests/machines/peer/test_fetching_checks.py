"""Checks, second requesters and broker restarts: permits that must not make anything be read twice."""

from __future__ import annotations

import pytest
from support.reader import CHUNK, ETAG, PIECE, Reader, a_content

from dfmq.machines import effects as want
from dfmq.model.task import Request
from dfmq.wire import messages as say

OTHER = Request(url="http://source/file", headers=(("Authorization", "Bearer other"),))


@pytest.fixture
def reader() -> Reader:
    """One that has read four pieces."""
    reader = Reader(a_content(4 * PIECE))
    reader.fetch()
    reader.source_bytes = 0
    return reader


@pytest.mark.parametrize("kind", ["unchanged", "full"])
def test_a_check_of_unchanged_content_is_answered_with_sourced_and_nothing_is_read(reader: Reader, kind: str) -> None:
    generation = reader.holding.content.generation
    reader.permit(2, check=True, generation=generation)
    assert reader.ask is not None
    assert (reader.ask.etag, reader.ask.unchanged_will_do) == (ETAG, True)
    reader.answer(kind, fresh=12.0)
    sourced = reader.one(say.Sourced)
    assert (sourced.permit, sourced.generation, sourced.fresh_seconds) == (2, generation, 12.0)
    # this broker was told of the pieces when they were read
    assert reader.proven() == []
    assert (reader.source_bytes, reader.ask) == (0, None)
    assert reader.feed(reader.fetching.quit(say.Quit(permit=2, task=reader.task), 0.0)) == []


def test_a_check_tells_another_broker_what_is_held(reader: Reader) -> None:
    reader.feed(reader.fetching.forget_broker(0.0))
    reader.permit(1, check=True, generation=reader.holding.content.generation)
    reader.answer("unchanged")
    assert reader.one(say.Sourced).permit == 1
    assert reader.proven() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["unchanged", "full"])
def test_a_check_finds_news_for_the_broker_even_if_all_of_it_is_here(reader: Reader, kind: str) -> None:
    """The source is back at an earlier version, which the broker has forgotten: all of it is told anew."""
    generation = reader.holding.content.generation
    reader.permit(2, check=True, generation=b"in betw.")
    reader.answer(kind)
    sourced = reader.one(say.Sourced)
    assert (sourced.permit, sourced.generation) == (2, generation)
    assert reader.proven() == [0, 1, 2, 3]
    assert (reader.source_bytes, reader.ask) == (0, None)
    assert not reader.fetching.reads(reader.task)


def test_a_check_of_another_content_than_is_read_for_nobody_any_more_is_served_from_the_read() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    reader.store()
    reader.feed(reader.fetching.forget_broker(0.0))
    read, ask, position = reader.read, reader.ask, reader.position
    reader.ask = None
    reader.effects.clear()
    reader.permit(1, check=True, generation=b"in betw.", request=OTHER)
    reader.answer("full")
    assert reader.one(say.Sourced).permit == 1
    reader.read, reader.ask, reader.position = read, ask, position
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert reader.source_bytes == len(reader.content)


def test_a_check_of_changed_content_reads_the_body_that_is_at_hand(reader: Reader) -> None:
    generation = reader.holding.content.generation
    reader.permit(2, check=True, generation=generation)
    reader.content = a_content(3 * PIECE, seed=2)
    number = reader.ask.permit if reader.ask else None
    reader.answer("full", etag='"two"')
    assert reader.one(say.Sourced).generation != generation
    assert reader.one(want.ReadSource).permit == number
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2]


def test_a_check_by_a_seed_that_holds_nothing_knows_the_generation_by_its_name(reader: Reader) -> None:
    generation = reader.holding.content.generation
    reader.start()
    reader.permit(3, check=True, generation=generation)
    reader.answer("full")
    assert reader.one(say.Sourced).generation == generation
    assert (reader.ask, reader.source_bytes) == (None, 0)
    assert not reader.fetching.reads(reader.task)


def test_a_check_that_is_refused_is_told_and_tried_again_only_if_that_is_of_use(reader: Reader) -> None:
    reader.permit(2, check=True, request=OTHER)
    reader.breaks(text="nobody answers")
    reader.wait()
    reader.breaks("not_authorised", permanent=True)
    failed = reader.one(say.SourceFailed)
    assert (failed.permit, failed.code) == (2, "not_authorised")
    assert reader.holding.is_complete


def test_anothers_credentials_are_checked_without_disturbing_the_read_under_way() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    read, ask, position = reader.read, reader.ask, reader.position
    reader.ask = None
    reader.permit(2, check=True, request=OTHER)
    assert reader.ask is not None
    assert reader.ask.request == OTHER
    # the source changed meanwhile: what is being read is what there is
    reader.take(say.Sourced)
    reader.answer("full", etag='"two"')
    sourced = reader.one(say.Sourced)
    assert (sourced.permit, sourced.fresh_seconds) == (2, 0.0)
    assert sourced.generation == reader.holding.content.generation
    reader.permit(3, check=True, request=OTHER)
    reader.breaks("not_authorised", permanent=True)
    assert reader.one(say.SourceFailed).permit == 3
    reader.read, reader.ask, reader.position = read, ask, position
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert reader.source_bytes == len(reader.content)


def test_a_check_waits_until_a_read_has_found_out_what_the_content_is() -> None:
    reader = Reader(a_content(PIECE))
    reader.permit(1)
    reader.permit(2, check=True, request=OTHER)
    assert len(reader.take(want.AskSource)) == 1
    first = reader.ask
    reader.ask = None
    reader.answer(ask=first)
    assert reader.take(want.AskSource)[0].request == OTHER
    reader.answer("full")
    assert [sourced.permit for sourced in reader.take(say.Sourced)] == [1, 2]


def test_a_check_goes_its_own_way_when_the_read_it_waited_for_fails() -> None:
    reader = Reader(a_content(PIECE))
    reader.permit(1)
    reader.permit(2, check=True, request=OTHER)
    reader.breaks("not_authorised", permanent=True)
    assert reader.one(say.SourceFailed).permit == 1
    reader.load()
    reader.answer()
    reader.body()
    reader.store()
    assert reader.one(say.Sourced).permit == 2
    assert reader.proven() == [0]


def test_a_read_goes_on_while_the_broker_is_away_and_the_next_permit_is_served_from_it() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    reader.store()
    reader.effects.clear()
    assert reader.feed(reader.fetching.forget_broker(0.0)) == []
    reader.chunks(4)
    reader.store()
    # nobody is there to be told
    assert [type(effect) for effect in reader.effects] == [want.StoreChunk] * 4
    # the new broker counts from 1 again
    reader.permit(1)
    assert reader.one(say.Sourced).permit == 1
    assert reader.proven() == [0, 1]
    reader.body()
    reader.store()
    assert reader.proven() == [2, 3]
    assert reader.source_bytes == len(reader.content)


def test_after_the_broker_is_back_another_requester_is_checked_before_it_is_served_from_the_read() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    reader.feed(reader.fetching.forget_broker(0.0))
    reader.take(say.Sourced)
    read, ask, position = reader.read, reader.ask, reader.position
    reader.ask = None
    reader.permit(1, request=OTHER)
    assert reader.take(say.Sourced) == []
    reader.answer("full")
    assert reader.one(say.Sourced).permit == 1
    reader.read, reader.ask, reader.position = read, ask, position
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert reader.source_bytes == len(reader.content)


def test_two_permits_for_one_task_make_one_read_and_fail_together() -> None:
    reader = Reader(a_content(4 * PIECE), retries=1)
    reader.permit(1)
    reader.answer()
    reader.permit(2)
    assert [sourced.permit for sourced in reader.take(say.Sourced)] == [1, 2]
    reader.chunks(1)
    reader.feed(reader.fetching.quit(say.Quit(permit=1, task=reader.task), 0.0))
    assert reader.read is not None
    assert reader.position == CHUNK
    reader.breaks()
    for _ in range(2):
        assert reader.take(say.SourceFailed) == []
        reader.wait()
        reader.breaks()
    assert [failed.permit for failed in reader.take(say.SourceFailed)] == [2]


def test_a_fetch_of_what_is_held_and_unchanged_is_told_anew_each_time(reader: Reader) -> None:
    """The broker may have forgotten the task."""
    for permit in (2, 3):
        reader.permit(permit)
        reader.answer("unchanged")
        assert reader.one(say.Sourced).permit == permit
        assert reader.proven() == [0, 1, 2, 3]
    assert reader.source_bytes == 0
