"""What the user sees: lines, bars, JSON, or only what fails."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest

from dfmq.cli import progress as progress_module
from dfmq.cli.progress import BarReport, JsonReport, PlainReport, Report, receipt_of
from dfmq.errors import SourceRefused
from dfmq.model.task import Request
from dfmq.nodes.errands import Errand, Placed
from dfmq.wire.messages import Done, Progress, Receipt

ERRAND = Errand(request=Request(url="http://u:secret@h/data.bin?sig=secret"), target=Path("/tmp/data.bin"))
RECEIPT = Receipt(from_seed=1 << 20, from_peers=3 << 20)


def step(held: int = 1 << 20, length: int | None = 4 << 20) -> Progress:
    return Progress(get=1, length=length, held=held, bytes_per_second=2 << 20, parents=3)


def placed(errand: Errand = ERRAND) -> Placed:
    done = Done(get=1, path="/s", length=4 << 20, task=bytes(16), generation=bytes(8), receipt=RECEIPT)
    return Placed(errand=errand, done=done, kind="hardlink", seconds=2.0)


class Streams:
    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_receipt_adds_up_in_one_line() -> None:
    assert receipt_of(placed()) == (
        "/tmp/data.bin: 4.0 MiB in 2.0 s (2.0 MiB/s); source 0 B, seed 1.0 MiB, peers 3.0 MiB, store 0 B; "
        "hard-linked from the store"
    )


@pytest.mark.parametrize(
    ("target", "words"), [(None, "written to standard output"), (Path("/tmp/pipe"), "written into it")]
)
def test_the_receipt_says_into_what_a_stream_went(target: Path | None, words: str) -> None:
    errand = msgspec.structs.replace(ERRAND, target=target)
    assert receipt_of(msgspec.structs.replace(placed(errand), kind="stream")).endswith(f"; {words}")


def test_lines_come_at_most_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    streams = Streams()
    report = PlainReport(streams.out, streams.err)
    for now in (100.0, 104.9, 105.0, 105.1, 109.9, 110.0):  # noqa: B007  # the lambda reads it
        report.progressed(ERRAND, step())
    report.placed(placed())
    report.finish()
    line = "/tmp/data.bin: 1.0 MiB of 4.0 MiB (25 %), 2.0 MiB/s, 3 parents\n"
    assert streams.err.getvalue() == line * 2
    assert streams.out.getvalue() == receipt_of(placed()) + "\n"


def test_a_list_ends_with_one_line_and_each_failure_has_one() -> None:
    streams = Streams()
    report = PlainReport(streams.out, streams.err, many=True, total=2)
    report.placed(placed())
    report.failed(Errand(request=Request(url="http://h/x?sig=secret"), target=Path("x"), line=7), SourceRefused("gone"))
    report.finish()
    assert streams.err.getvalue() == "dfmq-get: line 7: http://h/x?…: gone\n"
    assert streams.out.getvalue().startswith("1 done, 1 failed, 4.0 MiB in 0.0")


def test_quiet_says_only_what_fails() -> None:
    streams = Streams()
    report = Report(streams.out, streams.err)
    report.noted("alone")
    report.progressed(ERRAND, step())
    report.placed(placed())
    report.failed(ERRAND, SourceRefused("http://h/data.bin?…: 404"))
    report.finish()
    assert (streams.out.getvalue(), streams.err.getvalue()) == ("", "dfmq-get: http://h/data.bin?…: 404\n")


def test_json_has_an_object_a_step_and_a_last_one() -> None:
    streams = Streams()
    report = JsonReport(streams.out, streams.err)
    report.progressed(ERRAND, step())
    report.placed(placed())
    report.finish()
    first, last = [json.loads(line) for line in streams.out.getvalue().splitlines()]
    assert (first["event"], first["held"], first["bytes"], first["parents"]) == ("progress", 1 << 20, 4 << 20, 3)
    assert last == {
        "event": "done",
        "url": "http://h/data.bin?…",
        "path": "/tmp/data.bin",
        "bytes": 4 << 20,
        "seconds": 2.0,
        "bytes_per_second": 2 << 20,
        "receipt": {"from_source": 0, "from_seed": 1 << 20, "from_peers": 3 << 20, "from_store": 0},
        "placed": "hardlink",
    }


def test_json_names_a_failure_with_code_exit_and_text() -> None:
    streams = Streams()
    report = JsonReport(streams.out, streams.err, many=True)
    report.failed(Errand(request=ERRAND.request, target=None, line=3), SourceRefused("404"))
    report.finish()
    failed, summary = [json.loads(line) for line in streams.out.getvalue().splitlines()]
    assert failed == {
        "event": "failed",
        "line": 3,
        "url": "http://h/data.bin?…",
        "code": "source_refused",
        "exit": 5,
        "text": "404",
    }
    assert (summary["event"], summary["done"], summary["failed"]) == ("summary", 0, 1)


def test_quiet_json_has_only_the_end() -> None:
    streams = Streams()
    report = JsonReport(streams.out, streams.err, steps=False)
    report.noted("no broker is configured")
    report.progressed(ERRAND, step())
    report.placed(placed())
    assert [json.loads(line)["event"] for line in streams.out.getvalue().splitlines()] == ["done"]
    assert streams.err.getvalue() == "", "it says only what fails"


@pytest.mark.parametrize("length", [4 << 20, None, 0])
def test_a_bar_is_drawn_on_a_terminal_and_leaves_the_receipt(length: int | None) -> None:
    out, err = io.StringIO(), Terminal()
    report = BarReport(out, err)
    report.progressed(ERRAND, step(length=length))
    report.noted("no broker is configured")
    report.placed(placed())
    report.finish()
    assert "data.bin" in err.getvalue()
    assert "3 parents" in err.getvalue()
    assert "dfmq-get: no broker is configured" in err.getvalue()
    assert out.getvalue() == receipt_of(placed()) + "\n"


def test_a_bar_of_a_list_counts_files() -> None:
    out, err = io.StringIO(), Terminal()
    report = BarReport(out, err, many=True, total=5)
    report.progressed(ERRAND, step())
    report.finish()
    assert "0 of 5 files, 1.0 MiB" in err.getvalue()
    assert out.getvalue().startswith("0 done, 0 failed")


def test_no_name_steers_the_terminal() -> None:
    evil = Errand(request=ERRAND.request, target=Path("/tmp/\x1b[2J\n[bold]x"))
    streams = Streams()
    PlainReport(streams.out, streams.err).placed(placed(evil))
    assert streams.out.getvalue().startswith("/tmp/\ufffd[2J\ufffd[bold]x: ")
    assert streams.out.getvalue().count("\n") == 1
    report = BarReport(io.StringIO(), terminal := Terminal())
    report.progressed(evil, step())
    report.finish()
    assert "\ufffd[2J\ufffd[bold]x" in terminal.getvalue()


def test_no_secret_of_a_url_is_shown() -> None:
    for kind in (PlainReport, JsonReport, Report, BarReport):
        out, err = io.StringIO(), Terminal()
        report = kind(out, err)
        report.progressed(ERRAND, step())
        report.placed(placed())
        report.failed(ERRAND, SourceRefused("no"))
        report.finish()
        assert "secret" not in out.getvalue() + err.getvalue()
