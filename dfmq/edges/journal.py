"""A node's journal: one JSON line a record, for people, tests and tools. Bounded on disk. Metrics, which count what is
left out here too, are elsewhere."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import msgspec

from dfmq.edges import clock
from dfmq.model.ids import short

log = logging.getLogger(__name__)

#: one journal and one before it
MOST_BYTES = 16 << 20
#: records that come with every lease. Of these so many are written between two flushes, 1000 a second; the others are
#: counted: a broker that grants 20,000 a second would write lines a quarter of its time and keep the last four seconds.
ROUTINE = frozenset({"lease.granted", "lease.done", "want.parked"})
MOST_ROUTINE = 50
#: records of every piece: written by the next flush, or with the next record that is not one of these
UNHURRIED = ROUTINE | {"piece.held", "stream.served"}
#: Other records are written at once, up to so many between two flushes: a small content makes seven of them, and when
#: thousands are got a write for each would be a twentieth of the broker's work.
MOST_AT_ONCE = 8


class Journal:
    """Appends records to a file; moves it to `.1` when it is full. A disk that refuses is reported once, not raised; it
    is tried again with the next records."""

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._node = node
        self._lines: list[bytes] = []
        #: of a line of which only a part is in the file yet
        self._rest = b""
        #: records that the disk did not take
        self._lost = 0
        self._is_refused = self._is_reported = False
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._written = path.stat().st_size if path.exists() else 0
        self._routine = 0
        self._at_once = 0
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, name: str, fields: dict[str, Any]) -> None:
        """One record; written at once, or by the next `flush` when it is one of many."""
        if self._file is None:
            return
        if name in ROUTINE:
            self._routine += 1
            if self._routine > MOST_ROUTINE:
                return
        self._put(name, fields)
        if name not in UNHURRIED and self._at_once < MOST_AT_ONCE:
            self._at_once += 1
            self._write()

    def _put(self, name: str, fields: dict[str, Any]) -> None:
        line: dict[str, Any] = {"at": round(clock.wall(), 3), "node": self._node, "record": name}
        for key, value in fields.items():
            line[key] = short(value) if isinstance(value, bytes) else value
        self._lines.append(self._encoder.encode(line))

    def flush(self) -> None:
        """Write the records that were added since, and how many were left out."""
        self._lost += max(0, self._routine - MOST_ROUTINE)
        self._routine = self._at_once = 0
        # While the disk refuses, new records are what tries it again.
        if self._lost and (self._lines or not self._is_refused):
            lost, self._lost = self._lost, -1
            self._put("records.omitted", {"count": lost})
            self._write()
            # That line is none of the records that are lost; when it is lost, what it says stands.
            self._lost = lost + self._lost if self._is_refused else 0
        self._write()

    def _write(self) -> None:
        if self._file is None or not (self._lines or self._rest):
            return
        data = self._rest + b"\n".join([*self._lines, b""])
        count = len(self._lines)
        self._lines.clear()
        try:
            written = os.write(self._file, data)
        except OSError as error:
            # The rest of a line that is there in part is kept: it would be torn.
            self._lose(count, error)
            return
        # A disk that was just filled takes a part: what is left comes next.
        self._rest = data[written:]
        self._is_refused = False
        self._written += written
        if self._written > MOST_BYTES and not self._rest:
            self._turn_over()

    def _lose(self, count: int, error: OSError) -> None:
        """These records cannot be kept until the disk takes them; those that come then may be."""
        self._lost += count
        self._at_once = MOST_AT_ONCE
        self._is_refused = True
        if not self._is_reported:
            self._is_reported = True
            log.warning("journal %s: %s; records are left out whenever the disk refuses", self._path, error)

    def _turn_over(self) -> None:
        assert self._file is not None
        try:
            os.replace(self._path, self._path.with_suffix(self._path.suffix + ".1"))
            fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            log.warning("journal %s: %s; no more records are written", self._path, error)
            os.close(self._file)
            self._file = None
            return
        os.close(self._file)
        self._file, self._written = fresh, 0

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None
