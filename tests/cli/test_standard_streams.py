"""dfmq-get whose standard output or standard error takes nothing: what is wanted stands in its place all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_peer import FakePeer

from dfmq.cli.quick import read
from dfmq.wire.messages import Sorry

URL = "http://source/data.bin"
LIST = "http://source/a\nhttp://source/b\n"
FULL = "dfmq-get: standard output: No space left on device; "

#: what it is called with → what then stands in its directory
WAYS = {"": ["data.bin"], "--tag t": ["data.bin"], "--json": ["data.bin"], "--input list": ["a", "b"]}
WAYS["--input list --json"] = WAYS["--input list"]
#: more than any pipe or socket holds
LARGE = bytes(8 << 20)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("list").write_text(LIST)
    return tmp_path


def get(here: Path, words: str, streams: str) -> subprocess.CompletedProcess[str]:
    """Run in a shell whose redirections are `streams`; `words` without a list are about the one URL."""
    url = [] if "list" in words else [URL]
    command = [sys.executable, "-m", "dfmq.cli.get", *url, "--home", str(here / "home"), *words.split()]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DFMQ_")}
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", *command]
    return subprocess.run(shell, capture_output=True, text=True, timeout=30, env=plain)


def outputs() -> list[str]:
    return sorted(name for name in os.listdir() if name != "list")


def test_both_ways_are_looked_at() -> None:
    assert read([URL], {}) is not None
    assert read([URL, "--tag", "t"], {}) is None


@pytest.mark.parametrize("words", WAYS)
def test_a_full_standard_output_is_seven_and_everything_is_in_its_place(here: Path, words: str) -> None:
    with FakePeer(here / "home", brokers=("tcp://b:1",)) as peer:
        got = get(here, words, ">/dev/full")
        peer.die()
    assert (got.returncode, outputs()) == (7, WAYS[words])
    assert got.stderr.startswith(FULL) and got.stderr.count("\n") == 1
    assert len(peer.gets) == len(peer.releases) == len(WAYS[words])


@pytest.mark.parametrize("words", WAYS)
def test_what_standard_error_does_not_take_changes_nothing(here: Path, words: str) -> None:
    with FakePeer(here / "home") as peer:
        got = get(here, words, "2>/dev/full")
        peer.die()
    assert (got.returncode, outputs()) == (0, WAYS[words])
    assert got.stdout.endswith("\n")


@pytest.mark.parametrize("words", WAYS)
def test_with_both_full_the_status_says_it(here: Path, words: str) -> None:
    with FakePeer(here / "home"):
        got = get(here, words, ">/dev/full 2>&1")
    assert (got.returncode, outputs()) == (7, WAYS[words])


@pytest.mark.parametrize("streams", [">/dev/full", "2>/dev/full", ">/dev/full 2>&1"])
@pytest.mark.parametrize(("words", "status"), [("", 5), ("--json", 5), ("--input list --json", 1), ("--nonsense", 2)])
def test_what_failed_goes_before_what_could_not_be_said(here: Path, words: str, status: int, streams: str) -> None:
    with FakePeer(here / "home", lambda get: [Sorry(get=get.get, code="source_refused", text="no such thing")]):
        got = get(here, words, streams)
    assert got.returncode == status
    assert "bug" not in got.stderr and "Traceback" not in got.stderr
    if streams == ">/dev/full":
        assert ("no such thing" in got.stderr) == (status != 2)
        assert (FULL in got.stderr) == ("--json" in words)


@pytest.mark.parametrize("words", ["--version", "--help", "--json --help"])
def test_help_that_cannot_be_printed_is_no_bug(here: Path, words: str) -> None:
    got = get(here, words, ">/dev/full")
    assert got.returncode == 7
    assert got.stderr.startswith(FULL) and got.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["", "--tag t"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_nobody_reads_any_more_ends_it_as_a_shell_calls_it(here: Path, words: str, stream: str) -> None:
    command = [sys.executable, "-m", "dfmq.cli.get", URL, "--home", str(here / "home"), *words.split()]
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writing}
    # Without a broker, so that there is something to say on standard error.
    with FakePeer(here / "home"):
        status = subprocess.run(command, timeout=30, **streams).returncode
    os.close(writing)
    assert status == 141


def test_a_standard_output_that_is_too_small_for_the_content_is_seven(here: Path) -> None:
    with FakePeer(here / "home"):
        got = get(here, "-o - -q", ">/dev/full")
    assert (got.returncode, outputs()) == (7, [])
    assert got.stderr.startswith(f"dfmq-get: {URL}: standard output: no space for its 33 octets; ")


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """What is read, and what can be standard output."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    yield reading, writing
    os.close(reading)
    os.close(writing)


@contextlib.contextmanager
def getting_to(here: Path, words: str, writing: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dfmq.cli.get", URL, "-o", "-", "--home", str(here / "home"), *words.split()]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as getting:
        try:
            yield getting
        finally:
            getting.kill()


@pytest.mark.parametrize("words", ["--timeout 1s", "--timeout 1s -q", "--timeout 1s --json"])
def test_a_reader_that_reads_no_more_is_waited_for_until_the_time_is_over(
    here: Path, ends: tuple[int, int], words: str
) -> None:
    with FakePeer(here / "home") as peer:
        peer.contents[URL] = LARGE
        with getting_to(here, words, ends[1]) as getting:
            _, err = getting.communicate(timeout=30)
        peer.die()
    assert getting.returncode == 8
    assert "not complete after 1 s, waiting for a reader of standard output" in err
    assert len(peer.releases) == 1


@pytest.mark.parametrize("words", ["", "-q", "--timeout 1h"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_reader_that_reads_no_more(
    here: Path, ends: tuple[int, int], words: str, number: signal.Signals
) -> None:
    with FakePeer(here / "home") as peer:
        peer.contents[URL] = LARGE
        with getting_to(here, words, ends[1]) as getting:
            # Once anything is there it writes, and what is not read does not let it come to an end.
            assert os.read(ends[0], 1) == b"\0"
            getting.send_signal(number)
            _, err = getting.communicate(timeout=30)
        peer.die()
    assert getting.returncode == 130
    assert "run the command again to go on" in err
    assert len(peer.releases) == 1
