"""Real processes: outputs that cannot be, homes that cannot be, disks that are full, and names of every kind."""

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
from support.processes import PATIENCE, House, Node, environment, finish, until
from support.sources import FaultySource

pytestmark = pytest.mark.system

CONTENT = b"0123456789abcdef" * 65536


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("outputs")) as house:
        yield house


@pytest.fixture(scope="module")
def peer(house: House) -> Node:
    return house.peer("peer", None)


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        source.put("/x", CONTENT)
        yield source


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, with so much room."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [("folder", "is a directory"), ("none/x", "there is no directory"), ("file/x", "is not a directory")],
)
def test_an_output_that_cannot_be_is_two_and_nothing_is_asked(
    house: House, peer: Node, source: FaultySource, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("before")
    url = source.put(f"/not-asked/{name}", CONTENT)
    got = house.get(peer, url, "-o", tmp_path / name)
    assert (got.status, got.last["exit"]) == (2, 2)
    assert text in got.err
    assert source.requests(f"/not-asked/{name}") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_output_folder_that_refuses_loses_nothing(house: House, peer: Node, source: FaultySource) -> None:
    # Root may write everywhere; /proc refuses root as well.
    got = house.get(peer, source.url("/x"), "-o", "/proc/dfmq-output")
    assert got.status in (1, 2)
    assert "/proc/dfmq-output" in got.err and "Traceback" not in got.err


def test_a_full_disk_at_the_output_is_seven_and_the_old_file_stays(
    house: House, peer: Node, source: FaultySource, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "256k") as small:
        (small / "x").write_text("before")
        got = house.get(peer, source.url("/x"), "-o", small / "x")
        assert (got.status, got.last["code"]) == (7, "no_space"), got
        assert [path.name for path in small.iterdir()] == ["x"]
        assert (small / "x").read_text() == "before"


def test_a_full_disk_of_the_home_is_seven_before_the_first_byte(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    url = source.put("/large", CONTENT * 8)
    with small_disk(tmp_path / "small", "4m") as small:
        home = small / "home"
        got = house.get(home, url, "-o", tmp_path / "x", DFMQ_STORE_FREE_FLOOR="0")
        assert (got.status, got.last["code"]) == (7, "no_space"), got
        assert not (tmp_path / "x").exists()
        stop_peer_of(home)


def test_a_list_of_small_contents_goes_through_a_disk_that_holds_a_part_of_them(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    contents = {f"/small/{number}": os.urandom(100 + number) for number in range(400)}
    (tmp_path / "list").write_text("".join(f"{source.put(path, octets)}\n" for path, octets in contents.items()))
    (tmp_path / "out").mkdir()
    with small_disk(tmp_path / "small", "2m") as small:
        home = small / "home"
        got = house.get(home, "--input", tmp_path / "list", "-d", tmp_path / "out", DFMQ_STORE_FREE_FLOOR="0")
        assert got.status == 0, got.err
        stop_peer_of(home)
    for path, octets in contents.items():
        assert (tmp_path / "out" / path.rpartition("/")[2]).read_bytes() == octets


def test_a_disk_so_full_that_no_home_can_be_made_is_seven(house: House, source: FaultySource, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "4k") as small:
        (small / "fill").write_bytes(bytes(4096))
        got = house.get(small / "home", source.url("/x"), "-o", tmp_path / "x")
        assert (got.status, got.last["code"]) == (7, "no_space"), got
        assert str(small / "home") in got.err
        assert not (tmp_path / "x").exists()


def stop_peer_of(home: Path) -> None:
    """End the peer that a get started there, by the process its lock names."""
    pid = int((home / "lock").read_text())
    os.kill(pid, 15)
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        pass


@pytest.mark.parametrize("home", ["file", "file/below", "/proc/dfmq-home"])
def test_a_home_that_cannot_be_is_two(house: House, source: FaultySource, tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    got = house.get(tmp_path / home, source.url("/x"), "-o", tmp_path / "x")
    assert (got.status, got.last["exit"]) == (2, 2)
    assert f"home {tmp_path / home}" in got.err
    assert not (tmp_path / "x").exists()


def test_two_peers_with_one_home_are_told_apart(house: House, peer: Node) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "dfmq.cli.peer", "--home", str(peer.home), "--listen", "tcp://127.0.0.1:0"],
        capture_output=True, text=True, env=environment(), timeout=30,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"in use by process {peer.popen.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.parametrize("node", ["peer", "broker"])
def test_a_node_that_cannot_say_where_it_listens_ends_and_names_it(tmp_path: Path, node: str) -> None:
    listen = ["--listen", "tcp://127.0.0.1:0", *(["--publish", "tcp://127.0.0.1:0"] if node == "broker" else [])]
    command = [sys.executable, "-m", f"dfmq.cli.{node}", "--home", str(tmp_path / "home"), *listen]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=PATIENCE
        )
    assert ended.returncode == 7, ended
    assert ended.stderr.startswith(f"dfmq-{node}: standard output: No space left on device; ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/two%20words", "two words"),
        ("/a%3Fb%26c%23d%25e", "a?b&c#d%e"),
        ("/%C3%BCml%C3%A4ut-%E5%90%8D", "ümläut-名"),
        ("/" + "n" * 255, "n" * 255),
        ("/x/%2e%2e", "index"),
        ("/x/..%2f..%2fetc", ".._.._etc"),
        ("/", "index"),
        ("/-o", "-o"),
        ("/it's", "it's"),
    ],
)
def test_the_output_is_named_after_the_url_and_stays_in_its_folder(
    house: House, peer: Node, source: FaultySource, tmp_path: Path, path: str, name: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    source.put(path, CONTENT)
    got = house.get(peer, source.url(path), "-d", folder)
    assert got.status == 0, got
    assert [entry.name for entry in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == CONTENT
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_an_existing_file_is_replaced_in_one_step_and_a_link_is_followed(
    house: House, peer: Node, source: FaultySource, tmp_path: Path
) -> None:
    (tmp_path / "real").write_text("before")
    (tmp_path / "link").symlink_to("real")
    assert house.get(peer, source.url("/x"), "-o", tmp_path / "link").status == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == CONTENT


def test_a_stream_takes_the_content(house: House, peer: Node, source: FaultySource) -> None:
    command = [sys.executable, "-m", "dfmq.cli.get", "--home", str(peer.home), source.url("/x"), "-o", "-", "--quiet"]
    got = subprocess.run(command, capture_output=True, env=environment(), timeout=30)
    assert (got.returncode, got.stdout, got.stderr) == (0, CONTENT, b"")


def test_a_pipe_is_written_into_whoever_comes_first(
    house: House, peer: Node, source: FaultySource, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    getting = house.start_get(peer, source.url("/x"), "-o", pipe)
    assert pipe.read_bytes() == CONTENT
    got = finish(getting)
    assert (got.status, got.last["placed"]) == (0, "stream"), got
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("how", ["timed out", "interrupted"])
@pytest.mark.parametrize("is_listed", [False, True])
def test_a_pipe_without_a_reader_does_not_hang_for_ever(
    house: House, peer: Node, source: FaultySource, tmp_path: Path, how: str, is_listed: bool
) -> None:
    pipe, other = tmp_path / "pipe", tmp_path / "other"
    os.mkfifo(pipe)
    (tmp_path / "list").write_text(f"{source.url('/x')} {pipe}\n{source.url('/x')} {other}\n")
    words = ["--input", tmp_path / "list"] if is_listed else [source.url("/x"), "-o", pipe]
    before = len(peer.records("get.done"))
    getting = house.start_get(peer, *words, *(["--timeout", "1s"] if how == "timed out" else []))
    if how == "interrupted":
        peer.wait_for("get.done", before + 1)
        if is_listed:
            until("the other is there", other.exists)
        getting.send_signal(signal.SIGINT)
    got = finish(getting)
    assert got.status == (130 if how == "interrupted" else 1 if is_listed else 8), got
    assert how == "interrupted" or f"waiting for a reader of {pipe}" in got.err
    assert not is_listed or other.read_bytes() == CONTENT
    assert pipe.is_fifo()


def test_devices_are_written_into_and_a_socket_is_refused(
    house: House, peer: Node, source: FaultySource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.get(peer, source.url("/x"), "-o", "/dev/null").status == 0
    assert Path("/dev/null").is_char_device()
    full = house.get(peer, source.url("/x"), "-o", "/dev/full")
    assert (full.status, full.last["code"]) == (7, "no_space")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        got = house.get(peer, source.url("/x"), "-o", tmp_path / "socket")
    assert got.status == 2 and "is a socket" in got.err
    assert (tmp_path / "socket").is_socket()


def test_a_reader_that_goes_away_is_no_bug(house: House, peer: Node, source: FaultySource) -> None:
    url = source.put("/much", CONTENT * 8)  # more than any pipe holds
    command = [sys.executable, "-m", "dfmq.cli.get", "--home", str(peer.home), url, "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as getting:
        assert getting.stdout is not None and getting.stderr is not None
        getting.stdout.read(10)
        getting.stdout.close()
        assert getting.wait(30) == 141
        assert b"bug" not in getting.stderr.read()
