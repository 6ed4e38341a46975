"""What is said of one get, a line each. From plain values, so that a command which loads little can say the same."""

from __future__ import annotations

from dfmq.cli.amounts import show_bytes, show_rate, show_seconds

#: typing's own takes 3 CPU-ms to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where nobody watches a bar (a log file, a build), more lines than one in five seconds are noise.
LINE_SECONDS = 5.0

ALONE = "no broker is configured: this host reads the source itself; set --broker to share"
INTERRUPTED = "interrupted; what was fetched is kept: run the command again to go on"

_PLACED_WORDS = {
    "reflink": "reflinked from the store",
    "hardlink": "hard-linked from the store",
    "copy": "copied from the store",
    "stream": "written into it",
}
_GIVERS = "source", "seed", "peers", "store"


def printable(text: str) -> str:
    """Names come from outside: nothing in them may steer a terminal or break a line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def receipt_line(name: str, length: int, seconds: float, receipt: Mapping[str, int], kind: str) -> str:
    """What came, how fast, and from whom. `receipt`: bytes by the fields of wire Receipt; what is left out is 0."""
    rate = show_rate(length / max(seconds, 1e-6))
    came = ", ".join(f"{giver} {show_bytes(receipt.get(f'from_{giver}', 0))}" for giver in _GIVERS)
    how = "written to standard output" if (name, kind) == ("-", "stream") else _PLACED_WORDS.get(kind, kind)
    return f"{name}: {show_bytes(length)} in {show_seconds(seconds)} ({rate}); {came}; {how}"


def progress_line(name: str, held: int, length: int | None, bytes_per_second: int, parents: int) -> str:
    """How far it is."""
    of = f" of {show_bytes(length)} ({held * 100 // length} %)" if length else ""
    return f"{name}: {show_bytes(held)}{of}, {show_rate(bytes_per_second)}, {parents} parents"


def failure_line(url: str, text: str) -> str:
    """What failed; `url` as it may be shown."""
    return text if url in text else f"{url}: {text}"


def note_line(text: str) -> str:
    """Anything else dfmq-get has to say."""
    return f"dfmq-get: {printable(text)}"
