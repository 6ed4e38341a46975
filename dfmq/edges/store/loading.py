"""What an earlier life left of a task: journal and data → Shelf, and what of it must first be proven again.

Which lines are believed: of a finished file that still looks as it did all, when they were written in this boot of the
host (its memory outlives a killed process); else those below the last sync mark. The others are read and compared with
their digests, and so is all that there is of an unfinished file: nothing says whether it is still the file the lines
speak of, and not a copy of it, made meanwhile, or changed by somebody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from dfmq.edges import hashing
from dfmq.edges.store import journal
from dfmq.edges.store.journal import ChunkLine, Opening, Replay, Stamp
from dfmq.edges.store.shelf import LINE_BYTES, Shelf
from dfmq.edges.store.space import DATA, JOURNAL
from dfmq.errors import StoreError
from dfmq.model.ids import TaskId

#: A journal longer than this is not read at all; it would be one of a content of about 3 TiB.
_MOST_JOURNAL = 1 << 27
_LINES_A_RECORD = 4096


class Find(NamedTuple):
    """A task's remains. `believed` lines count at once, `doubtful` ones once they are proven."""

    shelf: Shelf
    believed: list[ChunkLine]
    doubtful: list[ChunkLine]
    #: the finished content was changed: one bad chunk and all of it goes
    was_touched: bool
    #: somebody else may have a name for the file
    is_shared: bool
    #: the journal is to be written anew: torn, of another boot, or much longer than it need be
    must_rewrite: bool
    #: the content was whole when it was last written, and still looks like it
    is_finished: bool
    #: the believed lines, the first so many, are on the disk itself
    synced_count: int
    #: the host was started anew since: what can be read now is on the disk itself
    was_rebooted: bool
    #: how the data file looked before anything of it was read
    look: Stamp
    #: how it looked when the content was finished, if it was
    stamp: Stamp | None
    #: every chunk has a line
    is_whole: bool

    @property
    def only_ctime_differs(self) -> bool:
        """A finished content was touched, maybe by no more than another name."""
        return self.was_touched and self.is_whole and self.stamp is not None and self.stamp.is_like(self.look)


def find(folder: str, task: TaskId, boot: str) -> Find:
    """Read a task's remains. Raises FileNotFoundError when there are none, StoreError when they are of no use, and
    OSError."""
    # Mostly there is nothing, and that is seen by one look.
    size = os.stat(f"{folder}/{JOURNAL}").st_size
    if size > _MOST_JOURNAL:
        raise StoreError(f"the journal has {size} octets")
    octets = Path(folder, JOURNAL).read_bytes()
    story = journal.replay(octets, task)
    try:
        look = os.stat(f"{folder}/{DATA}")
    except FileNotFoundError as error:
        raise StoreError("the data file is gone") from error
    shelf = Shelf(folder, task, _opening_now(story, boot), look.st_ino)
    lines, synced = _usable_lines(shelf, story, look.st_size)
    same_boot = bool(boot) and story.opening.boot == boot
    is_whole = _is_whole(shelf, lines)
    if look.st_nlink > 1 and not is_whole:
        # Writing on would write into somebody's file: an output of an earlier life whose journal lost its end.
        raise StoreError("it is unfinished, and its file has a second name")
    # Without a stamp nobody was given the content, so its file has no second name, unless somebody made one.
    was_touched = not story.stamp.fits(Stamp.of(look)) if story.stamp else is_whole and look.st_nlink > 1
    is_as_it_was = story.stamp is not None and not was_touched
    believed_count = 0 if not is_as_it_was else len(lines) if same_boot else synced
    unfinished = is_whole and story.stamp is None
    wanted = LINE_BYTES * len(lines) + 16384
    return Find(
        shelf,
        lines[:believed_count],
        lines[believed_count:],
        was_touched,
        look.st_nlink > 1,
        unfinished or was_touched or not same_boot or len(octets) != story.size or story.size > 2 * wanted,
        is_as_it_was,
        min(synced, believed_count),
        bool(boot and story.opening.boot) and not same_boot,
        Stamp.of(look),
        story.stamp,
        is_whole,
    )


def find_again(shelf: Shelf) -> Find:
    """A complete content whose file was touched since: none of it is believed. Raises StoreError when it is gone."""
    try:
        look = Stamp.of(os.stat(shelf.data_path))
    except FileNotFoundError as error:
        raise StoreError("the data file is gone") from error
    shelf.close_files()
    return Find(shelf, [], shelf.lines(), True, True, True, False, 0, False, look, shelf.stamp, True)


def _opening_now(story: Replay, boot: str) -> Opening:
    """The opening as it would be written today: sealed, in this boot."""
    content = story.opening.content
    if story.sealed is not None:
        content = msgspec.structs.replace(content, cut=msgspec.structs.replace(content.cut, length=story.sealed))
    return msgspec.structs.replace(story.opening, boot=boot, content=content)


def _usable_lines(shelf: Shelf, story: Replay, size: int) -> tuple[list[ChunkLine], int]:
    """The last line of every chunk that lies in the content and in the file, the synced ones first, and how many
    those are."""
    cut = shelf.content.cut
    synced: dict[tuple[int, int], ChunkLine] = {}
    later: dict[tuple[int, int], ChunkLine] = {}
    for line, position in zip(story.lines, story.positions, strict=True):
        offset, length = cut.chunk_span(line.piece, line.chunk)
        # A growing content's last chunk may be short, but nobody knows that it is the last: it is left out here, and
        # the source is asked for it again.
        inside = line.chunk < cut.chunks_in(line.piece) and length > 0 and offset + length <= size
        if not inside:
            continue
        key = line.piece, line.chunk
        if position < story.synced:
            synced[key] = line
        elif key not in synced:
            later[key] = line
    return [*synced.values(), *later.values()], len(synced)


def _is_whole(shelf: Shelf, lines: list[ChunkLine]) -> bool:
    cut = shelf.content.cut
    if cut.length is None:
        return False
    pieces, rest = divmod(cut.length, cut.piece_length)
    return len(lines) == pieces * -(-cut.piece_length // cut.chunk_length) + -(-rest // cut.chunk_length)


def prove(shelf: Shelf, lines: Iterable[ChunkLine], is_stopped: Callable[[], bool]) -> list[ChunkLine]:
    """Those lines whose octets in the file are what they were. Slow: for a worker thread. Raises OSError."""
    digest = hashing.chunk_digester(shelf.content.algorithm)
    cut = shelf.content.cut
    room = memoryview(bytearray(cut.chunk_length))
    good = []
    fd = os.open(shelf.data_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for line in sorted(lines):
            offset, length = cut.chunk_span(line.piece, line.chunk)
            got = os.preadv(fd, [room[:length]], offset)
            if is_stopped():
                break
            if got == length and digest(room[:length]) == line.digest:
                good.append(line)
    finally:
        os.close(fd)
    return good


def rewrite(shelf: Shelf, lines: list[ChunkLine], synced_count: int) -> None:
    """Write a short journal in place of the old one: the opening, these lines, the first `synced_count` of them under
    a sync mark. Raises OSError."""
    fresh = shelf.journal_path + ".new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(journal.opening_record(shelf.opening))
        _write_lines(file, lines[:synced_count])
        file.write(journal.synced_record(file.tell()))
        _write_lines(file, lines[synced_count:])
        if shelf.stamp is not None:
            file.write(journal.finished_record(shelf.stamp))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, shelf.journal_path)


def _write_lines(file: BinaryIO, lines: list[ChunkLine]) -> None:
    for first in range(0, len(lines), _LINES_A_RECORD):
        file.write(journal.chunks_record(lines[first : first + _LINES_A_RECORD]))
