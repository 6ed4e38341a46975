"""What every source promises, whatever its scheme; also held against the fake other tests use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.sources import FaultySource, MemorySources

from dfmq.edges.source.reply import SourceReply
from dfmq.edges.source.sources import Sources
from dfmq.errors import SourceError, SourceRefused
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request

CONTENT = os.urandom(3_000_001)


@dataclass
class Port:
    """One implementation, and how a test lays content behind it."""

    sources: Sources | MemorySources
    put: Callable[[bytes], None]
    request: Request
    missing: Request


@pytest.fixture(params=["http", "https", "file", "memory"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Port]:
    if request.param == "memory":
        memory = MemorySources()
        url = "http://memory/x"
        yield Port(memory, lambda data: memory.contents.update({url: data}), _request(url), _request(url + "no"))
        return
    sources = Sources(SourceSettings())
    if request.param == "file":
        path = tmp_path / "con tent"
        yield Port(sources, _file_writer(path), _request(path.as_uri()), _request((tmp_path / "no").as_uri()))
    else:
        with FaultySource(tls=request.param == "https") as server:
            trusted = Request(url=server.url("/x"), cacert=server.cacert)
            missing = Request(url=server.url("/no"), cacert=server.cacert)
            yield Port(sources, lambda data: server.put("/x", data) and None, trusted, missing)
            await sources.close()
    await sources.close()


def _request(url: str) -> Request:
    return Request(url=url)


def _file_writer(path: Path) -> Callable[[bytes], None]:
    ages: Iterator[int] = iter(range(1, 10))

    def write(data: bytes) -> None:
        path.write_bytes(data)
        os.utime(path, ns=(0, 10**9 * next(ages)))

    return write


async def _read(reply: SourceReply) -> bytes:
    blocks = [block async for block in reply.body()]
    assert all(blocks), "an empty block"
    await reply.close()
    return b"".join(blocks)


@pytest.mark.parametrize("size", [0, 1, 3_000_001])
async def test_the_whole_content_comes_with_its_length_and_a_validator(port: Port, size: int) -> None:
    port.put(CONTENT[:size])
    reply = await port.sources.ask(port.request)
    assert (reply.kind, reply.offset, reply.length) == ("full", 0, size)
    assert reply.etag.startswith('"') and reply.ranges
    assert await _read(reply) == CONTENT[:size]


async def test_a_read_goes_on_where_it_stopped(port: Port) -> None:
    port.put(CONTENT)
    first = await port.sources.ask(port.request)
    await first.close()
    reply = await port.sources.ask(port.request, 1_234_567, first.etag, first.last_modified)
    assert (reply.kind, reply.offset, reply.length) == ("partial", 1_234_567, len(CONTENT))
    assert reply.etag == first.etag
    assert await _read(reply) == CONTENT[1_234_567:]


async def test_nothing_is_missing_at_the_very_end(port: Port) -> None:
    port.put(CONTENT)
    first = await port.sources.ask(port.request)
    await first.close()
    reply = await port.sources.ask(port.request, len(CONTENT), first.etag, first.last_modified)
    assert (reply.kind, reply.offset, reply.length) == ("partial", len(CONTENT), len(CONTENT))
    assert await _read(reply) == b""


async def test_changed_content_comes_whole_and_under_another_validator(port: Port) -> None:
    port.put(CONTENT)
    first = await port.sources.ask(port.request)
    await first.close()
    port.put(CONTENT[::-1])
    reply = await port.sources.ask(port.request, 1000, first.etag, "")
    assert (reply.kind, reply.offset) == ("full", 0)
    assert reply.etag != first.etag
    assert await _read(reply) == CONTENT[::-1]


async def test_content_that_shrank_below_the_offset_comes_whole(port: Port) -> None:
    port.put(b"short")
    reply = await port.sources.ask(port.request, 1000)
    assert (reply.kind, reply.offset, reply.length) == ("full", 0, 5)
    assert await _read(reply) == b"short"


async def test_unchanged_content_is_not_sent_again(port: Port) -> None:
    port.put(CONTENT)
    first = await port.sources.ask(port.request)
    await first.close()
    reply = await port.sources.ask(port.request, 0, first.etag, first.last_modified, True)
    assert (reply.kind, reply.etag) == ("unchanged", first.etag)
    assert await _read(reply) == b""
    port.put(b"other")
    reply = await port.sources.ask(port.request, 0, first.etag, first.last_modified, True)
    assert reply.kind == "full"
    assert await _read(reply) == b"other"


async def test_unchanged_will_not_do_without_a_validator(port: Port) -> None:
    port.put(b"content")
    reply = await port.sources.ask(port.request, unchanged_will_do=True)
    assert reply.kind == "full"
    assert await _read(reply) == b"content"


async def test_what_is_not_there_is_refused_for_good(port: Port) -> None:
    with pytest.raises(SourceRefused) as refused:
        await port.sources.ask(port.missing)
    assert refused.value.permanent


async def test_a_reply_can_be_closed_in_the_middle_and_twice(port: Port) -> None:
    port.put(CONTENT)
    reply = await port.sources.ask(port.request)
    async for block in reply.body():
        assert CONTENT.startswith(block)
        break
    await reply.close()
    await reply.close()
    again = await port.sources.ask(port.request)
    assert await _read(again) == CONTENT


async def test_a_request_that_is_none_is_a_source_error() -> None:
    sources = Sources(SourceSettings())
    with pytest.raises(SourceError) as caught:
        await sources.ask(Request(url="http://host/x", headers=(("Range", "bytes=0-1"),)))
    assert caught.value.permanent


def test_asking_files_never_imports_aiohttp() -> None:
    script = (
        "import asyncio, sys; from dfmq.edges.source.sources import Sources; from dfmq.model.settings import *;"
        "from dfmq.model.task import Request;"
        f"asyncio.run(Sources(SourceSettings()).ask(Request(url={Path(__file__).as_uri()!r})));"
        "print([m for m in sys.modules if m.split('.')[0] == 'aiohttp'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
