"""What the user of dfmq-get sees while it works and at its end: a bar, plain lines, JSON lines, or errors alone."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from dfmq.cli.amounts import show_bytes, show_rate, show_seconds
from dfmq.cli.ending import Writing
from dfmq.cli.lines import LINE_SECONDS, failure_line, note_line, printable, progress_line, receipt_line
from dfmq.errors import DfmqError, StoreError
from dfmq.model.task import shown
from dfmq.nodes.errands import Errand, Placed
from dfmq.wire.messages import Progress, Receipt

if TYPE_CHECKING:
    from rich.progress import TaskID

#: A bar drawn more often only costs.
BAR_SECONDS = 0.1


def name_of(errand: Errand) -> str:
    """An errand's output as it is printed."""
    return printable(os.fsdecode(errand.target)) if errand.target is not None else "-"


def receipt_of(placed: Placed) -> str:
    """The line that says what came of an errand."""
    done = placed.done
    return receipt_line(name_of(placed.errand), done.length, placed.seconds, _plain(done.receipt), placed.kind)


class Report:
    """Counts what is done and failed, and says only what fails: this is --quiet. The others say more.

    `many`: a list is worked through, so single files are not reported when they are done.
    """

    def __init__(self, out: TextIO, err: TextIO, *, many: bool = False, total: int | None = None) -> None:
        """`out`: the receipt goes there; `err`: everything else, and what cannot be written there is lost."""
        self.out = out
        self.err = err
        self.many = many
        self.total = total
        self.done = 0
        self.bytes = 0
        self.failures: list[DfmqError] = []
        self.receipt = Receipt()
        self.begun_at = time.monotonic()
        #: errand under way → bytes it has so far; only those of now, so a long list needs no memory
        self.held: dict[int, int] = {}
        #: why `out` does not hold all that was to be said
        self.unwritten: StoreError | None = None

    # Called by nodes/errands.

    def progressed(self, errand: Errand, progress: Progress) -> None:
        self.held[id(errand)] = progress.held

    def placed(self, placed: Placed) -> None:
        self.done += 1
        self.bytes += placed.done.length
        self.held.pop(id(placed.errand), None)

    def failed(self, errand: Errand, error: DfmqError) -> None:
        self.held.pop(id(errand), None)
        url = printable(shown(errand.request.url))
        self.refused(error, failure_line(url, str(error)), errand.line, url)

    def noted(self, text: str) -> None:
        """Something worth knowing that is no failure."""

    # Called by the command.

    def refused(self, error: DfmqError, text: str, line: int = 0, url: str = "") -> None:
        """Something failed, maybe before it was begun; `line` of a list, 0 none."""
        self.failures.append(error)
        self.say(note_line(f"{f'line {line}: ' if line else ''}{text}"))

    def say(self, line: str) -> None:
        """A line for the user, above whatever is being drawn."""
        print(line, file=self.err, flush=True)

    def say_out(self, line: str) -> None:
        """A line on `out`. Where that takes no more, what is to be got is got all the same."""
        if self.unwritten is None:
            try:
                with Writing():
                    print(line, file=self.out, flush=True)
            except StoreError as error:
                self.unwritten = error

    def finish(self) -> None:
        """The end of the command, however it came."""

    def ended(self, status: int) -> int:
        """The exit status, when everything was said: that not everything could be is a failure where there is no
        other."""
        if self.unwritten is None:
            return status
        self.say(note_line(str(self.unwritten)))
        return status or self.unwritten.exit_status

    def summary(self) -> str:
        """A whole list in one line."""
        seconds = time.monotonic() - self.begun_at
        return (
            f"{self.done} done, {len(self.failures)} failed, {show_bytes(self.bytes)} in {show_seconds(seconds)}"
            f" ({show_rate(self.bytes / max(seconds, 1e-6))})"
        )


class PlainReport(Report):
    """Lines: at most one each five seconds, and one at the end."""

    def __init__(self, out: TextIO, err: TextIO, *, many: bool = False, total: int | None = None) -> None:
        super().__init__(out, err, many=many, total=total)
        self._line_at = self.begun_at

    def progressed(self, errand: Errand, progress: Progress) -> None:
        super().progressed(errand, progress)
        if self._is_due(LINE_SECONDS):
            self.say(self._list_line() if self.many else self._line(errand, progress))

    def _is_due(self, seconds: float) -> bool:
        """Whether the last line or bar is old enough for the next."""
        now = time.monotonic()
        if now - self._line_at < seconds:
            return False
        self._line_at = now
        return True

    def _line(self, errand: Errand, progress: Progress) -> str:
        name, rate = name_of(errand), progress.bytes_per_second
        return progress_line(name, progress.held, progress.length, rate, progress.parents)

    def _list_line(self) -> str:
        of = f" of {self.total}" if self.total is not None else ""
        return f"{self.done + len(self.failures)}{of} files, {show_bytes(self.bytes + sum(self.held.values()))}"

    def placed(self, placed: Placed) -> None:
        super().placed(placed)
        if not self.many:
            self.say_out(receipt_of(placed))
        elif self._is_due(LINE_SECONDS):
            self.say(self._list_line())

    def noted(self, text: str) -> None:
        self.say(note_line(text))

    def finish(self) -> None:
        if self.many:
            self.say_out(self.summary())


class BarReport(PlainReport):
    """A bar on a terminal, and the receipt when it is gone."""

    def __init__(self, out: TextIO, err: TextIO, *, many: bool = False, total: int | None = None) -> None:
        super().__init__(out, err, many=many, total=total)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        text = TextColumn("{task.description}", markup=False)
        figures = TextColumn("{task.fields[figures]}", markup=False)
        self._console = Console(file=err)
        self._bar = Progress(text, BarColumn(), figures, console=self._console, transient=True, auto_refresh=False)
        self._shown: TaskID | None = None

    def progressed(self, errand: Errand, progress: Progress) -> None:
        Report.progressed(self, errand, progress)
        if self._shown is not None and not self._is_due(BAR_SECONDS):
            return
        if self.many:
            self._draw_list()
        else:
            self._draw(os.path.basename(name_of(errand)), progress.held, progress.length, self._figures(progress))

    def _draw_list(self) -> None:
        self._draw("files", self.done + len(self.failures), self.total, self._list_line())

    def _figures(self, progress: Progress) -> str:
        size = show_bytes(progress.held)
        if progress.length is not None:
            size += f" of {show_bytes(progress.length)}"
        figures = [size, show_rate(progress.bytes_per_second), f"{progress.parents} parents"]
        if progress.length is not None and progress.bytes_per_second:
            figures.append(f"{show_seconds((progress.length - progress.held) / progress.bytes_per_second)} left")
        return "  ".join(figures)

    def _draw(self, name: str, completed: int, total: int | None, figures: str) -> None:
        if self._shown is None:
            self._bar.start()
            self._shown = self._bar.add_task(name, total=None, figures="")
        self._bar.update(self._shown, completed=completed, total=total, figures=figures, refresh=True)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def placed(self, placed: Placed) -> None:
        Report.placed(self, placed)
        if not self.many:
            self._bar.stop()
            self.say_out(receipt_of(placed))
        elif self._is_due(BAR_SECONDS):
            self._draw_list()

    def finish(self) -> None:
        self._bar.stop()
        super().finish()


class JsonReport(Report):
    """One JSON object a line on `out`; what fails is said on `err` as well. `steps` False: only how each one ended."""

    def __init__(
        self, out: TextIO, err: TextIO, *, many: bool = False, total: int | None = None, steps: bool = True
    ) -> None:
        super().__init__(out, err, many=many, total=total)
        self._steps = steps

    def _write(self, event: str, line: int, fields: dict[str, Any]) -> None:
        where = {"line": line} if line else {}
        self.say_out(msgspec.json.encode({"event": event, **where, **fields}).decode())

    def progressed(self, errand: Errand, progress: Progress) -> None:
        if not self._steps:
            return
        fields = {
            "url": shown(errand.request.url),
            "held": progress.held,
            "bytes": progress.length,
            "bytes_per_second": progress.bytes_per_second,
            "parents": progress.parents,
            "receipt": _plain(progress.receipt),
        }
        self._write("progress", errand.line, fields)

    def placed(self, placed: Placed) -> None:
        super().placed(placed)
        fields = {
            "url": shown(placed.errand.request.url),
            # Names that are no UTF-8 cannot be said in JSON as they are.
            "path": None
            if placed.errand.target is None
            else os.fsencode(placed.errand.target).decode(errors="replace"),
            "bytes": placed.done.length,
            "seconds": round(placed.seconds, 6),
            "bytes_per_second": round(placed.done.length / max(placed.seconds, 1e-6)),
            "receipt": _plain(placed.done.receipt),
            "placed": placed.kind,
        }
        self._write("done", placed.errand.line, fields)

    def refused(self, error: DfmqError, text: str, line: int = 0, url: str = "") -> None:
        super().refused(error, text, line, url)
        named = {"url": url} if url else {}
        self._write("failed", line, {**named, "code": error.code, "exit": error.exit_status, "text": str(error)})

    def noted(self, text: str) -> None:
        if self._steps:
            self.say(note_line(text))

    def finish(self) -> None:
        if self.many:
            seconds = round(time.monotonic() - self.begun_at, 6)
            fields = {"done": self.done, "failed": len(self.failures), "bytes": self.bytes, "seconds": seconds}
            self._write("summary", 0, fields)


def _plain(receipt: Receipt) -> dict[str, int]:
    """A receipt with its zeros, which the bus leaves out."""
    return {
        "from_source": receipt.from_source,
        "from_seed": receipt.from_seed,
        "from_peers": receipt.from_peers,
        "from_store": receipt.from_store,
    }


def choose(*, json: bool, quiet: bool, to_stdout: bool, many: bool = False, total: int | None = None) -> Report:
    """The report that suits the flags and the terminal. `to_stdout`: standard output carries the content itself."""
    out, err = sys.stderr if to_stdout else sys.stdout, sys.stderr
    if json:
        return JsonReport(out, err, many=many, total=total, steps=not quiet)
    if quiet:
        return Report(out, err, many=many, total=total)
    kind = BarReport if err.isatty() and os.environ.get("TERM") != "dumb" else PlainReport
    return kind(out, err, many=many, total=total)
