"""The quick way of dfmq-get: one plain URL through a peer that runs, nobody at a terminal. It loads nothing that only
the others need, and takes a third of their CPU time (decision 0016). What is less plain, and what does not go as it
should, is the whole command's: it is begun as if nothing had been tried, but for what was learned (Known)."""

from __future__ import annotations

import os
import sys
import time

from msgpack import packb, unpackb

from dfmq import __version__
from dfmq.cli import ending
from dfmq.cli.home import home_path
from dfmq.cli.lines import (
    ALONE,
    INTERRUPTED,
    LINE_SECONDS,
    failure_line,
    note_line,
    printable,
    progress_line,
    receipt_line,
)
from dfmq.edges import output, targets
from dfmq.edges.bus.local import local_endpoint
from dfmq.edges.bus.zmtp import Dealer, Gone, Silence
from dfmq.errors import DfmqError, ProtocolError, from_code
from dfmq.wire.version import SIGNATURE

#: typing's own takes 3 CPU-ms to load, re with an expression to compile 5, pathlib 7
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: A living peer answers in milliseconds. One that does not is judged by the whole command.
PATIENCE_SECONDS = 2.0
#: The peer is asked whether it lives after so long without a word; it says how far it is every second and a half.
SILENCE_SECONDS = 2.0

_FLAGS = {"-q": "quiet", "--quiet": "quiet", "--no-source": "no_source"}
_VALUES = {"-o": "output", "--output": "output", "--home": "home", "--broker": "broker"}
#: Variables that are read here; any other DFMQ_* may be a setting.
_VARIABLES = {"DFMQ_HOME", "DFMQ_BROKER", "DFMQ_DEBUG"}
_LETTERS_AND_DIGITS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_OF_A_HOST = _LETTERS_AND_DIGITS | frozenset(".-")
_OF_A_PATH = _LETTERS_AND_DIGITS | frozenset("._~+=,/-")
MOST_URL, MOST_NAME, MOST_PORT = 2048, 255, 65_535
#: The one get of this connection.
_GET = 1
_ASK = {"op": "ask"}


class Plain:
    """What is asked for."""

    __slots__ = ("brokers", "home", "no_source", "quiet", "target", "url")

    def __init__(self, url: str, target: str, home: str, brokers: set[str], *, quiet: bool, no_source: bool) -> None:
        self.url = url
        self.target = target
        self.home = home
        #: what the peer must be configured with; empty: whatever it has
        self.brokers = brokers
        self.quiet = quiet
        self.no_source = no_source


class Known:
    """What the whole command must know of an attempt that came to nothing."""

    __slots__ = ("brokers", "is_told_alone")

    def __init__(self) -> None:
        #: of the peer that was found: one that is started in its place gets the same
        self.brokers: tuple[str, ...] = ()
        self.is_told_alone = False


def attempt(arguments: Sequence[str], environment: Mapping[str, str], known: Known) -> int | None:
    """The exit status; None: this is for the whole command, and nothing was done but what `known` says. Raises NoSpace,
    StoreError, BrokenPipeError when what we print cannot be written."""
    if list(arguments) == ["--version"]:
        print(f"dfmq-get {__version__}")
        return 0
    plain = read(arguments, environment)
    if plain is None or not (plain.quiet or _is_unwatched()):
        return None
    ending.end_on_signals()
    try:
        try:
            targets.check_target(plain.target)
            if targets.is_stream(plain.target):
                # Its reader may have to be waited for.
                return None
            endpoint = local_endpoint(plain.home)
            dealer = Dealer(endpoint.removeprefix("ipc://"), PATIENCE_SECONDS)
        except (DfmqError, OSError, Silence):
            return None
        return _Talk(plain, dealer, known).run()
    except KeyboardInterrupt:
        print(note_line(INTERRUPTED), file=sys.stderr, flush=True)
        return ending.INTERRUPTED


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Plain | None:
    """What the arguments ask for, where it is plain."""
    if any(name.startswith("DFMQ_") and name not in _VARIABLES for name in environment):
        return None
    url, flags, values, brokers = "", set(), dict[str, str](), set[str]()
    rest = iter(arguments)
    for argument in rest:
        if argument in _FLAGS:
            flags.add(_FLAGS[argument])
        elif argument in _VALUES:
            name, value = _VALUES[argument], next(rest, "")
            if not value or value.startswith("-"):
                return None
            values[name] = value
            if name == "broker":
                brokers.add(value)
        elif not url and _is_plain(argument):
            url = argument
        else:
            return None
    name = values.get("output", url.rpartition("/")[2])
    if name in ("", ".", "..") or name.endswith("/") or len(name) > MOST_NAME or not url:
        return None
    if not brokers:
        brokers = set(environment.get("DFMQ_BROKER", "").replace(",", " ").split())
    home = home_path(values.get("home") or environment.get("DFMQ_HOME", ""))
    return Plain(url, _path(name), home, brokers, quiet="quiet" in flags, no_source="no_source" in flags)


def _path(name: str) -> str:
    """The path as pathlib writes it, and the whole command shows it."""
    root = "" if name[0] != "/" else "//" if name[:2] == "//" and name[2:3] != "/" else "/"
    return root + "/".join(part for part in name.split("/") if part not in ("", ".")) or "."


def _is_plain(url: str) -> bool:
    """A URL nothing needs to be judged about: what it names as a file is its last part as it stands, and there is
    nothing in it that may not be shown."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    if len(url) > MOST_URL or not slash or not _OF_A_PATH.issuperset(path):
        return False
    if scheme == "file":
        return not place
    host, colon, port = place.partition(":")
    return (
        scheme in ("http", "https")
        and _OF_A_HOST.issuperset(host)
        and host[-1:] in _LETTERS_AND_DIGITS
        and (not colon or _is_port(port))
    )


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 5 and int(text) <= MOST_PORT


def _is_unwatched() -> bool:
    """Nobody is shown a bar."""
    return not sys.stderr.isatty()


class _Talk:
    """What is said to the host's peer and heard from it, until the content stands in its place."""

    def __init__(self, plain: Plain, dealer: Dealer, known: Known) -> None:
        self._plain = plain
        self._dealer = dealer
        self._known = known
        self._name = printable(os.fsdecode(plain.target))
        self._is_asked = False
        self._is_open = False
        self._line_at = self._began_at = time.monotonic()

    def run(self) -> int | None:
        """The exit status; None when the peer is not what it should be. Raises as attempt does."""
        try:
            if not self._suits():
                return None
            self._is_open = True
            self._began_at = time.monotonic()
            request = {"url": self._plain.url}
            get = {"op": "get", "get": _GET, "request": request, "no_source": self._plain.no_source, "unwatched": True}
            # Should it die, its successor is to have its brokers.
            self._say(*([] if self._is_asked else [_ASK]), get)
            return self._until_done()
        except Gone:
            if self._is_open:
                # What is loaded for it is loaded for the whole command, which comes next.
                from dfmq.nodes.errands import BEGUN_AGAIN

                self._note(BEGUN_AGAIN)
            return None
        except (Silence, ProtocolError):
            return None
        finally:
            if self._is_open:
                self._release()
            self._dealer.close()

    def _suits(self) -> bool:
        """Whether it has the brokers it should have. Its answer is waited for only where it matters."""
        if self._plain.quiet and not self._plain.brokers:
            return True
        self._is_asked = True
        self._say(_ASK)
        answer = self._hear(PATIENCE_SECONDS)[0]
        self._answered(answer)
        if self._plain.brokers and self._plain.brokers != set(self._known.brokers):
            return False
        if answer.get("alone"):
            self._note(ALONE)
            self._known.is_told_alone = True
        return True

    def _answered(self, answer: dict[str, Any]) -> None:
        self._known.brokers = tuple(answer.get("brokers", ()))

    def _until_done(self) -> int:
        was_asked = False
        while True:
            try:
                messages = self._hear(SILENCE_SECONDS)
            except Silence:
                if was_asked:
                    raise
                was_asked = True
                self._say(_ASK)
                continue
            was_asked = False
            for message in messages:
                if message["op"] == "progress":
                    self._progressed(message)
                elif message["op"] == "answer":
                    self._answered(message)
                elif message["op"] == "done":
                    return self._place(message)
                elif message["op"] == "sorry":
                    return self._failed(from_code(message["code"], message["text"]))

    # ── the peer ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, *messages: dict[str, Any]) -> None:
        self._dealer.say([SIGNATURE, *map(packb, messages)])

    def _hear(self, seconds: float) -> list[dict[str, Any]]:
        """Messages of the peer. Raises ProtocolError for what none of ours would say, Gone, Silence."""
        frames = self._dealer.hear(seconds)
        if frames[0] != SIGNATURE:
            raise ProtocolError("no dfmq of our version")
        try:
            messages = [unpackb(body) for body in frames[1:]]
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        if not messages or not all(map(_is_sound, messages)):
            raise ProtocolError("it speaks otherwise, or did not understand us")
        return messages

    def _release(self, ctimes: tuple[int, int] = (0, 0)) -> None:
        self._is_open = False
        linked = ctimes != (0, 0)
        message = {"op": "release", "get": _GET, "linked": linked, "ctime_before": ctimes[0], "ctime_after": ctimes[1]}
        try:
            self._say(message)
        except (Gone, Silence):
            # It is gone, and knows nothing of this get any more; or will notice that we are.
            return

    # ── the user ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _note(self, text: str) -> None:
        if not self._plain.quiet:
            print(note_line(text), file=sys.stderr, flush=True)

    def _progressed(self, m: dict[str, Any]) -> None:
        now = time.monotonic()
        if not self._plain.quiet and now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            line = progress_line(
                self._name, m.get("held", 0), m.get("length"), m.get("bytes_per_second", 0), m.get("parents", 0)
            )
            print(line, file=sys.stderr, flush=True)

    def _failed(self, error: DfmqError) -> int:
        print(note_line(failure_line(self._plain.url, str(error))), file=sys.stderr, flush=True)
        return error.exit_status

    def _place(self, done: dict[str, Any]) -> int:
        """Bring the stored file to its place, let the peer have it back, and say so."""
        stored = done["path"]
        _, before = targets.look(stored)
        try:
            kind = output.place(stored, self._plain.target)
        except DfmqError as error:
            return self._failed(error)
        self._release((before, targets.look(stored)[1]) if kind == "hardlink" else (0, 0))
        if not self._plain.quiet:
            seconds = time.monotonic() - self._began_at
            with ending.Writing():
                print(receipt_line(self._name, done["length"], seconds, done["receipt"], kind), flush=True)
        return 0


#: op → the fields that are never left out, and what they must be
_FIELDS: dict[str, dict[str, type]] = {
    "answer": {},
    "progress": {},
    "done": {"path": str, "length": int, "receipt": dict},
    "sorry": {"code": str, "text": str},
}
#: whole numbers that are left out where they are 0
_NUMBERS = "held", "bytes_per_second", "parents"


def _is_sound(message: Any) -> bool:
    op = message.get("op") if isinstance(message, dict) else None
    fields = _FIELDS.get(op) if isinstance(op, str) else None
    return (
        fields is not None
        and all(isinstance(message.get(name), kind) for name, kind in fields.items())
        and all(isinstance(message.get(name, 0), int) for name in _NUMBERS)
        and isinstance(message.get("length") or 0, int)
        and all(isinstance(value, int) for value in (message.get("receipt") or {}).values())
        and isinstance(brokers := message.get("brokers", []), list)
        and all(isinstance(broker, str) for broker in brokers)
    )
