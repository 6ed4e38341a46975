"""The journal of one task on disk: records ⇄ octets. What is believed of a record is decided in shelf.

A journal is a row of msgpack arrays [kind, body, check]; `check` is xxh32 over kind and body, so that neither a torn
tail nor a flipped bit is ever taken for a proof. Records are only appended; the first one is the opening.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec
import xxhash

from dfmq.errors import StoreError
from dfmq.model.pieces import DIGEST_BYTES, flaw
from dfmq.model.task import Content, Request

#: Of the journal, not of the protocol. Another version is not read: contents can be fetched anew.
FORMAT_VERSION = 1

_CHUNKS, _SEALED, _SYNCED, _FINISHED, _OPENING = 1, 2, 3, 4, 5
#: An opening carries a request, whose fields are bounded; no other record is longer than a batch of chunks.
_MOST_RECORD = 1 << 22


class Opening(msgspec.Struct, frozen=True):
    """The first record: which content this is, and in which boot of the host the records after it were written."""

    version: int
    task: bytes
    boot: str
    content: Content
    request: Request
    etag: str = ""
    last_modified: str = ""
    #: no, in journals of before there was this
    strong_date: bool = False


class Stamp(NamedTuple):
    """How the data file looked when the last byte was written, or when its octets were proven last; another look means
    that somebody else may have written to it."""

    size: int
    mtime_ns: int
    inode: int
    #: what no writer can set back; a second name changes it too. 0: not known, in journals of before there was one
    ctime_ns: int = 0

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The stamp of a file as it looks now."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns)

    def is_like(self, now: Stamp) -> bool:
        """As far as names, modes and times that were set back do not count, it looks the same."""
        return self[:3] == now[:3]

    def fits(self, now: Stamp) -> bool:
        """It looks the same: nobody has written to it since."""
        return self.is_like(now) and self.ctime_ns in (0, now.ctime_ns)


class ChunkLine(NamedTuple):
    """A chunk that was on disk when the line was written."""

    piece: int
    chunk: int
    digest: bytes


class Replay(msgspec.Struct):
    """All a journal says. `size`: octets up to the end of the last good record; what is beyond is torn."""

    opening: Opening
    size: int = 0
    lines: list[ChunkLine] = []
    #: position of each line's record, to compare with `synced`
    positions: list[int] = []
    #: every line whose record begins below this is on the disk itself, not only in the host's memory
    synced: int = 0
    sealed: int | None = None
    stamp: Stamp | None = None


def boot_id() -> str:
    """What changes with each boot of the host; "" where there is none: then no unsynced line is believed later."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def opening_record(opening: Opening) -> bytes:
    """The first record of a journal."""
    return _record(_OPENING, msgspec.msgpack.encode(opening))


def chunks_record(lines: list[ChunkLine]) -> bytes:
    """These chunks are written."""
    return _record(_CHUNKS, msgspec.msgpack.encode(lines))


def sealed_record(length: int) -> bytes:
    """The growing content has ended at `length` bytes."""
    return _record(_SEALED, msgspec.msgpack.encode(length))


def synced_record(mark: int) -> bytes:
    """The data of every record that begins below `mark` octets of this journal is on the disk."""
    return _record(_SYNCED, msgspec.msgpack.encode(mark))


def finished_record(stamp: Stamp) -> bytes:
    """The content is whole, and its file looked like this then."""
    return _record(_FINISHED, msgspec.msgpack.encode(stamp))


def _record(kind: int, body: bytes) -> bytes:
    packed: bytes = msgpack.packb((kind, body, _check(kind, body)))
    return packed


def _check(kind: int, body: bytes) -> int:
    return xxhash.xxh32_intdigest(body, kind)


_opening = msgspec.msgpack.Decoder(Opening)
_lines = msgspec.msgpack.Decoder(list[ChunkLine])
_number = msgspec.msgpack.Decoder(int)
_stamp = msgspec.msgpack.Decoder(Stamp)


def replay(data: bytes, task: bytes) -> Replay:
    """Read a journal as far as it is whole. Raises StoreError when not even the opening is to be had, or when it is
    another task's or another format's."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(data)), use_list=True, strict_map_key=True)
    unpacker.feed(data)
    first = _next(unpacker)
    if first is None or first[0] != _OPENING:
        raise StoreError("the journal has no readable opening")
    story = Replay(_read_opening(first[1], task))
    story.size = unpacker.tell()
    while (record := _next(unpacker)) is not None and _take(story, *record):
        story.size = unpacker.tell()
    return story


def _next(unpacker: Any) -> tuple[int, bytes] | None:
    """The next whole and true record; None at the end, and at whatever is not one."""
    try:
        record = unpacker.unpack()
    except (msgpack.OutOfData, msgpack.UnpackException, ValueError, RecursionError):
        return None
    if not isinstance(record, list) or len(record) != 3:
        return None
    kind, body, check = record
    if not isinstance(kind, int) or not isinstance(body, bytes) or len(body) > _MOST_RECORD:
        return None
    if not 0 <= kind <= _OPENING or check != _check(kind, body):
        return None
    return kind, body


def _read_opening(body: bytes, task: bytes) -> Opening:
    try:
        opening = _opening.decode(body)
    except msgspec.DecodeError as error:
        raise StoreError(f"the journal's opening is not readable: {error}") from error
    if opening.version != FORMAT_VERSION:
        raise StoreError(f"the journal has format {opening.version}, this dfmq reads {FORMAT_VERSION}")
    if opening.task != task:
        raise StoreError("the journal is another task's")
    if wrong := flaw(opening.content.cut):
        raise StoreError(f"the journal's cut is none: {wrong}")
    return opening


def _take(story: Replay, kind: int, body: bytes) -> bool:
    """Add a record to the story; False when it makes no sense."""
    try:
        if kind == _CHUNKS:
            lines = _lines.decode(body)
            if any(p < 0 or c < 0 or len(d) != DIGEST_BYTES for p, c, d in lines):
                return False
            story.lines += lines
            story.positions += [story.size] * len(lines)
        elif kind == _SEALED:
            length = _number.decode(body)
            if flaw(story.opening.content.cut.sealed(length)):
                return False
            story.sealed = length
        elif kind == _SYNCED:
            story.synced = _number.decode(body)
        elif kind == _FINISHED:
            story.stamp = _stamp.decode(body)
        elif kind == _OPENING:
            again = _opening.decode(body)
            if again.task != story.opening.task or again.content.generation != story.opening.content.generation:
                return False
            # The same content with validators that were not known at first; the cut stays the first one's.
            story.opening = msgspec.structs.replace(again, content=story.opening.content)
        else:
            return False
    except msgspec.DecodeError:
        return False
    return True
