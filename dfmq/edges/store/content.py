"""The store: contents on disk, proven before they were written. The owner's door; the work itself is in shelves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from dfmq.edges.store import journal
from dfmq.edges.store.ears import StoreEars
from dfmq.edges.store.journal import Opening
from dfmq.edges.store.scribe import Scribe
from dfmq.edges.store.shelf import Shelf
from dfmq.edges.store.shelves import Shelves
from dfmq.edges.store.space import DATA
from dfmq.edges.store.spans import Damaged, Spans
from dfmq.edges.store.syncs import Syncs
from dfmq.edges.store.writer import Chunk, Job, Writer
from dfmq.errors import InvariantViolated, SettingsError, StoreError
from dfmq.model.ids import Generation, TaskId, short
from dfmq.model.pieces import DIGEST_BYTES
from dfmq.model.settings import StoreSettings
from dfmq.model.task import Content, Request, without_secrets

TASKS = "tasks"
#: The owner's credit bounds the queue; twice the setting and a largest piece more is nobody's rounding but a bug.
_QUEUE_SLACK_BYTES = 64 << 20


class Store:
    """Contents under `home`/tasks, one folder a task. One process a home (see lock); one owner's thread, which may call
    everything here. Nothing here waits for the disk, except `span` of a file that has a second name, `tasks`, and
    `close`.

    Raises InvariantViolated when the owner breaks its promises, or when the writer's thread has died of a bug.
    """

    def __init__(self, home: Path, settings: StoreSettings, hear: StoreEars, *, wakes: bool = True) -> None:
        """`wakes` False: the owner asks for many things in a row, and says `wake` after it. Raises SettingsError when
        there can be no store in `home`."""
        self._folder = home / TASKS
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"home {home}: no store can be made there ({error.strerror}): give another one with --home"
            ) from error
        self._most_queued = 2 * settings.write_behind_bytes + _QUEUE_SLACK_BYTES
        self._ears = hear
        self._wakes = wakes
        self._spans = Spans()
        self._writer = Writer(lambda batch: self._scribe.write(batch), min(2 << 20, settings.write_behind_bytes // 4))
        self._shelves = Shelves(self._folder, settings, hear, self._writer.put, self._spans.forget)
        syncs = Syncs(self._shelves, self._writer.later)
        self._scribe = Scribe(self._shelves, syncs, settings)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, task: TaskId) -> None:
        """See what there is of a task. Answered by `loaded`."""
        self._put(task, partial(self._shelves.load, task))

    def recall(self, task: TaskId) -> None:
        """See what there is of a task that nobody asked for, as far as that costs next to nothing. Answered by
        `recalled`."""
        self._put(task, partial(self._shelves.recall, task))
        self.wake()

    def open(
        self,
        task: TaskId,
        content: Content,
        request: Request,
        etag: str = "",
        last_modified: str = "",
        strong_date: bool = False,
    ) -> None:
        """Make ready to write this content; another generation's is deleted. Answered by `opened` or `failed`."""
        kept = without_secrets(request)
        opening = Opening(journal.FORMAT_VERSION, task, "", content, kept, etag, last_modified, strong_date)
        self._put(task, partial(self._shelves.open, task, opening))

    def write(
        self,
        task: TaskId,
        generation: Generation,
        piece: int,
        chunk: int,
        offset: int,
        digest: bytes,
        payload: Any,
        *,
        may_wait: bool = False,
    ) -> None:
        """Write a proven chunk. Answered, batched, by `stored`, or by `failed`; a chunk of what is not open any more is
        thrown away in silence. `payload`: any buffer, or an object with one in `.buffer`; kept, not copied, and not to
        be changed until it is stored. `may_wait`: until `flush`, or a few chunks more."""
        shelf = self._shelves.by_task.get(task)
        if shelf is None or shelf.content.generation != generation:
            return
        view = memoryview(getattr(payload, "buffer", payload)).cast("B")
        _check_place(shelf, piece, chunk, offset, len(view))
        if len(digest) != DIGEST_BYTES:
            raise InvariantViolated(f"a chunk's digest has {DIGEST_BYTES} octets, not {len(digest)}")
        if self._writer.queued_bytes + len(view) > self._most_queued:
            raise InvariantViolated(
                f"{self._writer.queued_bytes} octets are queued to be written: nobody kept to credit"
            )
        self._check_alive()
        self._writer.put_chunk(Chunk(shelf, offset, piece, chunk, digest, view), may_wait=may_wait)
        if self._wakes:
            self._writer.wake()

    def wake(self) -> None:
        """Begin with what was asked for and may not wait; returns at once."""
        self._writer.wake()

    def flush(self) -> None:
        """Write what may wait; returns at once."""
        self._writer.flush()

    def seal(self, task: TaskId, generation: Generation, length: int) -> None:
        """A growing content has ended at `length` octets. Tells only of failure."""
        self._put(task, partial(self._scribe.seal, task, generation, length))

    def finish(self, task: TaskId, generation: Generation) -> None:
        """Every piece is held: note the file's stamp and sync. Tells only of failure."""
        self._put(task, partial(self._scribe.finish, task, generation))

    def prove(self, task: TaskId, generation: Generation, algorithm: str) -> None:
        """Compute the digest of the whole content. Answered by `proved`."""
        self._put(task, partial(self._shelves.prove, task, generation, algorithm))

    def pin(self, task: TaskId, pinned: bool) -> None:
        """In use, never to be evicted; or not any more. Who begins to use a content that was touched from outside is
        told `doubted` at once, from within: it must not be given away before `open` or `load` has proven it."""
        if pinned:
            self._shelves.pinned.add(task)
            shelf = self._shelves.by_task.get(task)
            if shelf is not None and shelf.was_touched():
                self._ears.doubted(task)
        else:
            self._shelves.pinned.discard(task)
            self._spans.take_back(task)
            self._put(task, partial(self._shelves.unpinned, task))

    def lend(self, task: TaskId) -> None:
        """Somebody is about to be told its path, and may give the file a second name and truncate that: from now on,
        until it is unpinned, no map of it is given out that would still be on its way then."""
        self._spans.lend(task)

    def linked(self, task: TaskId, generation: Generation, before: int, after: int) -> None:
        """Whom it was lent to has given the file a second name; its ctime was `before` and is `after`."""
        self._put(task, partial(self._shelves.linked, task, generation, before, after))

    def drop(self, task: TaskId) -> None:
        """Delete what there is of the task. Tells nothing."""
        self._put(task, partial(self._shelves.drop, task))

    def _put(self, task: TaskId, job: Job) -> None:
        self._check_alive()
        self._writer.line_up(partial(self._shelves.when_ready, task, job))
        if self._wakes:
            self._writer.wake()

    def _check_alive(self) -> None:
        if not self._writer.is_alive:
            raise InvariantViolated("the store's thread has ended: closed already, or the story above says why")

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def span(self, task: TaskId, generation: Generation, offset: int, length: int) -> memoryview | bytes:
        """Stored octets, to be sent without a copy: a slice of a map, or what was read when the file has a second name.
        Raises StoreError; when the content turned out to be changed, it is dropped and `damaged` told as well."""
        shelf = self._shelves.by_task.get(task)
        if shelf is None or shelf.content.generation != generation:
            raise StoreError(f"task {short(task)}: this generation of it is not here")
        try:
            return self._spans.read(shelf, offset, length)
        except Damaged:
            self._writer.put(partial(self._shelves.damage, shelf))
            raise

    def path(self, task: TaskId) -> Path:
        """Where the task's content is, or would be."""
        return self._folder / task.hex() / DATA

    def tasks(self) -> list[TaskId]:
        """Every task on disk, the one that was used last first. Slow, and for any thread. Raises OSError."""
        return self._shelves.by_use()

    @property
    def queued_bytes(self) -> int:
        """Octets of chunks given to `write` and not written yet."""
        return self._writer.queued_bytes

    def close(self) -> None:
        """Write what is queued, break off what takes long, close everything. Slow; twice does no harm. Ears are called
        until it returns, and not after."""
        if self._writer.is_alive:
            self._writer.put(self._shelves.slow.end)
            self._writer.end()
        self._shelves.slow.end()
        self._shelves.close()
        self._spans.clear()


def _check_place(shelf: Shelf, piece: int, chunk: int, offset: int, length: int) -> None:
    """The chunk must lie where the cut says; a growing content's last chunk may be short."""
    cut = shelf.content.cut
    ours, size = cut.chunk_span(piece, chunk)
    fits = length == size or (cut.length is None and 0 < length < size)
    if chunk >= cut.chunks_in(piece) or offset != ours or not fits:
        raise InvariantViolated(
            f"{short(shelf.task)}: piece {piece} chunk {chunk} is {size} octets at {ours}, not {length} at {offset}"
        )
