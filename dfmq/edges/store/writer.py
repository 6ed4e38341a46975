"""The write-behind thread: takes what is queued, orders it, writes neighbours at once. What is told is in shelves."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dfmq.edges.store.shelf import Shelf

Job = Callable[[], object]

#: Chunks are written in batches of at most so many octets. The larger the batch, the better the order on disk; the
#: smaller, the sooner credit flows back. 8 MiB is 5-15 ms of a disk.
BATCH_BYTES = 8 << 20
#: Buffers in one pwritev: IOV_MAX is 1024 on Linux; a batch of the smallest chunks stays below.
_MOST_BUFFERS = 512


class Chunk(NamedTuple):
    """A proven chunk on its way to the disk."""

    shelf: Shelf
    offset: int
    piece: int
    chunk: int
    digest: bytes
    payload: memoryview


class Writer:
    """One thread that performs jobs and writes chunks, in the order they were put in; only chunks that follow each
    other without a job between them are batched and re-ordered.

    Law: queued_bytes is the length of every chunk put in and not yet given to `write`, or being written by it.
    """

    def __init__(self, write: Callable[[list[Chunk]], list[Job]], most_asleep: int = 2 << 20) -> None:
        """`write` returns what to tell about the batch. It is told when the batch has left queued_bytes: whoever waits
        for room there is woken by that very news. `most_asleep`: bytes that may wait for others."""
        self._most_asleep = most_asleep
        self._asleep_bytes = 0
        #: something in the queue may not wait for others
        self._is_due = False
        self._write = write
        self._queue: deque[Job | Chunk] = deque()
        self._wake = threading.Condition()
        self._is_ending = False
        #: what is to be done by the clock, soonest first: only this thread knows of it
        self._later: list[tuple[float, Job]] = []
        self.queued_bytes = 0
        #: False once the thread has ended; before `end` that is a bug of ours, and the thread has printed it
        self.is_alive = True
        self._thread = threading.Thread(target=self._run, name="dfmq-store", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Perform this after everything put in so far."""
        self.line_up(job)
        self.wake()

    def line_up(self, job: Job) -> None:
        """Perform this after everything put in so far, and at the latest when `wake` is called. To be woken for each
        of many small things costs both threads more than the things."""
        # Without the lock: a deque's own are enough, and the thread looks again before it sleeps.
        self._queue.append(job)
        self._is_due = True

    def put_chunk(self, chunk: Chunk, *, may_wait: bool = False) -> None:
        """Write this after every job put in so far, and at the latest when `wake` is called. `may_wait`: the thread
        need not be woken for it before the next thing that may not wait, `most_asleep` bytes, or `flush`. Waking it for
        every chunk took a tenth of a peer's main thread at full rate, and half of its turns on a slow link."""
        size = len(chunk.payload)
        with self._wake:
            self._queue.append(chunk)
            self.queued_bytes += size
            self._asleep_bytes += size
            if not may_wait or self._asleep_bytes >= self._most_asleep:
                self._is_due = True

    def wake(self) -> None:
        """Begin with what may not wait, if there is any."""
        if self._is_due:
            self._rouse()

    def flush(self) -> None:
        """Write what may wait."""
        if self._asleep_bytes:
            self._rouse()

    def _rouse(self) -> None:
        # Said first: what is put in from now on asks for itself.
        self._is_due = False
        with self._wake:
            self._asleep_bytes = 0
            self._wake.notify()

    def later(self, seconds: float, job: Job) -> None:
        """Perform this after so many seconds; never, if the end comes before. From within a job only."""
        self._later.append((time.monotonic() + seconds, job))
        self._later.sort(key=lambda entry: entry[0])

    def end(self) -> None:
        """Perform what is queued, then end the thread; waits for it."""
        with self._wake:
            self._is_ending = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while (work := self._take()) is not None:
                if isinstance(work, list):
                    self._write_batch(work)
                else:
                    work()
        finally:
            self.is_alive = False

    def _write_batch(self, batch: list[Chunk]) -> None:
        news = self._write(batch)
        with self._wake:
            self.queued_bytes -= sum(len(chunk.payload) for chunk in batch)
        batch.clear()
        for tell in news:
            tell()

    def _take(self) -> Job | list[Chunk] | None:
        """The next job, or all chunks that wait before the next job, up to a batch; None at the end."""
        with self._wake:
            while True:
                seconds = self._later[0][0] - time.monotonic() if self._later else None
                if seconds is not None and seconds <= 0.0:
                    return self._later.pop(0)[1]
                if self._queue:
                    break
                if self._is_ending:
                    return None
                self._wake.wait(seconds)
            queue = self._queue
            first = queue[0]
            if not isinstance(first, Chunk):
                queue.popleft()
                return first
            batch: list[Chunk] = []
            size = 0
            while queue and len(batch) < _MOST_BUFFERS and size < BATCH_BYTES:
                following = queue[0]
                if not isinstance(following, Chunk):
                    break
                queue.popleft()
                batch.append(following)
                size += len(following.payload)
            return batch


def write_chunks(fd: int, chunks: Iterable[Chunk]) -> None:
    """Write one file's chunks by rising offset, neighbours in one call. Raises OSError, with any part written."""
    run: list[memoryview] = []
    start = end = 0
    for chunk in sorted(chunks, key=lambda c: c.offset):
        if run and chunk.offset != end:
            _write_run(fd, run, start)
            run = []
        if not run:
            start = end = chunk.offset
        run.append(chunk.payload)
        end += len(chunk.payload)
    if run:
        _write_run(fd, run, start)


def _write_run(fd: int, buffers: list[memoryview], offset: int) -> None:
    """pwritev all of it, without the GIL."""
    while buffers:
        done = os.pwritev(fd, buffers, offset)
        offset += done
        while buffers and done >= len(buffers[0]):
            done -= len(buffers.pop(0))
        if done:
            buffers[0] = buffers[0][done:]
