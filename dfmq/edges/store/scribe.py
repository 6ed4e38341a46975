"""Writing onto shelves: chunks, their journal lines, seals and stamps. Runs in the writer's thread. Syncing is in
syncs."""

from __future__ import annotations

import os
from functools import partial

from dfmq.edges.store import journal, space
from dfmq.edges.store.journal import ChunkLine, Stamp
from dfmq.edges.store.shelf import Shelf
from dfmq.edges.store.shelves import Shelves
from dfmq.edges.store.syncs import Syncs
from dfmq.edges.store.writer import Chunk, Job, write_chunks
from dfmq.errors import NoSpace, StoreError
from dfmq.model.ids import Generation, TaskId
from dfmq.model.settings import StoreSettings

#: A growing content is granted room in steps of so many octets, so that not every batch looks at every task.
_GROWTH_BYTES = 64 << 20


class Scribe:
    """Law: a chunk's line is journalled after its octets are written, and both before it is told as stored."""

    def __init__(self, shelves: Shelves, syncs: Syncs, settings: StoreSettings) -> None:
        self._shelves = shelves
        self._syncs = syncs
        self._sync_every = settings.sync_every_bytes
        self._unsynced = settings.unsynced_bytes

    def write(self, batch: list[Chunk]) -> list[Job]:
        """Write, journal and count these chunks; what is to be told about it."""
        by_shelf: dict[Shelf, list[Chunk]] = {}
        for chunk in batch:
            by_shelf.setdefault(chunk.shelf, []).append(chunk)
        news: list[Job] = []
        for shelf, chunks in by_shelf.items():
            if self._shelves.by_task.get(shelf.task) is shelf and not shelf.is_broken:
                news.append(self._write_shelf(shelf, chunks))
        return news

    def _write_shelf(self, shelf: Shelf, chunks: list[Chunk]) -> Job:
        fresh = {(c.piece, c.chunk): c for c in chunks if not shelf.has(c.piece, c.chunk)}
        size = sum(len(chunk.payload) for chunk in fresh.values())
        try:
            shelf.open_files()
            self._grow(shelf, size)
            self._write_files(shelf, list(fresh.values()), size)
        except (OSError, StoreError) as error:
            return self._broke(shelf, error, size)
        shelf.unsynced_bytes += size
        if shelf.unsynced_bytes >= self._sync_every:
            self._syncs.want(shelf)
        done = [(chunk.piece, chunk.chunk) for chunk in chunks]
        return partial(self._shelves.ears.stored, shelf.task, shelf.content.generation, done)

    def _grow(self, shelf: Shelf, size: int) -> None:
        """See that a growing content finds room before it is written; a known length was allocated at once."""
        if shelf.content.cut.length is not None:
            return
        wanted = space.allocated(shelf.data_fd) + size
        if wanted <= shelf.granted:
            return
        try:
            self._shelves.make_room(size + _GROWTH_BYTES, shelf.task)
            shelf.granted = wanted + _GROWTH_BYTES
        except NoSpace:
            self._shelves.make_room(size, shelf.task)
            shelf.granted = wanted

    def _write_files(self, shelf: Shelf, chunks: list[Chunk], size: int) -> None:
        try:
            write_chunks(shelf.data_fd, chunks)
        except OSError as error:
            if error.errno not in space.FULL:
                raise
            # Somebody else took the room: take some of our own back, and try once more.
            self._shelves.make_room(size, shelf.task)
            write_chunks(shelf.data_fd, chunks)
        shelf.note([ChunkLine(chunk.piece, chunk.chunk, chunk.digest) for chunk in chunks])

    def _broke(self, shelf: Shelf, error: OSError | StoreError, size: int) -> Job:
        shelf.is_broken = True
        shelf.close_files()
        code, text = self._shelves.reason(error, size)
        return partial(self._shelves.ears.failed, shelf.task, code, text)

    def seal(self, task: TaskId, generation: Generation, length: int) -> None:
        """The growing content has ended. Tells only of failure."""
        shelf = self._shelves.current(task, generation)
        if shelf is None or shelf.is_broken or shelf.content.cut.length is not None:
            return
        try:
            shelf.open_files()
            shelf.seal(length)
            self._shelves.make_room(max(0, length - space.allocated(shelf.data_fd)), task)
            space.allocate(shelf.data_fd, length)
            shelf.append(journal.sealed_record(length))
        except (OSError, StoreError) as error:
            self._broke(shelf, error, length)()

    # ── finishing ────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, task: TaskId, generation: Generation) -> None:
        """Note the file's stamp, then sync what is worth it. Tells only of failure."""
        shelf = self._shelves.current(task, generation)
        if shelf is None or shelf.is_broken or not shelf.is_complete or shelf.stamp is not None:
            return
        try:
            shelf.open_files()
            shelf.finish(Stamp.of(os.fstat(shelf.data_fd)))
            if (shelf.content.cut.length or 0) > self._unsynced or shelf.is_syncing:
                self._syncs.want(shelf)
            else:
                shelf.close_files()
        except (OSError, StoreError) as error:
            self._broke(shelf, error, 0)()
