"""For tests of the store: ears that remember, contents made of a seed, a small file system."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfmq.edges import hashing
from dfmq.edges.store import journal
from dfmq.edges.store.content import Store
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import KIB, PieceMap
from dfmq.model.settings import StoreSettings
from dfmq.model.task import Content, Request, task_id

#: Nothing a store does in a test takes so long, seconds.
PATIENCE = 20.0
#: its contents are small, and synced all the same: what is tested of large ones is tested with these
ROOMY = StoreSettings(free_floor_bytes=0, unsynced_bytes=0)


class Ears:
    """Remembers what the store tells, in order."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._calls.put((name, arguments))

    def any(self) -> tuple[str, tuple[Any, ...]]:
        """The next call, whatever it is."""
        return self._calls.get(timeout=PATIENCE)

    def next(self, name: str) -> tuple[Any, ...]:
        """The next call, which must be this one."""
        heard, arguments = self.any()
        assert heard == name, (heard, arguments)
        return arguments

    def rest_until(self, name: str) -> tuple[Any, ...]:
        """The next call of that name, whatever comes before it."""
        while True:
            heard, arguments = self._calls.get(timeout=PATIENCE)
            if heard == name:
                return arguments


class Material:
    """A content of `length` octets made of a seed, cut small: pieces of four chunks of 1 KiB."""

    def __init__(self, length: int, seed: int = 0, url: str = "http://host/x") -> None:
        self.octets = random.Random(seed).randbytes(length)
        self.request = Request(url=url)
        self.task: TaskId = task_id(self.request)
        self.content = Content(Generation(seed.to_bytes(8, "big")), PieceMap(length, 4 * KIB, KIB))

    @property
    def generation(self) -> Generation:
        return self.content.generation

    @property
    def growing(self) -> Content:
        """The content while its length is not known."""
        cut = self.content.cut
        return Content(self.generation, PieceMap(None, cut.piece_length, cut.chunk_length))

    def places(self) -> list[tuple[int, int]]:
        """Every (piece, chunk)."""
        cut = self.content.cut
        return [(piece, chunk) for piece in range(cut.count) for chunk in range(cut.chunks_in(piece))]

    def chunk(self, piece: int, chunk: int) -> tuple[int, bytes]:
        """(offset, octets) of a chunk."""
        offset, length = self.content.cut.chunk_span(piece, chunk)
        return offset, self.octets[offset : offset + length]

    def proofs(self, piece: int) -> bytes:
        """The digests of a piece's chunks."""
        chunks = range(self.content.cut.chunks_in(piece))
        return b"".join(hashing.chunk_digest(self.chunk(piece, chunk)[1]) for chunk in chunks)


class Bench:
    """A store with its ears and the steps most tests take."""

    def __init__(self, home: Path, settings: StoreSettings = ROOMY) -> None:
        self.ears = Ears()
        self.store = Store(home, settings, self.ears)

    def open(self, made: Material, content: Content | None = None) -> tuple[int, dict[int, int], dict[int, bytes]]:
        """Open; what is held."""
        self.store.open(made.task, content or made.content, made.request)
        _, _, held, partial, proofs = self.ears.next("opened")
        return held, partial, proofs

    def write(self, made: Material, places: list[tuple[int, int]]) -> None:
        """Write these chunks and wait until they are stored."""
        for piece, chunk in places:
            offset, octets = made.chunk(piece, chunk)
            digest = hashing.chunk_digest(octets)
            self.store.write(made.task, made.generation, piece, chunk, offset, digest, octets)
        missing = set(places)
        while missing:
            _, _, stored = self.ears.next("stored")
            missing -= set(stored)

    def fill(self, made: Material) -> None:
        """Open, write everything, finish."""
        self.open(made)
        self.write(made, made.places())
        self.store.finish(made.task, made.generation)

    def load(self, made: Material) -> Any:
        """What the store has of it, Shelved or None."""
        self.store.load(made.task)
        return self.ears.next("loaded")[1]

    def read(self, made: Material) -> bytes:
        """The whole content by one span a chunk."""
        cut = made.content.cut
        spans = [cut.chunk_span(*place) for place in made.places()]
        return b"".join(bytes(self.store.span(made.task, made.generation, *span)) for span in spans)

    def wait_for_mark(self, made: Material) -> None:
        """Until the sync that finish began has been journalled."""
        file = self.store.path(made.task).with_name("journal")
        while journal.replay(file.read_bytes(), made.task).synced == 0:
            self.settle()

    def settle(self) -> None:
        """Wait until everything asked for so far has been done."""
        nobody = TaskId(bytes(16))
        self.store.load(nobody)
        assert self.ears.next("loaded") == (nobody, None)


def hold_syncs(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk on which each sync waits until this is set."""
    gate = threading.Event()
    plain = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (gate.wait(60), plain(fd)))
    return gate


@contextlib.contextmanager
def bench(home: Path, settings: StoreSettings = ROOMY) -> Iterator[Bench]:
    """A store for a while."""
    made = Bench(home, settings)
    try:
        yield made
    finally:
        made.store.close()


def overwrite(path: Path, offset: int, octets: bytes) -> None:
    """Change a file as an editor without manners would."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def age(path: Path) -> None:
    """Give the file another time: what a kernel's coarse clock may not do within one test."""
    os.utime(path, ns=(1, 1))


def edit_unseen(path: Path, offset: int, octets: bytes) -> None:
    """Change a file and set its time back, as an image tool in place and `touch -d` would. Not within one tick of a
    kernel's coarse clock: nobody could see that."""
    look, probe = path.stat(), path.with_name("probe")
    while not probe.exists() or probe.stat().st_ctime_ns <= look.st_ctime_ns:
        probe.write_bytes(b"")
    probe.unlink()
    overwrite(path, offset, octets)
    os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (look.st_size, look.st_mtime_ns, look.st_ino)


def hand_out(b: Bench, made: Material, output: Path) -> None:
    """Link it to an output, as a client does, and say so."""
    path = b.store.path(made.task)
    before = path.stat().st_ctime_ns
    os.link(path, output)
    b.store.linked(made.task, made.generation, before, path.stat().st_ctime_ns)
    b.settle()


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path | None]:
    """A tmpfs on `folder` with these mount options; None where this user may not mount. Never stays mounted."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        # Lazily: whatever a failed test still has open must not keep it.
        subprocess.run(["umount", "-l", str(folder)], check=True)
