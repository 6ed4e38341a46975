"""Permits served to the end, whatever the source and the disk do. Checks and second permits: test_fetching_checks."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from support.reader import CHUNK, ETAG, PIECE, Reader, a_content, digest_of

from dfmq.machines import effects as want
from dfmq.machines import events as told
from dfmq.model.pieces import MIB
from dfmq.model.task import Request, Shelved
from dfmq.wire import messages as say

DATE = "Mon, 23 Nov 2026 10:00:00 GMT"


def test_a_permit_leads_to_sourced_and_then_every_piece_proven_once_it_is_stored() -> None:
    reader = Reader(a_content(3 * PIECE + 1))
    effects = reader.permit(7)
    assert isinstance(effects[0], want.LoadTask)
    assert reader.ask is not None
    assert (reader.ask.offset, reader.ask.etag, reader.ask.unchanged_will_do) == (0, "", False)
    reader.answer(fresh=30.0)
    sourced = reader.one(say.Sourced)
    assert (sourced.permit, sourced.length, sourced.fresh_seconds) == (7, 3 * PIECE + 1, 30.0)
    assert (sourced.piece_length, sourced.chunk_length) == (PIECE, CHUNK)
    reader.body()
    assert reader.proven() == []
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    reader.one(want.FinishStore)
    assert not reader.fetching.reads(reader.task)
    assert reader.fetching.next_deadline() is None


@pytest.mark.parametrize("size", [0, 1, CHUNK, PIECE])
def test_content_of_any_size_is_read(size: int) -> None:
    reader = Reader(a_content(size))
    reader.permit()
    reader.answer()
    reader.body()
    reader.store()
    assert reader.one(say.Sourced).length == size
    assert reader.proven() == ([0] if size else [])
    assert reader.holding.is_open
    reader.one(want.FinishStore)
    assert not reader.fetching.reads(reader.task)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, MIB + 1, 4 * MIB, 8 * MIB - 1])
def test_a_growing_content_is_sealed_before_its_last_piece_is_told(size: int) -> None:
    reader = Reader(a_content(size))
    reader.permit()
    reader.answer(length=None)
    assert reader.one(say.Sourced).length is None
    while reader.position < size:
        reader.chunks()
        reader.store()
    whole_before = len(reader.take(say.Proven))
    reader.end()
    assert reader.one(say.Sealed).length == size
    assert reader.one(want.SealStore).length == size
    reader.store()
    assert whole_before + len(reader.take(say.Proven)) == reader.holding.cut.count
    assert reader.holding.is_complete
    assert not reader.fetching.reads(reader.task)


@pytest.mark.clause("TASK-4")
@pytest.mark.parametrize("check", [False, True])
def test_a_source_with_an_absurd_length_has_failed(check: bool) -> None:
    reader = Reader()
    reader.permit(check=check)
    reader.answer(length=2**62)
    failed = reader.one(say.SourceFailed)
    assert failed.code == "source_failed"
    assert "4611686018427387904 bytes are more than 65536 pieces" in failed.text
    assert not reader.take(want.OpenStore)
    reader.permit(2)
    reader.answer(length=0)
    assert reader.one(say.Sourced).length == 0


@pytest.mark.clause("TASK-4")
def test_a_growing_content_that_never_ends_has_failed() -> None:
    reader = Reader(a_content(MIB))
    reader.permit()
    reader.answer(length=None)
    assert reader.ask is not None
    beyond = told.SourceChunk(reader.ask.permit, 65_536, 0, MIB, b"d" * 16, b"")
    reader.feed(reader.fetching.chunk(beyond, reader.now))
    assert "goes on beyond 65536 pieces" in reader.one(say.SourceFailed).text
    assert not reader.fetching.reads(reader.task)


def test_a_growing_content_that_breaks_off_is_resumed_where_it_stood() -> None:
    reader = Reader(a_content(9 * MIB + 5))
    reader.permit()
    reader.answer(length=None)
    reader.chunks(20)
    reader.store()
    reader.breaks()
    reader.wait()
    assert reader.ask is not None
    # the twentieth chunk could have been the last: it was kept back and is read again
    assert reader.ask.offset == 19 * 256 * 1024
    reader.answer("partial", length=9 * MIB + 5)
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2]
    assert len(reader.take(say.Sourced)) == 1


def test_a_source_that_stalls_is_resumed_at_the_first_missing_chunk_on_its_condition() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer()
    reader.chunks(6)
    reader.store()
    assert reader.proven() == [0]
    reader.breaks(text="nothing for 10 s")
    assert 0.15 <= reader.wait() <= 0.25
    assert reader.ask is not None
    assert (reader.ask.offset, reader.ask.etag, reader.ask.unchanged_will_do) == (6 * CHUNK, ETAG, False)
    reader.answer("partial", length=None, etag="")
    reader.body()
    reader.store()
    assert reader.proven() == [1, 2, 3]
    assert len(reader.take(say.Sourced)) == 1
    assert reader.source_bytes == len(reader.content)


def test_full_answered_to_a_range_is_read_past_what_is_held() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer()
    reader.chunks(6)
    reader.store()
    reader.breaks()
    reader.wait()
    reader.answer("full")
    assert reader.read is not None
    assert (reader.read.offset, reader.read.skip) == (6 * CHUNK, 6 * CHUNK)
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert len(reader.take(say.Sourced)) == 1


@pytest.mark.parametrize("answers", [["full"], ["partial", "full"]])
def test_a_source_that_gives_no_part_is_not_asked_for_one_at_each_gap(answers: list[str]) -> None:
    """Its ranges are broken: the range comes wrong, or of something that is longer."""
    reader = Reader(a_content(12 * MIB))
    reader.fetch()
    for piece in (1, 47):
        reader.holding.held &= ~(1 << piece)
    reader.source_bytes = 0
    reader.permit(2)
    assert reader.ask is not None and reader.ask.offset == PIECE
    for kind in answers:
        reader.take(want.AskSource)
        reader.answer(kind, length=len(reader.content) + (7 if kind == "partial" else 0))
    assert reader.read is not None and (reader.read.offset, reader.read.skip) == (PIECE, PIECE)
    reader.body()
    reader.store()
    assert reader.take(want.AskSource) == [], "it was asked for the part, and then for the whole"
    assert reader.holding.is_complete
    assert reader.source_bytes == len(reader.content)


def test_changed_validators_midway_make_a_new_generation_from_zero() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer()
    reader.chunks(6)
    reader.store()
    first = reader.one(say.Sourced).generation
    reader.proven()
    reader.breaks()
    reader.wait()
    reader.content = a_content(3 * PIECE, seed=2)
    reader.answer("full", etag='"two"')
    second = reader.one(say.Sourced)
    assert (second.generation != first, second.length) == (True, 3 * PIECE)
    assert reader.read is not None
    assert (reader.read.offset, reader.read.skip) == (0, 0)
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2]


def test_a_part_of_something_else_is_not_taken() -> None:
    """A server that does not heed If-Range."""
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer()
    reader.chunks(6)
    reader.store()
    reader.breaks()
    reader.wait()
    reader.answer("partial", etag='"two"')
    assert reader.ask is not None
    assert (reader.ask.offset, reader.ask.etag) == (0, "")
    reader.content = a_content(4 * PIECE, seed=2)
    reader.answer("full", etag='"two"')
    reader.take(say.Proven)
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]


def test_the_same_validators_make_the_same_generation_in_every_process() -> None:
    one, other = Reader(a_content(PIECE)), Reader(a_content(PIECE))
    assert one.fetch() == other.fetch()
    assert one.fetch(2, etag='"two"') != other.fetch(2, etag='"three"')


def test_what_nothing_names_is_a_new_generation_each_time_and_not_asked_for_all_the_time() -> None:
    reader = Reader(a_content(PIECE))
    first = reader.fetch(1, etag="")
    reader.permit(2)
    reader.answer(etag="")
    sourced = reader.one(say.Sourced)
    assert sourced.generation != first
    assert sourced.fresh_seconds == 60.0


def test_what_nothing_names_is_read_from_zero_after_a_break_and_compared() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer(etag="")
    reader.chunks(6)
    reader.store()
    reader.breaks()
    reader.wait()
    assert reader.ask is not None
    assert reader.ask.offset == 0
    reader.answer(etag="")
    assert reader.read is not None
    assert (reader.read.offset, reader.read.skip) == (0, 0)
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert len(reader.take(say.Sourced)) == 1


def test_what_nothing_names_and_comes_different_is_a_new_generation() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer(etag="")
    reader.chunks(6)
    reader.store()
    reader.proven()
    reader.breaks()
    reader.wait()
    reader.content = reader.content[: 2 * CHUNK] + a_content(4 * PIECE - 2 * CHUNK, seed=2)
    reader.answer(etag="")
    reader.chunks(3)
    assert reader.ask is None
    reader.wait()
    first = reader.one(say.Sourced).generation
    reader.answer(etag="")
    assert reader.one(say.Sourced).generation != first
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]


def restarted(content: bytes, chunks: int, *, is_proven: bool = True) -> Reader:
    """A reader that was killed when so many chunks were on the disk; not proven: their digests were not."""
    reader = Reader(content)
    reader.permit()
    reader.answer()
    reader.chunks(chunks)
    reader.store()
    reader.shelve()
    if not is_proven:
        reader.disk[reader.task] = msgspec.structs.replace(reader.disk[reader.task], proofs={})
    reader.start()
    reader.effects.clear()
    reader.permit(2)
    return reader


def test_after_a_restart_a_piece_is_gone_on_with_at_the_chunk_where_it_stood() -> None:
    reader = restarted(a_content(3 * PIECE), 6)
    assert reader.ask is not None
    assert reader.ask.offset == PIECE + 2 * CHUNK
    reader.answer("partial")
    reader.body()
    assert sum(chunk.piece == 1 for chunk in reader.unstored) == 2
    reader.store()
    assert reader.proven() == [0, 1, 2]
    assert reader.source_bytes == 3 * PIECE, "no byte is read twice"
    assert not reader.fetching.reads(reader.task)


def test_chunks_that_were_left_over_are_compared_when_the_source_gives_them_again() -> None:
    reader = restarted(a_content(3 * PIECE), 6)
    reader.answer("full")
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2]
    reader = restarted(a_content(3 * PIECE), 5)
    reader.holding.forget_leftover(1)
    reader.holding.merge(0, {1: 0b1010}, {1: b"another content " * 4})
    reader.answer("partial")
    reader.chunks(1)
    assert not reader.take(want.DropSource)
    reader.chunks(1)
    assert reader.take(want.DropSource), "what it gives now is not what stands there"


def test_chunks_left_over_of_which_a_digest_is_unknown_are_read_again() -> None:
    reader = restarted(a_content(3 * PIECE), 6, is_proven=False)
    reader.answer("full")
    reader.body()
    assert sum(chunk.piece == 1 for chunk in reader.unstored) == 4
    reader.store()
    assert reader.proven() == [0, 1, 2]


@pytest.mark.parametrize("chunks", [2, 5])
def test_of_a_growing_content_a_piece_is_begun_anew_for_any_chunk_may_be_its_last(chunks: int) -> None:
    reader = Reader(a_content(chunks * MIB // 4))
    reader.permit()
    reader.answer(length=None)
    reader.chunks(chunks)
    reader.store()
    reader.shelve()
    assert reader.disk[reader.task].partial == {0: (1 << chunks - 1) - 1}
    reader.start()
    reader.effects.clear()
    reader.permit(2)
    assert reader.ask is not None
    assert reader.ask.offset == 0
    reader.answer(length=None)
    reader.body()
    reader.store()
    assert reader.one(say.Sealed).length == len(reader.content)
    assert reader.proven() == [0]


def test_other_bytes_under_the_same_validators_are_never_mixed_with_those_before() -> None:
    reader = Reader(a_content(4 * PIECE))
    first = reader.fetch()
    del reader.holding.proofs[1]
    reader.holding.held &= ~0b1000
    reader.content = a_content(4 * PIECE, seed=2)
    reader.permit(2)
    assert reader.ask is not None
    assert reader.ask.offset == PIECE
    reader.answer("partial")
    reader.take(say.Sourced)
    assert reader.take(say.Proven)
    reader.chunks(4)
    # piece 2 is held, and what comes for it now is something else
    reader.chunks(1)
    reader.wait()
    reader.take(say.Proven)
    reader.answer()
    assert reader.one(say.Sourced).generation != first
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]


def test_a_refusal_is_told_once_and_not_tried_again() -> None:
    reader = Reader()
    reader.permit(4)
    reader.breaks("source_refused", permanent=True, text="404 Not Found")
    failed = reader.one(say.SourceFailed)
    assert (failed.permit, failed.code, failed.text) == (4, "source_refused", "404 Not Found")
    assert reader.fetching.next_deadline() is None
    assert not reader.fetching.reads(reader.task)
    assert reader.feed(reader.fetching.quit(say.Quit(permit=4, task=reader.task), reader.now)) == []


def test_tries_without_a_byte_are_counted_with_growing_pauses_and_then_the_source_has_failed() -> None:
    reader = Reader(retries=4)
    reader.permit()
    waits = []
    while not reader.take(say.SourceFailed):
        reader.breaks()
        if reader.fetching.next_deadline() is not None:
            waits.append(reader.wait())
    assert len(waits) == 3
    for wait, wanted in zip(waits, (0.2, 0.4, 0.8), strict=True):
        assert 0.75 * wanted <= wait <= 1.25 * wanted
    assert reader.ask is None


def test_a_try_that_brought_something_starts_the_count_again() -> None:
    reader = Reader(a_content(4 * PIECE), retries=2)
    reader.permit()
    reader.answer()
    for _ in range(8):
        reader.chunks()
        reader.breaks()
        reader.wait()
        reader.answer("partial")
    reader.body()
    reader.store()
    assert reader.proven() == [0, 1, 2, 3]
    assert reader.take(say.SourceFailed) == []


def test_a_source_that_wants_a_pause_gets_it_and_one_that_wants_a_long_one_has_failed() -> None:
    reader = Reader()
    reader.permit()
    reader.breaks(retry_after=7.0)
    assert reader.wait() == 7.0
    reader.breaks(retry_after=3600.0)
    assert reader.one(say.SourceFailed).retry_after == 3600.0


@pytest.mark.parametrize("when", ["opening", "reading", "storing"])
def test_a_full_disk_fails_the_permit_once(when: str) -> None:
    reader = Reader(a_content(2 * PIECE))
    reader.permit()
    if when == "opening":
        reader.open = list  # type: ignore[method-assign]
    reader.answer()
    if when != "opening":
        reader.chunks(8)
    if when == "storing":
        reader.end()
    reader.feed(reader.fetching.store_failed(told.StoreFailed(reader.task, "no_space", "3 GiB are missing"), 0.0))
    failed = reader.one(say.SourceFailed)
    assert (failed.code, failed.text) == ("no_space", "3 GiB are missing")
    assert (reader.ask is None, reader.fetching.reads(reader.task)) == (True, False)
    assert reader.holding.assemblies == {}


def test_a_digest_in_the_request_is_proven_over_the_whole_content_at_the_end() -> None:
    content = a_content(2 * PIECE)
    wanted = hashlib.sha256(content).hexdigest()
    reader = Reader(content, request=Request(url="http://source/file", digest=f"sha256:{wanted}"))
    reader.permit()
    reader.answer()
    reader.body()
    assert reader.take(want.ProveContent) == []
    reader.store()
    assert reader.one(want.ProveContent).algorithm == "sha256"
    assert reader.fetching.reads(reader.task)
    reader.proved("sha256", wanted)
    assert not reader.fetching.reads(reader.task)
    assert reader.take(say.SourceFailed) == []


def test_content_that_is_not_what_its_digest_names_is_dropped_and_both_digests_are_told() -> None:
    reader = Reader(a_content(2 * PIECE), request=Request(url="http://source/file", digest="md5:" + "0" * 32))
    reader.permit()
    reader.answer()
    reader.body()
    reader.store()
    reader.proved("md5", "f" * 32)
    failed = reader.one(say.SourceFailed)
    assert failed.code == "digest_mismatch"
    assert "0" * 32 in failed.text
    assert "f" * 32 in failed.text
    reader.one(want.DropTask)
    assert reader.task not in reader.holdings


def test_a_digest_pins_the_content_so_another_mirror_may_go_on_with_it() -> None:
    content = a_content(4 * PIECE)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    reader = Reader(content, request=Request(url="http://source/file", digest=digest))
    reader.permit(1)
    reader.answer(etag='"here"')
    reader.chunks(6)
    reader.store()
    reader.breaks("source_refused", permanent=True)
    reader.permit(2, request=Request(url="http://mirror/file", digest=digest))
    assert reader.ask is not None
    assert (reader.ask.offset, reader.ask.etag) == (6 * CHUNK, "")
    reader.take(say.Sourced)
    reader.take(say.Proven)
    reader.answer("partial", etag='"there"')
    reader.body()
    reader.store()
    assert reader.holding.is_complete
    assert reader.source_bytes == len(content)


def test_a_later_process_asks_whether_all_it_holds_is_still_right_and_proves_it_without_reading() -> None:
    reader = Reader(a_content(4 * PIECE))
    generation = reader.fetch()
    reader.shelve()
    reader.start()
    reader.source_bytes = 0
    reader.permit(1)
    assert reader.ask is not None
    assert (reader.ask.offset, reader.ask.etag, reader.ask.unchanged_will_do) == (0, ETAG, True)
    reader.answer("unchanged", length=None)
    assert reader.one(say.Sourced).generation == generation
    assert reader.proven() == [0, 1, 2, 3]
    assert (reader.source_bytes, reader.fetching.reads(reader.task)) == (0, False)


def test_a_later_process_reads_only_what_is_missing() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer()
    reader.chunks(9)
    reader.store()
    reader.shelve()
    reader.start()
    reader.effects.clear()
    reader.source_bytes = 0
    reader.permit(1)
    assert reader.ask is not None
    assert reader.ask.offset == 2 * PIECE + CHUNK
    reader.answer("partial")
    assert reader.proven() == [0, 1]
    reader.body()
    reader.store()
    assert reader.proven() == [2, 3]
    assert reader.source_bytes == 2 * PIECE - CHUNK


def test_a_held_piece_whose_digests_nobody_knows_is_read_again_and_not_written() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.fetch()
    reader.shelve()
    shelved = reader.disk[reader.task]
    proofs = {piece: joined for piece, joined in shelved.proofs.items() if piece != 2}
    reader.disk[reader.task] = Shelved(shelved.content, shelved.held, {}, proofs, shelved.request, shelved.etag)
    reader.start()
    reader.source_bytes = 0
    reader.permit(1)
    assert reader.ask is not None
    assert reader.ask.offset == 2 * PIECE
    reader.answer("partial")
    reader.take(want.StoreChunk)
    reader.chunks(4)
    assert reader.take(want.StoreChunk) == []
    assert reader.proven() == [0, 1, 3, 2]
    # and what is left of the body is not wanted
    assert (reader.ask, reader.source_bytes) == (None, PIECE)
    assert not reader.fetching.reads(reader.task)


def test_a_long_stretch_that_is_held_is_not_read_again_and_a_short_one_is_read_past() -> None:
    reader = Reader(a_content(12 * MIB))
    reader.fetch()
    missing = [0, 2, 47]
    for piece in missing:
        reader.holding.held &= ~(1 << piece)
    reader.source_bytes = 0
    reader.permit(2)
    reader.answer("full")
    reader.chunks(4 * 3)
    # from piece 3 to piece 46 there are 11 MiB: a new request is cheaper
    assert reader.ask is not None
    assert reader.ask.offset == 47 * PIECE
    reader.answer("partial")
    reader.body()
    reader.store()
    assert reader.holding.is_complete
    assert reader.source_bytes == 4 * PIECE


def test_a_permit_nobody_wants_any_more_closes_the_connection_and_the_next_goes_on_from_there() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    effects = reader.feed(reader.fetching.quit(say.Quit(permit=1, task=reader.task), 0.0))
    assert effects[0] == want.Record("source.quit", {"task": reader.task, "bytes": 6 * CHUNK})
    assert [type(effect) for effect in effects[1:]] == [want.DropSource, want.PinTask]
    assert effects[-1] == want.PinTask(reader.task, False), "what it wrote to need not stay open, and may go"
    reader.store()
    reader.proven()
    assert not reader.fetching.reads(reader.task)
    reader.permit(2)
    assert reader.ask is not None
    assert reader.ask.offset == 6 * CHUNK
    reader.answer("partial")
    reader.body()
    reader.store()
    assert reader.source_bytes == len(reader.content)
    assert reader.proven() == [0, 1, 2, 3]


def test_content_dropped_while_it_is_read_is_read_anew() -> None:
    reader = Reader(a_content(4 * PIECE))
    reader.permit(1)
    reader.answer()
    reader.chunks(6)
    del reader.holdings[reader.task]
    reader.feed(reader.fetching.task_changed(reader.task, 0.0))
    reader.unstored.clear()
    reader.load()
    reader.answer()
    reader.body()
    reader.store()
    assert [sourced.permit for sourced in reader.take(say.Sourced)] == [1, 1]
    assert reader.proven() == [0, 1, 2, 3]


def test_what_an_older_question_still_says_is_not_heard() -> None:
    reader = Reader(a_content(2 * PIECE))
    reader.permit(1)
    first = reader.ask
    assert first is not None
    reader.feed(reader.fetching.quit(say.Quit(permit=1, task=reader.task), 0.0))
    reader.permit(2)
    late = told.SourceAnswered(first.permit, "full", 0, 5, "", "", None, True)
    effects = reader.feed(reader.fetching.answered(late, 0.0))
    assert effects == [want.DropSource(first.permit)]
    assert reader.feed(reader.fetching.broke(told.SourceBroke(first.permit, "x", "", True, 0.0), 0.0)) == []
    assert reader.take(say.Sourced) == []


def test_bytes_of_a_source_are_told_once_whether_its_body_ended_or_broke() -> None:
    """And none of a source that only said that nothing has changed."""
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer()
    reader.chunks(6)
    reader.store()
    reader.breaks()
    reader.wait()
    reader.answer("partial", length=None)
    reader.body()
    reader.store()
    told = {record.name: record.fields for record in reader.take(want.Record)}
    assert told["source.broke"]["bytes"] == 6 * CHUNK
    assert told["source.ended"]["bytes"] == 4 * PIECE - 6 * CHUNK
    reader.permit(2)
    reader.answer("unchanged")
    assert [r.fields["bytes"] for r in reader.take(want.Record) if r.name == "source.ended"] == [0]


WEAK: dict[str, dict[str, Any]] = {
    "a weak ETag": {"etag": 'W/"one"'},
    "a young date": {"etag": "", "last_modified": DATE},
    "a weak ETag beside an old date": {"etag": 'W/"one"', "last_modified": DATE, "strong_date": True},
}


@pytest.mark.parametrize("named", WEAK.values(), ids=WEAK)
@pytest.mark.parametrize("has_changed", [False, True])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_parts_are_not_put_together_under_a_weak_name(
    has_changed: bool, is_restarted: bool, named: dict[str, Any]
) -> None:
    """A weak ETag says "as good as the same", not the same octets (RFC 9110, section 15.3.7.3); and within the second a
    date names, content can change again (section 8.8.2.2)."""
    content, other = a_content(4 * PIECE), a_content(4 * PIECE, seed=2)
    reader = Reader(content)
    reader.permit()
    reader.answer(**named)
    reader.chunks(6)
    reader.store()
    if is_restarted:
        reader.shelve()
        reader.start()
        reader.permit()
    else:
        reader.breaks()
        reader.wait()
    assert reader.ask is not None and reader.ask.offset == 0, "a part of it cannot be asked for"
    reader.content = other if has_changed else content
    # By now the date is old, which says nothing of what was read when it was young.
    later = {**named, "strong_date": "last_modified" in named}
    reader.answer(**later)
    if has_changed:
        reader.chunks(1)
        reader.wait()
        reader.answer(**later)
    reader.body()
    reader.store()
    assert reader.holding.is_complete
    proofs = b"".join(reader.holding.proofs[piece] for piece in range(4))
    assert proofs == b"".join(digest_of(reader.content[i : i + CHUNK]) for i in range(0, 4 * PIECE, CHUNK))


def test_an_old_date_names_the_octets_in_every_process_and_after_a_restart() -> None:
    old = {"etag": "", "last_modified": DATE, "strong_date": True}
    one, other = Reader(a_content(4 * PIECE)), Reader(a_content(4 * PIECE))
    assert one.fetch(**old) == other.fetch(**old)
    reader = Reader(a_content(4 * PIECE))
    reader.permit()
    reader.answer(**old)
    reader.chunks(6)
    reader.store()
    reader.shelve()
    reader.start()
    reader.permit(2)
    assert reader.ask is not None
    assert (reader.ask.offset, reader.ask.last_modified) == (6 * CHUNK, DATE)


def test_a_young_date_names_nothing_that_another_process_would_know_again() -> None:
    """What it read may be what stood there before, within the same second."""
    young = {"etag": "", "last_modified": DATE}
    one, other, later = Reader(a_content(PIECE)), Reader(a_content(PIECE)), Reader(a_content(PIECE))
    other.start()  # other dice
    names = {one.fetch(**young), other.fetch(**young), later.fetch(**young, strong_date=True)}
    assert len(names) == 3


@pytest.mark.parametrize("kind", ["unchanged", "full"])
@pytest.mark.parametrize("strong_date", [False, True])
def test_content_under_a_young_date_is_not_read_again_while_that_date_stands(kind: str, strong_date: bool) -> None:
    reader = Reader(a_content(4 * PIECE))
    generation = reader.fetch(etag="", last_modified=DATE)
    reader.source_bytes = 0
    reader.permit(2, check=True, generation=generation)
    assert reader.ask is not None
    assert (reader.ask.last_modified, reader.ask.unchanged_will_do) == (DATE, True)
    reader.answer(kind, etag="", last_modified=DATE, strong_date=strong_date)
    assert reader.one(say.Sourced).generation == generation
    assert reader.source_bytes == 0
    assert not reader.holding.is_pinned
