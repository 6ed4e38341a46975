"""How many hosts a broker had at once, kept in its home: after a restart it has the first content cut for as many.
Nothing else of its peers outlives a broker."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "hosts"
#: Written anew when there are so many times as many as written.
NOTABLE = 1.25
#: Far more than one broker carries; what else the file says is no number of hosts.
MOST = 10**6


class Census:
    """The number, and its file.

    Law: `hosts` is half of what the earlier life had at most, so that a fleet that shrank is forgotten after some lives
    in which somebody came; then the file says at least four fifths of what this life had, if it could be written.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / FILE
        #: to begin with
        self.hosts = self._read() // 2
        self._written = 0

    def note(self, most_hosts: int) -> None:
        """So many there were at once, in this life or to begin with; somebody is here."""
        if most_hosts > NOTABLE * self._written:
            self._written = most_hosts
            self._write()

    def _read(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            text = self._file.read_text(encoding="ascii")
            return int(text) if len(text) <= len(str(MOST)) and 0 <= int(text) <= MOST else 0
        return 0

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        try:
            new.write_text(str(self._written), encoding="ascii")
            os.replace(new, self._file)
        except OSError as error:
            # Worth a line and nothing more: the first content after a restart is cut for fewer hosts.
            log.warning("%s cannot be written: %s", self._file, error.strerror or error)
