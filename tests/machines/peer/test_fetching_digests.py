"""Reads of what a digest names, from a source that changes meanwhile: it is blamed for nothing it did not give."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from support.reader import CHUNK, ETAG, PIECE, Reader, a_content

from dfmq.machines import effects as want
from dfmq.model.task import Request
from dfmq.wire import messages as say

RIGHT, WRONG = a_content(4 * PIECE), a_content(4 * PIECE, seed=2)


def broken_off(before: bytes, etag: str) -> Reader:
    """A reader for RIGHT that has six chunks of what the source had before, and is about to ask again."""
    digest = hashlib.sha256(RIGHT).hexdigest()
    reader = Reader(before, request=Request(url="http://source/file", digest=f"sha256:{digest}"))
    reader.permit()
    reader.answer(etag=etag)
    reader.chunks(6)
    reader.store()
    reader.breaks()
    reader.wait()
    reader.content = RIGHT
    assert reader.ask is not None and reader.ask.offset == (6 * CHUNK if etag else 0)
    return reader


def prove(reader: Reader, content: bytes) -> None:
    """The store says what the whole is."""
    reader.one(want.ProveContent)
    reader.proved("sha256", hashlib.sha256(content).hexdigest())


def read_to_its_end(reader: Reader) -> None:
    """The rest comes, all of it is what the digest names, and nobody is blamed."""
    reader.body()
    reader.store()
    prove(reader, RIGHT)
    assert reader.take(say.SourceFailed) == []
    assert not reader.fetching.reads(reader.task)


def test_a_read_goes_on_under_the_name_of_the_version_also_where_a_digest_is_given() -> None:
    reader = broken_off(RIGHT, ETAG)
    assert reader.ask is not None and reader.ask.etag == ETAG
    reader.answer("partial")
    read_to_its_end(reader)
    assert reader.source_bytes == len(RIGHT)


@pytest.mark.parametrize("kinds", [["full"], ["partial", "full"]])
def test_what_has_another_name_now_is_compared_and_not_mixed(kinds: list[str]) -> None:
    """Also where it comes as a part, from a server that does not heed If-Range."""
    reader = broken_off(WRONG, ETAG)
    first = reader.one(say.Sourced).generation
    for kind in kinds:
        reader.answer(kind, etag='"two"')
    reader.chunks(1)
    reader.wait()
    reader.answer(etag='"two"')
    assert reader.one(say.Sourced).generation != first
    read_to_its_end(reader)


def test_the_same_octets_under_another_name_are_gone_on_with() -> None:
    """One of several servers behind a URL."""
    reader = broken_off(RIGHT, ETAG)
    reader.take(want.StoreChunk)
    reader.answer(etag='"two"')
    reader.chunks(6)
    assert reader.take(want.StoreChunk) == []
    reader.chunks(1)
    reader.breaks()
    reader.wait()
    assert reader.ask is not None and (reader.ask.offset, reader.ask.etag) == (7 * CHUNK, ETAG)
    reader.answer("partial")
    reader.body()
    reader.store()
    prove(reader, RIGHT)
    assert len(reader.take(say.Sourced)) == 1


@pytest.mark.parametrize("is_same", [True, False])
def test_without_a_name_it_is_read_from_its_beginning_and_compared(is_same: bool) -> None:
    reader = broken_off(RIGHT if is_same else WRONG, "")
    first = reader.one(say.Sourced).generation
    reader.answer(etag="")
    if not is_same:
        reader.chunks(1)
        reader.wait()
        reader.answer(etag="")
        assert reader.one(say.Sourced).generation != first
    read_to_its_end(reader)


def test_so_is_what_an_earlier_life_left() -> None:
    reader = broken_off(WRONG, "")
    reader.shelve()
    reader.start()
    reader.effects.clear()
    reader.permit(2)
    assert reader.ask is not None and reader.ask.offset == 0
    reader.answer(etag="")
    reader.chunks(1)
    reader.wait()
    reader.answer(etag="")
    read_to_its_end(reader)


def test_another_source_of_it_is_asked_for_what_is_missing() -> None:
    """It may call the same octets what it likes."""
    reader = broken_off(RIGHT, ETAG)
    reader.breaks()
    reader.shelve()
    reader.start()
    reader.effects.clear()
    request = msgspec.structs.replace(reader.request, url="http://mirror/file")
    reader.request = request
    reader.permit(2)
    assert reader.ask is not None
    assert (reader.ask.request.url, reader.ask.offset, reader.ask.etag) == (request.url, 6 * CHUNK, "")
    reader.answer("partial", etag='"two"')
    read_to_its_end(reader)


def test_whose_content_is_wrong_is_told_at_once() -> None:
    digest = hashlib.sha256(RIGHT).hexdigest()
    reader = Reader(WRONG, request=Request(url="http://source/file", digest=f"sha256:{digest}"))
    reader.permit()
    reader.answer()
    reader.body()
    reader.store()
    prove(reader, WRONG)
    assert [failed.code for failed in reader.take(say.SourceFailed)] == ["digest_mismatch"]
