"""Outputs that are no files: pipes, devices, sockets. They are written into, and never replaced."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfmq.edges.output import place
from dfmq.edges.streams import pour, pour_on
from dfmq.edges.targets import check_target, is_stream
from dfmq.errors import NoSpace, SettingsError, StoreError, TimedOut

OCTETS = os.urandom(3 << 20)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(OCTETS)
    return tmp_path / "data"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


class Patience:
    """Says that there is time, so many times, and then raises."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __call__(self) -> float:
        self.looks -= 1
        if self.looks < 0:
            raise TimedOut("not complete")
        return 60.0


def read_all(pipe: Path) -> tuple[threading.Thread, list[bytes]]:
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    return reader, got


def test_a_pipe_takes_all_of_it_and_stays_a_pipe(stored: Path, pipe: Path) -> None:
    reader, got = read_all(pipe)
    assert pour(stored, pipe, Patience(10**6)) == "stream"
    reader.join()
    assert got == [OCTETS] and pipe.is_fifo()


def test_a_reader_may_come_later(stored: Path, pipe: Path) -> None:
    readers: list[tuple[threading.Thread, list[bytes]]] = []

    def left() -> float:
        if not readers:
            readers.append(read_all(pipe))
        return 60.0

    pour(stored, pipe, left)
    ((reader, got),) = readers
    reader.join()
    assert got == [OCTETS]


def test_a_pipe_that_nobody_reads_is_waited_for_no_longer_than_is_allowed(stored: Path, pipe: Path) -> None:
    with pytest.raises(TimedOut):
        pour(stored, pipe, Patience(3))
    assert pipe.is_fifo()


def test_a_reader_that_reads_no_more_is_waited_for_no_longer_than_is_allowed(stored: Path, pipe: Path) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(TimedOut):
            pour(stored, pipe, Patience(5))
    finally:
        os.close(reader)


def test_a_reader_that_goes_is_named(stored: Path, pipe: Path) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    looks = iter(range(3))

    def left() -> float:
        if next(looks, 0) == 2:
            os.close(reader)
        return 60.0

    with pytest.raises(StoreError, match="gone"):
        pour(stored, pipe, left)


def test_devices_stay_what_they_are_and_a_full_one_is_full(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    for target in (Path("/dev/null"), tmp_path / "link"):
        assert is_stream(target)
        assert place(stored, target) == "stream"
    assert Path("/dev/null").is_char_device() and (tmp_path / "link").is_symlink()
    with pytest.raises(NoSpace):
        place(stored, Path("/dev/full"))


def test_a_socket_is_refused_by_its_name(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name may have 107 octets
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for refuse in (check_target, lambda target: place(stored, target)):
            with pytest.raises(SettingsError, match="is a socket"):
                refuse(tmp_path / "socket")
    assert (tmp_path / "socket").is_socket()


def test_what_is_a_file_or_nothing_yet_is_no_stream(stored: Path, tmp_path: Path) -> None:
    assert not any(map(is_stream, (stored, tmp_path, tmp_path / "none", tmp_path / "a\0b")))


# ── standard output: open already, and shared ─────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["pipe", "socket", "pipe of somebody else"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """What is read, what is written. Neither a socket nor somebody else's pipe can be opened anew."""
    if request.param == "socket":
        reading, writing = (end.detach() for end in socket.socketpair())
    else:
        reading, writing = os.pipe()
    if "else" in request.param:
        real = os.open

        def refuse(path: Path | str, *arguments: int) -> int:
            if str(path).startswith("/proc/self/fd/"):
                raise PermissionError(13, "Permission denied")
            return real(path, *arguments)

        monkeypatch.setattr("os.open", refuse)
    yield reading, writing
    os.close(writing)
    os.close(reading)


def test_what_is_open_already_takes_all_of_it_and_keeps_its_flags(stored: Path, ends: tuple[int, int]) -> None:
    reading, writing = ends
    got = bytearray()

    def read() -> None:
        while len(got) < len(OCTETS):
            got.extend(os.read(reading, 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    seen = []

    def left() -> float:
        seen.append(fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK)
        return 60.0

    assert pour_on(stored, writing, left) == "stream"
    reader.join()
    assert (got, any(seen)) == (OCTETS, False)


def test_who_has_it_and_reads_no_more_is_waited_for_no_longer_than_is_allowed(
    stored: Path, ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = ends
    monkeypatch.setattr("dfmq.edges.streams._LOOK_SECONDS", 0.001)
    with pytest.raises(TimedOut):
        pour_on(stored, writing, Patience(300))
    got = os.read(reading, 1 << 16)
    assert got and OCTETS.startswith(got)


def test_who_has_it_and_goes_is_a_broken_pipe(stored: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        pour_on(stored, writing, Patience(5))
    os.close(writing)


def test_a_file_goes_on_from_where_it_stands(stored: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as log:
        log.write(b"before")
        assert pour_on(stored, log.fileno(), Patience(10)) == "stream"
        log.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before" + OCTETS + b"after"


def test_a_full_standard_output_is_named(stored: Path) -> None:
    with open("/dev/full", "wb") as full, pytest.raises(NoSpace, match="standard output: no space for its 3145728"):
        pour_on(stored, full.fileno(), Patience(5))
