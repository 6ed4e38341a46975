"""Reads sources for a peer: asks, cuts the body into chunks, digests each, and tells the machine. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dfmq.edges.source.base import SourceReply, Sources
from dfmq.errors import DfmqError, SourceError
from dfmq.machines.effects import AskSource, DropSource, ReadSource
from dfmq.machines.events import SourceAnswered, SourceBroke, SourceChunk, SourceEnded
from dfmq.model.ids import PermitId
from dfmq.model.pieces import PieceMap


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


class Fetches:
    """One asyncio task a permit that is asking or reading."""

    def __init__(
        self,
        sources: Sources,
        digest: Callable[[Any], bytes],
        queued_bytes: Callable[[], int],
        feed: Callable[[Any], None],
    ) -> None:
        self._sources = sources
        self._digest = digest
        self._queued_bytes = queued_bytes
        self._feed = feed
        self._replies: dict[PermitId, SourceReply] = {}
        self._tasks: dict[PermitId, asyncio.Task[None]] = {}
        self._room = asyncio.Event()

    def written(self) -> None:
        """The store has written something: there may be room."""
        self._room.set()

    def ask(self, effect: AskSource) -> None:
        self._start(effect.permit, self._ask(effect))

    def read(self, effect: ReadSource) -> None:
        reply = self._replies.get(effect.permit)
        if reply is not None:
            self._start(effect.permit, self._read(effect, reply))

    def drop(self, effect: DropSource) -> None:
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
                reply.etag,
                reply.last_modified,
                reply.fresh_seconds,
                reply.ranges,
            )
        )

    async def _read(self, effect: ReadSource, reply: SourceReply) -> None:
        permit, skip = effect.permit, effect.skip
        cutter = _Cutter(effect.cut, effect.offset)

        def emit(piece: int, chunk: int, payload: bytes) -> None:
            self._feed(SourceChunk(permit, piece, chunk, len(payload), self._digest(payload), payload))

        try:
            async for block in reply.body():
                view = memoryview(block)
                if skip:
                    passed = min(skip, len(view))
                    skip -= passed
                    view = view[passed:]
                cutter.feed(view, emit)
                while self._queued_bytes() > effect.window:
                    self._room.clear()
                    await self._room.wait()
            length = cutter.rest(emit)
        except DfmqError as error:
            await reply.close()
            self._replies.pop(permit, None)
            self._broke(permit, error)
            return
        await reply.close()
        self._replies.pop(permit, None)
        self._tasks.pop(permit, None)
        self._feed(SourceEnded(permit, length))

    def _broke(self, permit: PermitId, error: DfmqError) -> None:
        self._tasks.pop(permit, None)
        permanent = error.permanent if isinstance(error, SourceError) else True
        retry_after = (error.retry_after or 0.0) if isinstance(error, SourceError) else 0.0
        self._feed(SourceBroke(permit, error.code, str(error), permanent, retry_after))

    async def close(self) -> None:
        """Cancel what is under way and close every connection."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reply in self._replies.values():
            await reply.close()
        await self._sources.close()
