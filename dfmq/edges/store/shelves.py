"""The tasks of one store, as its writer's thread keeps them: loading, opening, proving, dropping, evicting.

Everything here runs in the writer's thread, one job after the other; what takes long (reading a whole content, syncing)
runs beside it (slow) and comes back as a job. What is written onto a shelf is in scribe, the door to the
owner's thread is content.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from dfmq.edges.store import journal, loading, slow, space
from dfmq.edges.store import shelf as shelf_files
from dfmq.edges.store.ears import StoreEars, Why
from dfmq.edges.store.journal import ChunkLine, Opening
from dfmq.edges.store.loading import Find
from dfmq.edges.store.shelf import Shelf
from dfmq.edges.store.slow import SlowWork
from dfmq.edges.store.space import Space, Tenant
from dfmq.edges.store.writer import Job
from dfmq.errors import DfmqError, NoSpace, StoreError
from dfmq.model.ids import TASK_ID_BYTES, Generation, TaskId, short
from dfmq.model.settings import StoreSettings

log = logging.getLogger(__name__)

_TASK_NAME = re.compile(f"[0-9a-f]{{{2 * TASK_ID_BYTES}}}")


class Shelves:
    """Law: a task is on a shelf, being looked at (`_waiting`), or not loaded; its jobs are done in the order given."""

    def __init__(
        self,
        folder: Path,
        settings: StoreSettings,
        ears: StoreEars,
        put: Callable[[Job], None],
        forget: Callable[[TaskId], None],
    ) -> None:
        """`put`: how a job gets to the writer's thread. `forget`: called when a task's file has been deleted."""
        self._forget = forget
        self._folder = folder
        self.ears = ears
        self.slow = SlowWork(put)
        self._space = Space(folder, settings)
        self._boot = journal.boot_id()
        #: what is loaded. The owner's thread reads it, only the writer's changes it.
        self.by_task: dict[TaskId, Shelf] = {}
        #: tasks in use. The owner's thread changes it, the writer's reads it.
        self.pinned: set[TaskId] = set()
        #: tasks whose remains are being proven → jobs that wait for it
        self._waiting: dict[TaskId, list[Job]] = {}
        #: those on a shelf that may still be owed room: opened to be written, and not known to be finished and closed
        self._owed: dict[TaskId, Shelf] = {}

    def folder_of(self, task: TaskId) -> str:
        """Where a task's files are. Plain text: a Path takes longer to put together than what is done with it."""
        return f"{self._folder}/{task.hex()}"

    def on_disk(self) -> list[TaskId]:
        """Every task that has a folder."""
        names = [entry.name for entry in os.scandir(self._folder)]
        return [TaskId(bytes.fromhex(name)) for name in names if _TASK_NAME.fullmatch(name)]

    def by_use(self) -> list[TaskId]:
        """Every task on disk, the one that was used last first. From any thread. Raises OSError."""
        used: dict[TaskId, int] = {}
        for task in self.on_disk():
            with contextlib.suppress(FileNotFoundError):
                used[task] = os.stat(f"{self.folder_of(task)}/{space.JOURNAL}").st_mtime_ns
        return sorted(used, key=lambda task: used[task], reverse=True)

    def close(self) -> None:
        """Close every file."""
        for shelf in self.by_task.values():
            shelf.close_files()

    # ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def when_ready(self, task: TaskId, job: Job) -> None:
        """Do the job, after the task's remains are proven if they are being proven."""
        if task in self._waiting:
            self._waiting[task].append(job)
        else:
            job()

    def load(self, task: TaskId) -> None:
        """Answered by `loaded`."""

        def answer(shelf: Shelf | None) -> None:
            if shelf is not None:
                shelf.touch()
            self.ears.loaded(task, None if shelf is None else shelf.shelved())

        try:
            self._fetch(task, answer)
        except OSError as error:
            log.warning("task %s: what is stored of it cannot be read: %s", short(task), error)
            self.ears.loaded(task, None)

    def recall(self, task: TaskId) -> None:
        """Answered by `recalled`. Nothing is proven, written or synced for it, nor is a use of the task noted: what
        would need that waits until somebody wants it."""
        try:
            shelf = self.by_task.get(task)
            if shelf is None:
                find = loading.find(self.folder_of(task), task, self._boot)
                # The journal of a finished content may stay as it is, for nothing more is written to it.
                if not find.doubtful and (find.is_finished or not find.must_rewrite):
                    shelf = self._settle(task, find, [], rewrites=False)
                elif find.only_ctime_differs:
                    shelf = self._settle_doubted(task, find)
            elif shelf.was_touched():
                shelf = None
        except (OSError, StoreError) as error:
            log.info("task %s: nothing of it is recalled: %s", short(task), error)
            shelf = None
        self.ears.recalled(task, None if shelf is None else shelf.shelved())

    def _fetch(self, task: TaskId, then: Callable[[Shelf | None], object]) -> None:
        """Go on with the task's shelf, loaded if need be and proven if it was touched; None when there is nothing.
        Raises OSError."""
        shelf = self.by_task.get(task)
        if shelf is not None and not shelf.was_touched():
            then(shelf)
            return
        try:
            find = loading.find_again(shelf) if shelf else loading.find(self.folder_of(task), task, self._boot)
        except FileNotFoundError:
            then(None)
            return
        except StoreError as error:
            log.warning("task %s: what was stored of it is dropped: %s", short(task), error)
            if shelf is not None:
                self.damage(shelf)
            self._remove(task)
            then(None)
            return
        if not find.doubtful:
            then(self._settle(task, find, []))
            return
        self._waiting[task] = [lambda: then(self.by_task.get(task))]
        work = partial(slow.prove_lines, find.shelf, find.doubtful, self.slow.is_stopped)
        self.slow.do(work, partial(self._proven, task, find))

    def _proven(self, task: TaskId, find: Find, good: list[ChunkLine]) -> None:
        waiting = self._waiting.pop(task)
        if self.slow.is_stopped():
            # Not proven is not lost: whoever waits would begin anew on top of it.
            return
        self._settle(task, find, good)
        for job in waiting:
            job()

    def _settle(self, task: TaskId, find: Find, good: list[ChunkLine], *, rewrites: bool = True) -> Shelf | None:
        """Take the task in with what is believed and what was proven of it; None if it had to be dropped."""
        shelf = find.shelf
        lost = len(find.doubtful) - len(good)
        if lost:
            log.warning("task %s: %d of its chunks are not what was stored", short(task), lost)
        if (find.was_touched or find.is_shared) and (lost or find.look.size != shelf.content.cut.length):
            # The same octets are in somebody's file: they are neither mended nor trusted. Nor are they cut off there
            # when the file goes on beyond the content.
            self.damage(shelf)
            self._remove(task)
            return None
        lines = [*find.believed, *good]
        for line in lines:
            shelf.add(line)
        shelf.stamp = find.look if shelf.is_complete else None
        if find.must_rewrite and rewrites:
            try:
                loading.rewrite(shelf, lines, len(lines) if find.was_rebooted else find.synced_count)
            except OSError as error:
                # The old journal stands; the next load will be as slow as this one.
                log.warning("task %s: its journal cannot be shortened: %s", short(task), error)
        self.by_task[task] = shelf
        return shelf

    def _settle_doubted(self, task: TaskId, find: Find) -> Shelf:
        """Take in, unproven, a finished content whose file got or lost a name, or was written to and set back. It keeps
        its former stamp: so each chunk is proven when it is read, and all of it when it is wanted here."""
        for line in find.doubtful:
            find.shelf.add(line)
        find.shelf.stamp = find.stamp
        self.by_task[task] = find.shelf
        return find.shelf

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, task: TaskId, opening: Opening) -> None:
        """Answered by `opened` or `failed`."""
        try:
            self._fetch(task, lambda shelf: self._open(task, opening, shelf))
        except OSError as error:
            self.ears.failed(task, *self.reason(error, 0))

    def _open(self, task: TaskId, opening: Opening, shelf: Shelf | None) -> None:
        opening = msgspec.structs.replace(opening, boot=self._boot)
        content = opening.content
        try:
            if shelf is None or not self._continue(shelf, opening):
                if shelf is not None and shelf.continues(content):
                    # It may have been told of what is on it.
                    self.damage(shelf)
                shelf = self._create(task, opening)
            if not shelf.is_allocated:
                self._owed[task] = shelf
        except (OSError, StoreError) as error:
            self.ears.failed(task, *self.reason(error, content.cut.length or 0))
            return
        self.ears.opened(task, content.generation, *shelf.holdings(content.cut))

    def _continue(self, shelf: Shelf, opening: Opening) -> bool:
        """Make ready to go on with what is there; False when it is of no use for this content."""
        content = opening.content
        if not shelf.continues(content):
            return False
        shelf.touch()
        if shelf.is_complete:
            return True
        shelf.close_files()
        try:
            shelf.open_files()
        except (FileNotFoundError, StoreError):
            return False  # deleted, or replaced by another
        look = os.fstat(shelf.data_fd)
        if look.st_nlink > 1 or look.st_size < shelf.extent():
            # Somebody gave the unfinished file a second name, and writing on would write into that; or truncated it.
            return False
        shelf.is_broken = False
        if content.cut.length is not None:
            if shelf.content.cut.length is None:
                shelf.seal(content.cut.length)
                shelf.append(journal.sealed_record(content.cut.length))
            self.make_room(max(0, content.cut.length - space.allocated(shelf.data_fd)), shelf.task)
            shelf.is_allocated = space.allocate(shelf.data_fd, content.cut.length)
        known = (shelf.opening.etag, shelf.opening.last_modified, shelf.opening.strong_date)
        if (opening.etag, opening.last_modified, opening.strong_date) not in (known, ("", "", False)):
            shelf.opening = msgspec.structs.replace(opening, content=shelf.opening.content)
            shelf.append(journal.opening_record(shelf.opening))
        return True

    def _create(self, task: TaskId, opening: Opening) -> Shelf:
        try:
            return self._make(task, opening)
        except OSError as error:
            if error.errno not in space.FULL or not self._evict(shelf_files.need(opening), task, is_full=True):
                raise
        return self._make(task, opening)

    def _make(self, task: TaskId, opening: Opening) -> Shelf:
        folder = self._emptied(task)
        try:
            self.make_room(shelf_files.need(opening), task)
            shelf = shelf_files.create(folder, task, opening)
        except (OSError, StoreError):
            self._remove(task)
            raise
        self.by_task[task] = shelf
        return shelf

    def _emptied(self, task: TaskId) -> str:
        """The task's folder, made, with nothing in it."""
        folder = self.folder_of(task)
        if task not in self.by_task:
            # Mostly there is no such folder, and so nothing to be removed.
            with contextlib.suppress(OSError):
                os.mkdir(folder, 0o700)
                return folder
        self._remove(task)
        # Somebody may have swept it away under us.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        os.makedirs(folder, 0o700, exist_ok=True)
        return folder

    def reason(self, error: OSError | StoreError, need: int) -> tuple[str, str]:
        """(code, text) of a failure."""
        if isinstance(error, DfmqError):
            return error.code, str(error)
        if error.errno in space.FULL:
            return NoSpace.code, self._space.explain(error, need)
        what = "Look at that disk, or use a --home on another one"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            what = "Let the peer have more open files (ulimit -n, LimitNOFILE), or get fewer contents at a time"
        elif error.errno == errno.EFBIG:
            what = "Let the peer write longer files (ulimit -f), or use a --home on a file system that takes them"
        return StoreError.code, f"the store in {self._folder} failed: {error}. {what}"

    def current(self, task: TaskId, generation: Generation) -> Shelf | None:
        """The task's shelf, if it holds this generation."""
        shelf = self.by_task.get(task)
        return shelf if shelf is not None and shelf.content.generation == generation else None

    # ── proving ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prove(self, task: TaskId, generation: Generation, algorithm: str) -> None:
        """Answered by `proved`."""
        shelf = self.current(task, generation)
        if shelf is None or not shelf.is_complete:
            self.ears.proved(task, generation, algorithm, "")
            return
        work = partial(slow.prove_content, shelf, algorithm, self.slow.is_stopped)
        self.slow.do(work, partial(self.ears.proved, task, generation, algorithm))

    # ── going away ───────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, task: TaskId) -> None:
        """Delete what there is of the task. Tells nothing."""
        self._remove(task)

    def damage(self, shelf: Shelf, why: Why = "changed") -> None:
        """Delete this content, unless another one has taken its place, and tell."""
        if self.by_task.get(shelf.task) is shelf:
            self._remove(shelf.task)
            self.ears.damaged(shelf.task, why)

    def linked(self, task: TaskId, generation: Generation, before: int, after: int) -> None:
        """Our own client gave the file a name, and looked at its ctime: nothing else was done to it in between. So what
        we knew of it before holds after. Where that does not follow (somebody else linked it, or wrote), it is proven
        when it is wanted next."""
        shelf = self.current(task, generation)
        if shelf is None or shelf.stamp is None or shelf.stamp.ctime_ns != before:
            return
        try:
            shelf.finish(shelf.stamp._replace(ctime_ns=after))
        except (OSError, StoreError) as error:
            log.warning("task %s: its new name cannot be noted: %s", short(task), error)

    def unpinned(self, task: TaskId) -> None:
        """The task is not in use any more: note when it was, and let go of its files."""
        shelf = self.by_task.get(task)
        if shelf is not None and task not in self.pinned:
            shelf.touch()
            # A finished one that is about to be synced is closed after that; another may be gone on with at any time.
            if not shelf.is_syncing or shelf.stamp is None:
                shelf.close_files()

    def _remove(self, task: TaskId) -> None:
        shelf = self.by_task.pop(task, None)
        if shelf is not None:
            shelf.close_files()
        folder = self.folder_of(task)
        try:
            shelf_files.remove(folder)
        except OSError as error:
            log.warning("task %s: %s cannot be deleted: %s", short(task), folder, error)
        self._forget(task)

    def make_room(self, need: int, for_task: TaskId) -> None:
        """See that `need` more octets fit, by deleting what is not in use. Raises NoSpace, OSError."""
        if need <= 0:
            return
        if not self._space.has_room(need, self._promised(for_task)):
            self._evict(need, for_task)

    def _evict(self, need: int, for_task: TaskId, *, is_full: bool = False) -> bool:
        """Delete what must go so that `need` more octets fit; whether anything did. Raises NoSpace, OSError."""
        tenants = [t for t in map(self._tenant, self.on_disk()) if t is not None]
        victims = self._space.victims(need, self._promised(for_task), tenants, is_full=is_full)
        for task in victims:
            log.info("task %s: evicted to make room", short(task))
            self._remove(task)
            self.ears.damaged(task, "evicted")
        return bool(victims)

    def _promised(self, for_task: TaskId) -> int:
        """Octets granted to other tasks for which no blocks are set aside yet. Of thousands of contents that are
        loaded a few are written: only those are looked at."""
        total = 0
        for task, shelf in list(self._owed.items()):
            if self.by_task.get(task) is not shelf or (shelf.stamp is not None and not shelf.is_open):
                del self._owed[task]
            elif task != for_task:
                total += shelf.promised()
        return total

    def _tenant(self, task: TaskId) -> Tenant | None:
        shelf = self.by_task.get(task)
        is_written = shelf is not None and shelf.is_open and shelf.stamp is None
        return space.tenant(task, self.folder_of(task), is_written or task in self.pinned or task in self._waiting)
