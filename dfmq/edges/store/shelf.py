"""One task in the store: what of its content is held, and its two files. Which tasks there are is in shelves."""

from __future__ import annotations

import contextlib
import logging
import os

from dfmq.edges.store import journal, space
from dfmq.edges.store.journal import ChunkLine, Opening, Stamp
from dfmq.edges.store.space import DATA, JOURNAL
from dfmq.errors import StoreError
from dfmq.model import bitfield
from dfmq.model.ids import TaskId, short
from dfmq.model.pieces import DIGEST_BYTES, PieceMap
from dfmq.model.task import Content, Shelved

log = logging.getLogger(__name__)

#: A chunk's line takes about 30 octets with its share of the record around it.
LINE_BYTES = 40
#: What a journal has beside its opening and its lines: marks of syncs, the last record.
_MARKS_BYTES = 256


class Shelf:
    """One generation of one task's content, in one data file for as long as the shelf lives.

    Law: a chunk is in `stored` only when its octets are in the file and its line is in the journal; `digests` has the
    digest of every stored chunk. Only the writer's thread changes a shelf; the owner's thread reads it.
    """

    def __init__(self, folder: str, task: TaskId, opening: Opening, inode: int) -> None:
        self.folder = folder
        self.data_path = f"{folder}/{DATA}"
        self.journal_path = f"{folder}/{JOURNAL}"
        self.task = task
        self.opening = opening
        self.content = opening.content
        #: of the data file; a path that leads to another file is not ours
        self.inode = inode
        #: piece → its stored chunks, bit set
        self.stored: dict[int, int] = {}
        #: piece → room for the digests of all its chunks
        self.digests: dict[int, bytearray] = {}
        #: how many pieces are whole
        self.whole_count = 0
        #: how the data file looked when the last chunk was written; None: not finished
        self.stamp: Stamp | None = None
        self.data_fd = -1
        self.journal_fd = -1
        self.journal_bytes = 0
        #: written since the last fdatasync began
        self.unsynced_bytes = 0
        self.is_syncing = False
        #: another sync is wanted when the one going on is done
        self.must_sync = False
        #: the disk has set blocks aside for all of it
        self.is_allocated = False
        #: a growing content's leave to grow, octets
        self.granted = 0
        #: a write went wrong: nothing more is written until the task is opened again
        self.is_broken = False

    # ── what is held ─────────────────────────────────────────────────────────────────────────────────────────────

    def has(self, piece: int, chunk: int) -> bool:
        """The chunk is stored."""
        return bool(self.stored.get(piece, 0) >> chunk & 1)

    def add(self, line: ChunkLine) -> None:
        """The chunk is stored from now on."""
        piece, chunk, digest = line
        count = self.content.cut.chunks_in(piece)
        bits = self.stored.get(piece, 0)
        if piece not in self.digests:
            self.digests[piece] = bytearray(count * DIGEST_BYTES)
        self.digests[piece][chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES] = digest
        self.stored[piece] = now = bits | 1 << chunk
        whole = bitfield.full(count)
        self.whole_count += (now == whole) - (bits == whole)

    def digest(self, piece: int, chunk: int) -> bytes:
        """The digest of a stored chunk."""
        return bytes(self.digests[piece][chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES])

    def lines(self) -> list[ChunkLine]:
        """Every stored chunk."""
        return [
            ChunkLine(piece, chunk, self.digest(piece, chunk))
            for piece, bits in self.stored.items()
            for chunk in bitfield.members(bits)
        ]

    def extent(self) -> int:
        """Octets the data file must have at least."""
        if not self.stored:
            return 0
        piece = max(self.stored)
        offset, length = self.content.cut.chunk_span(piece, self.stored[piece].bit_length() - 1)
        # A growing content's last chunk may be short.
        return offset + (length if self.content.cut.length is not None else 1)

    @property
    def is_complete(self) -> bool:
        """Every piece is stored, and the content is not growing."""
        return self.content.cut.length is not None and self.whole_count == self.content.cut.count

    def holdings(self, cut: PieceMap) -> tuple[int, dict[int, int], dict[int, bytes]]:
        """(held, partial, proofs) as Shelved names them, by the pieces of `cut`."""
        held = []
        partial, proofs = {}, {}
        for piece, bits in self.stored.items():
            count = cut.chunks_in(piece)
            proofs[piece] = bytes(self.digests[piece][: count * DIGEST_BYTES])
            if bits == bitfield.full(count):
                held.append(piece)
            else:
                partial[piece] = bits
        return bitfield.of(held), partial, proofs

    def shelved(self) -> Shelved:
        """What there is to tell about the task."""
        held, partial, proofs = self.holdings(self.content.cut)
        opening = self.opening
        names = opening.etag, opening.last_modified, opening.strong_date
        return Shelved(self.content, held, partial, proofs, opening.request, *names)

    def continues(self, content: Content) -> bool:
        """Whether this is the same content, sealed or not."""
        ours, theirs = self.content.cut, content.cut
        same_cut = ours.piece_length == theirs.piece_length and ours.chunk_length == theirs.chunk_length
        same_length = ours.length == theirs.length or None in (ours.length, theirs.length)
        return (
            same_cut
            and same_length
            and self.content.generation == content.generation
            and self.content.algorithm == content.algorithm
        )

    def seal(self, length: int) -> None:
        """The growing content has ended. Raises StoreError if chunks beyond that end are stored."""
        old = self.content
        cut = PieceMap(length, old.cut.piece_length, old.cut.chunk_length)
        for piece, bits in self.stored.items():
            if bits >> cut.chunks_in(piece):
                raise StoreError(f"task {short(self.task)} is sealed at {length}, but piece {piece} goes on beyond it")
        self.content = Content(old.generation, cut, old.algorithm)
        self.whole_count = sum(bits == bitfield.full(cut.chunks_in(p)) for p, bits in self.stored.items())

    # ── the files ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_open(self) -> bool:
        """The files are open for writing."""
        return self.data_fd >= 0

    def open_files(self) -> None:
        """Open for writing, unless it is. Raises OSError, and StoreError if the data file is not the one we knew."""
        if self.is_open:
            return
        self.data_fd = os.open(self.data_path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(self.data_fd).st_ino != self.inode:
            self.close_files()
            raise StoreError(f"{self.data_path} was replaced by another file; ask for the content again")
        try:
            self.journal_fd = os.open(self.journal_path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            self.close_files()
            raise
        self.journal_bytes = os.fstat(self.journal_fd).st_size

    def close_files(self) -> None:
        """Close what is open for writing. Twice does no harm."""
        for fd in (self.data_fd, self.journal_fd):
            if fd >= 0:
                os.close(fd)
        self.data_fd = self.journal_fd = -1

    def append(self, record: bytes) -> None:
        """Add a record to the open journal, all of it or nothing. Raises OSError."""
        view = memoryview(record)
        try:
            while view:
                view = view[os.write(self.journal_fd, view) :]
        except OSError:
            os.ftruncate(self.journal_fd, self.journal_bytes)
            raise
        self.journal_bytes += len(record)

    def note(self, lines: list[ChunkLine]) -> None:
        """Journal chunks whose octets are in the file, then count them as stored. Raises OSError."""
        self.append(journal.chunks_record(lines))
        for line in lines:
            self.add(line)

    def finish(self, stamp: Stamp) -> None:
        """Journal how the file of the complete content looks. Raises OSError, StoreError."""
        self.open_files()
        self.append(journal.finished_record(stamp))
        self.stamp = stamp

    def was_touched(self) -> bool:
        """The file of the complete content does not look any more as it did: it may have been written to."""
        if self.stamp is None:
            return False
        try:
            return not self.stamp.fits(Stamp.of(os.stat(self.data_path)))
        except OSError:
            return True

    def promised(self) -> int:
        """Octets granted to this task for which the disk has no blocks set aside yet."""
        if not self.is_open:
            return 0
        length = self.content.cut.length
        return max(0, (self.granted if length is None else length) - space.allocated(self.data_fd))

    def touch(self) -> None:
        """Note the use: eviction looks at the journal's time."""
        try:
            os.utime(self.journal_fd if self.journal_fd >= 0 else self.journal_path)
        except OSError as error:
            log.warning("task %s: its use cannot be noted: %s", short(self.task), error)


def need(opening: Opening) -> int:
    """Octets of disk that a new content takes, with its journal and its folder, as far as its length is known."""
    content, lines = space.in_blocks(opening.content.cut.length or 0), space.in_blocks(_journal_bytes(opening))
    return content + lines + space.in_blocks(1)


def _journal_bytes(opening: Opening) -> int:
    cut = opening.content.cut
    chunks = -(-(cut.length or 0) // cut.chunk_length)
    return len(journal.opening_record(opening)) + LINE_BYTES * chunks + _MARKS_BYTES


def create(folder: str, task: TaskId, opening: Opening) -> Shelf:
    """Make the files of a new content, all of it allocated when its length is known, in the folder that is there.
    Raises OSError."""
    # The data file's mode is what the user's umask gives: a hard link to it may become the user's output. The home's
    # own mode keeps others out of it here.
    data_fd = os.open(f"{folder}/{DATA}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    shelf = Shelf(folder, task, opening, os.fstat(data_fd).st_ino)
    shelf.data_fd = data_fd
    cut = opening.content.cut
    try:
        shelf.journal_fd = os.open(
            shelf.journal_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        if cut.length is not None:
            shelf.is_allocated = space.allocate(data_fd, cut.length)
            space.reserve(shelf.journal_fd, _journal_bytes(opening))
        shelf.append(journal.opening_record(opening))
    except OSError:
        shelf.close_files()
        raise
    return shelf


def remove(folder: str) -> None:
    """Delete a task's files, its journal first: data without a journal is nothing, a journal without data a lie.
    A data file that is mapped or has a second name lives on there. Raises OSError."""
    for name in (JOURNAL, JOURNAL + ".new", DATA):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}")
    if os.path.isdir(folder):
        os.rmdir(folder)
