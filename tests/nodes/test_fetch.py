"""How fast a body is read. A loop that never waits: its clock goes to the next timer when there is nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dfmq.edges.source.reply import Head, SourceReply
from dfmq.edges.source.sources import Sources
from dfmq.errors import SourceError
from dfmq.machines.effects import AskSource, DropSource, PaceSource, ReadSource
from dfmq.machines.events import SourceAnswered, SourceChunk, SourceEnded
from dfmq.model.ids import Generation, PermitId, TaskId
from dfmq.model.pieces import KIB, MIB, cut
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request
from dfmq.nodes.fetch import Fetches

TASK = TaskId(b"t" * 16)
SIZE = 4 * MIB


class HurriedLoop(asyncio.SelectorEventLoop):
    """Its time is not that of the world."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0].when())
        super()._run_once()


class Reply(SourceReply):
    def __init__(self, block: int) -> None:
        super().__init__(Head(kind="full", offset=0, length=SIZE, etag="", ranges=False))
        self.block = block

    async def body(self) -> AsyncIterator[bytes]:
        for _ in range(SIZE // self.block):
            yield bytes(self.block)

    async def close(self) -> None:
        pass


class Plenty(Sources):
    """A source that gives as fast as it is read."""

    def __init__(self, block: int) -> None:
        super().__init__(SourceSettings())
        self.block = block

    async def ask(self, *_: Any) -> SourceReply:
        return Reply(self.block)


class Reads:
    """Fetches, and when what came."""

    def __init__(self, loop: HurriedLoop, block: int, down_limit: int) -> None:
        self.loop = loop
        self.came: list[tuple[float, int, int]] = []
        self.ended: dict[int, float] = {}
        self.ends = asyncio.Semaphore(0)
        self.fetches = Fetches(Plenty(block), lambda _: b"", lambda: 0, self.hear, down_limit)

    def hear(self, event: Any) -> None:
        if isinstance(event, SourceChunk):
            self.came.append((self.loop.time(), event.permit, event.length))
        elif isinstance(event, SourceEnded):
            self.ended[event.permit] = self.loop.time()
            self.ends.release()
        else:
            assert isinstance(event, SourceAnswered)

    async def begin(self, number: int, rate: int) -> None:
        permit = PermitId(number)
        self.fetches.ask(AskSource(permit, Request(url="http://x/"), 0, "", "", False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.fetches.read(ReadSource(permit, TASK, Generation(b"g" * 8), cut(SIZE), 0, 0, MIB, rate))

    async def until_ended(self, count: int) -> None:
        for _ in range(count):
            await self.ends.acquire()

    def fastest(self, seconds: float) -> int:
        """The most bytes that came within so many seconds."""
        return max(sum(n for at, _, n in self.came if start <= at < start + seconds) for start, _, _ in self.came)


def run(story: Any, block: int = 256 * KIB, down_limit: int = 0) -> Reads:
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, HurriedLoop)
        reads = Reads(loop, block, down_limit)

        async def all_of_it() -> None:
            await story(reads)
            await reads.fetches.close()

        runner.run(all_of_it())
    assert sum(length for _, _, length in reads.came) == SIZE * len(reads.ended)
    return reads


@pytest.mark.parametrize("block", [16 * KIB, 256 * KIB, 4 * MIB])
def test_a_body_is_read_no_faster_than_its_rate_however_it_comes(block: int) -> None:
    async def story(reads: Reads) -> None:
        await reads.begin(1, MIB)
        await reads.until_ended(1)

    reads = run(story, block)
    assert 3.7 <= reads.ended[1] <= 4.1
    assert reads.fastest(1.0) <= 1.3 * MIB


def test_without_a_limit_nothing_waits() -> None:
    async def story(reads: Reads) -> None:
        await reads.begin(1, 0)
        await reads.until_ended(1)

    assert run(story).ended[1] <= 0.02


def test_the_hosts_limit_is_that_of_all_reads_together_and_what_one_leaves_the_other_has() -> None:
    async def story(reads: Reads) -> None:
        await reads.begin(1, 0)
        await reads.begin(2, MIB // 4)
        await reads.until_ended(2)

    reads = run(story, down_limit=MIB)
    assert 15.0 <= reads.ended[2] <= 16.5
    assert 5.0 <= reads.ended[1] <= 6.0
    assert reads.fastest(1.0) <= 1.3 * MIB


@pytest.mark.parametrize(("later", "least", "most"), [(0, 1.0, 1.1), (2 * MIB, 2.3, 2.7), (MIB // 2, 6.7, 7.3)])
def test_a_limit_can_be_changed_while_it_holds(later: int, least: float, most: float) -> None:
    async def story(reads: Reads) -> None:
        await reads.begin(1, MIB)
        await asyncio.sleep(1.0)
        reads.fetches.pace(PaceSource(PermitId(1), later))
        await reads.until_ended(1)

    assert least <= run(story).ended[1] <= most


def test_a_read_that_waits_for_its_limit_can_be_dropped() -> None:
    async def story(reads: Reads) -> None:
        await reads.begin(1, 1)
        await asyncio.sleep(1.0)
        reads.fetches.drop(DropSource(PermitId(1)))
        reads.fetches.pace(PaceSource(PermitId(1), 0))
        await asyncio.sleep(1.0)
        reads.came.clear()

    assert run(story).ended == {}


class Stray(Sources):
    """A source of which nothing is text: its answer is in octets that are none, or its failure is."""

    def __init__(self) -> None:
        super().__init__(SourceSettings())

    async def ask(self, *asked: Any) -> SourceReply:
        if asked[1]:
            raise SourceError("file caf\udce9 is gone", permanent=True)
        reply = Reply(MIB)
        reply.etag, reply.last_modified = '"\udcff"', "g\udce9stern"
        return reply


@pytest.mark.parametrize("offset", [0, 1])
def test_whatever_a_source_says_what_the_machine_is_told_is_text(offset: int) -> None:
    heard: list[Any] = []

    async def story() -> None:
        fetches = Fetches(Stray(), lambda _: b"", lambda: 0, heard.append)
        fetches.ask(AskSource(PermitId(1), Request(url="http://x/"), offset, "", "", False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await fetches.close()

    asyncio.run(story())
    (event,) = heard
    if offset:
        assert event.text == "file caf\\udce9 is gone"
    else:
        assert (event.etag, event.last_modified) == ("", "")
