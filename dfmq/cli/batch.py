"""A list of contents to get: reading it, naming each line that cannot be done. Getting them is in nodes/errands."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dfmq.errors import DfmqError, SettingsError
from dfmq.model.digest import HEX_LENGTH
from dfmq.model.task import Request, file_name, shown
from dfmq.nodes.errands import Errand

#: A URL may have 8192 characters, a path 4096.
MOST_LINE_BYTES = 32 * 1024

_DIGEST = re.compile(rf"(?:{'|'.join(HEX_LENGTH)}):", re.IGNORECASE)


class Line(NamedTuple):
    """One line that can be done."""

    number: int
    url: str
    target: str
    digest: str


class Faulty(NamedTuple):
    """One line that cannot, and why."""

    number: int
    error: DfmqError


def read_list(path: str) -> list[bytes]:
    """The lines of the list at `path`, `-` for standard input. Raises SettingsError when it cannot be read."""
    if path == "-" and sys.stdin is None:
        raise SettingsError("list -: standard input is closed; lead a list there, or name a file")
    try:
        if path == "-":
            return sys.stdin.buffer.read().split(b"\n")
        return Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise SettingsError(f"list {path}: {error.strerror}; give a readable file with one URL a line") from error


def parse_line(raw: bytes) -> tuple[str, str, str] | None:
    """`URL [OUTPUT] [DIGEST]` → the three, "" for what is not given; None for a blank line or a comment.

    Fields stand apart by blanks; quotes and backslashes are a shell's. Raises SettingsError.
    """
    if len(raw) > MOST_LINE_BYTES:
        raise SettingsError(f"the line has {len(raw)} octets; at most {MOST_LINE_BYTES} are read")
    try:
        text = raw.decode().strip().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise SettingsError("the line is not UTF-8 text") from error
    if not text or text.startswith("#"):
        return None
    fields = _fields(text)
    comment = next((i for i, field in enumerate(fields) if i and field.startswith("#")), len(fields))
    url, *rest = fields[:comment]
    digest = rest.pop() if rest and _DIGEST.match(rest[-1]) else ""
    if len(rest) > 1:
        raise SettingsError("too many fields: write URL [OUTPUT] [DIGEST], and quote a name that has blanks in it")
    return url, rest[0] if rest else "", digest


def _fields(text: str) -> list[str]:
    # shlex takes 100 µs a line, and hardly a line needs it.
    if not any(c in text for c in "'\"\\"):
        return text.split()
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"the quotes do not match ({error})") from error


class Plan:
    """What a list comes to: the lines to be done, in order, and the faulty ones. Needs a few hundred octets a line.

    Law: no two lines to be done have the same output, by whatever links it is named, but for /dev/null.
    """

    def __init__(self, directory: Path, check: Callable[[Path], None]) -> None:
        """`directory`: where outputs without an absolute path go. `check` raises DfmqError for a bad output."""
        self._directory = directory
        self._check = check
        #: by where it is in fact; what goes nowhere, with what it is
        self._by_target: dict[str, Line] = {}
        #: folder as it is named → where it is in fact
        self._folders: dict[str, str] = {}
        self.faulty: list[Faulty] = []
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self._by_target)

    def add_all(self, lines: Iterable[bytes], request: Callable[[str, str], Request]) -> None:
        """Read every line. `request` makes a Request of a URL and a digest; it may raise SettingsError."""
        for number, raw in enumerate(lines, 1):
            try:
                parsed = parse_line(raw)
                if parsed is not None:
                    self._add(number, parsed, request)
            except DfmqError as error:
                self.faulty.append(Faulty(number, error))

    def _add(self, number: int, parsed: tuple[str, str, str], request: Callable[[str, str], Request]) -> None:
        url, output, digest = parsed
        request(url, digest)
        if output == "-":
            raise SettingsError("output -: standard output takes one content, not a list; name a file (./- is one)")
        if output.endswith("/"):
            raise SettingsError(f"output {output}: it is a directory; name a file")
        target = os.path.abspath(self._directory / (output or file_name(url)))
        place = self._real(target)
        if place == os.devnull:
            # Any number may go there, each once.
            place = f"{place} {url} {digest}"
        earlier = self._by_target.get(place)
        if earlier is None:
            self._check(Path(target))
            self._by_target[place] = Line(number, url, target, digest)
        elif (earlier.url, earlier.digest) == (url, digest):
            self.notes.append(f"line {number}: the same as line {earlier.number}, done once")
        else:
            raise SettingsError(
                f"output {target} is that of line {earlier.number} ({shown(earlier.url)}) already: name another"
            )

    def _real(self, target: str) -> str:
        """Where a target is once every link is followed. Folders are looked up once: lists are long, folders few."""
        try:
            if os.path.islink(target):
                return os.path.realpath(target)
            folder, name = os.path.split(target)
            if folder not in self._folders:
                self._folders[folder] = os.path.realpath(folder)
        except (OSError, ValueError):
            return target  # the check says what is wrong with it
        return os.path.join(self._folders[folder], name)

    def errands(self, request: Callable[[str, str], Request]) -> Iterator[Errand]:
        """The lines to be done; each is made when its turn comes."""
        for line in self._by_target.values():
            yield Errand(request=request(line.url, line.digest), target=Path(line.target), line=line.number)
