"""Reads sources for a peer: asks, cuts the body into chunks, digests each, and tells the machine, no faster than it
may. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from dfmq.edges.source.reply import SourceReply
from dfmq.edges.source.sources import Sources
from dfmq.errors import DfmqError, SourceError
from dfmq.machines.effects import AskSource, DropSource, PaceSource, ReadSource
from dfmq.machines.events import SourceAnswered, SourceBroke, SourceChunk, SourceEnded
from dfmq.machines.peer.limits import TokenBucket
from dfmq.model.ids import PermitId
from dfmq.model.pieces import LEAST_CHUNK, PieceMap
from dfmq.model.task import is_text

#: Where there is a limit, so much of a block is taken at a time; bytes.
PACED_BYTES = LEAST_CHUNK


class _Cutter:
    """Gathers a stream of blocks into chunks. Each chunk is joined once, into memory of its own: it is kept until
    stored. (A bytearray filled in place costs the zeroes as well.)"""

    def __init__(self, cut: PieceMap, offset: int) -> None:
        self._cut = cut
        self.offset = offset
        self._begin()

    def _begin(self) -> None:
        self._piece, inside = divmod(self.offset, self._cut.piece_length)
        self._chunk = inside // self._cut.chunk_length
        self._wanted = self._cut.chunk_span(self._piece, self._chunk)[1]
        self._parts: list[memoryview] = []
        self._filled = 0

    def feed(self, block: memoryview, emit: Callable[[int, int, bytes], None]) -> None:
        """Take a block; `emit(piece, chunk, payload)` for every chunk that is full."""
        while block and self._wanted:
            part = block[: self._wanted - self._filled]
            self._parts.append(part)
            self._filled += len(part)
            block = block[len(part) :]
            if self._filled == self._wanted:
                emit(self._piece, self._chunk, b"".join(self._parts))
                self.offset += self._wanted
                self._begin()

    def rest(self, emit: Callable[[int, int, bytes], None]) -> int:
        """The content has ended: emit what is left over; the content's length."""
        if self._filled:
            emit(self._piece, self._chunk, b"".join(self._parts))
            self.offset += self._filled
        return self.offset


class _Pace:
    """How fast one body may be read."""

    def __init__(self, rate: int) -> None:
        self.bucket = TokenBucket(rate)
        self.changed = asyncio.Event()


class Fetches:
    """One asyncio task a permit that is asking or reading.

    A limit holds back the reading; the source is held back by that, when the network's buffers are full.
    """

    def __init__(
        self,
        sources: Sources,
        digest: Callable[[Any], bytes],
        queued_bytes: Callable[[], int],
        feed: Callable[[Any], None],
        down_limit: int = 0,
    ) -> None:
        """`down_limit`: bytes per second of all reads together, 0 any."""
        self._sources = sources
        self._digest = digest
        self._queued_bytes = queued_bytes
        self._feed = feed
        self._replies: dict[PermitId, SourceReply] = {}
        self._tasks: dict[PermitId, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._limit = TokenBucket(down_limit)
        self._turn = asyncio.Lock()
        self._paces: dict[PermitId, _Pace] = {}

    async def prepare(self) -> None:
        """Make ready for the first source, before somebody waits for it."""
        await self._sources.prepare()

    def written(self) -> None:
        """The store has written something: there may be room."""
        self._room.set()

    def ask(self, effect: AskSource) -> None:
        self._start(effect.permit, self._ask(effect))

    def read(self, effect: ReadSource) -> None:
        reply = self._replies.get(effect.permit)
        if reply is not None:
            pace = self._paces[effect.permit] = _Pace(effect.rate)
            self._start(effect.permit, self._read(effect, reply, pace))

    def pace(self, effect: PaceSource) -> None:
        pace = self._paces.get(effect.permit)
        if pace is not None:
            pace.bucket.set_rate(effect.rate, asyncio.get_running_loop().time())
            pace.changed.set()

    def drop(self, effect: DropSource) -> None:
        self._paces.pop(effect.permit, None)
        task = self._tasks.pop(effect.permit, None)
        if task is not None:
            task.cancel()
        reply = self._replies.pop(effect.permit, None)
        if reply is not None:
            closing = asyncio.get_running_loop().create_task(reply.close())
            self._tasks[PermitId(-effect.permit)] = closing
            closing.add_done_callback(lambda _: self._tasks.pop(PermitId(-effect.permit), None))

    def _start(self, permit: PermitId, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[permit] = task

    async def _ask(self, effect: AskSource) -> None:
        try:
            reply = await self._sources.ask(
                effect.request, effect.offset, effect.etag, effect.last_modified, effect.unchanged_will_do
            )
        except DfmqError as error:
            self._broke(effect.permit, error)
            return
        if reply.kind == "unchanged":
            await reply.close()
        else:
            self._replies[effect.permit] = reply
        self._feed(
            SourceAnswered(
                effect.permit,
                reply.kind,
                reply.offset,
                reply.length,
                # A name that cannot be written down is none: another might look the same in its place.
                reply.etag if is_text(reply.etag) else "",
                reply.last_modified if is_text(reply.last_modified) else "",
                reply.fresh_seconds,
                reply.ranges,
                reply.strong_date,
            )
        )

    async def _read(self, effect: ReadSource, reply: SourceReply, pace: _Pace) -> None:
        permit, skip = effect.permit, effect.skip
        cutter = _Cutter(effect.cut, effect.offset)

        def emit(piece: int, chunk: int, payload: bytes) -> None:
            self._feed(SourceChunk(permit, piece, chunk, len(payload), self._digest(payload), payload))

        try:
            async for block in reply.body():
                for view in self._parts(block, pace):
                    await self._leave(len(view), pace)
                    passed = min(skip, len(view))
                    skip -= passed
                    cutter.feed(view[passed:], emit)
                    while self._queued_bytes() > effect.window:
                        self._room.clear()
                        await self._room.wait()
            length = cutter.rest(emit)
        except DfmqError as error:
            await reply.close()
            self._replies.pop(permit, None)
            self._broke(permit, error)
            return
        finally:
            self._paces.pop(permit, None)
        await reply.close()
        self._replies.pop(permit, None)
        self._tasks.pop(permit, None)
        self._feed(SourceEnded(permit, length))

    def _parts(self, block: bytes, pace: _Pace) -> list[memoryview]:
        """The block as it is taken: at once, or where there is a limit in parts, so that none is late by a block."""
        view = memoryview(block)
        step = PACED_BYTES if self._limit.rate or pace.bucket.rate else len(view)
        return [view[first : first + step] for first in range(0, len(view), step)] if view else []

    async def _leave(self, size: int, pace: _Pace) -> None:
        """Wait until the limits let so many bytes through: the read's own, then the host's, where all come in turn."""
        clock = asyncio.get_running_loop().time
        while (seconds := pace.bucket.ready_in(size, clock())) > 0.0:
            pace.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pace.changed.wait(), seconds)
        pace.bucket.take(size, clock())
        if self._limit.rate:
            async with self._turn:
                await asyncio.sleep(self._limit.ready_in(size, clock()))
                self._limit.take(size, clock())

    def _broke(self, permit: PermitId, error: DfmqError) -> None:
        self._tasks.pop(permit, None)
        permanent = error.permanent if isinstance(error, SourceError) else True
        retry_after = (error.retry_after or 0.0) if isinstance(error, SourceError) else 0.0
        # What a source says, and what a file is called, need not be text; what is told has to be.
        text = str(error).encode(errors="backslashreplace").decode()
        self._feed(SourceBroke(permit, error.code, text, permanent, retry_after))

    async def close(self) -> None:
        """Cancel what is under way and close every connection."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reply in self._replies.values():
            await reply.close()
        await self._sources.close()
