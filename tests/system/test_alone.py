"""Real processes without any broker: one host that reads, keeps and resumes for itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.processes import House, environment
from support.sources import FaultySource

pytestmark = pytest.mark.system

MIB = 1 << 20


def peers_of(home: Path) -> list[int]:
    """Processes that are a peer of this home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "dfmq.cli.peer" in words and str(home) in words:
            found.append(process.pid)
    return found


def test_without_a_broker_it_says_so_and_the_second_get_is_local(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(3 * MIB)
    url = source.put("/x", content)
    first = house.get(tmp_path / "home", url, "-o", tmp_path / "x")
    assert "no broker is configured" in first.err
    assert first.receipt["from_source"] == len(content)
    second = house.get(tmp_path / "home", url, "-o", tmp_path / "y")
    assert second.receipt["from_store"] == len(content)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes() == content
    assert source.bytes_sent("/x") == len(content)
    assert len(peers_of(tmp_path / "home")) == 1


def test_a_limit_holds_back_what_this_host_reads_itself(house: House, source: FaultySource, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    url = source.put("/x", content)
    before = time.monotonic()
    got = house.get(tmp_path / "home", url, "-o", tmp_path / "x", "--limit", "1MB/s")
    assert time.monotonic() - before >= 2.0
    assert got.receipt["from_source"] == len(content)
    assert (tmp_path / "x").read_bytes() == content


def test_ten_at_once_start_one_peer(house: House, source: FaultySource, tmp_path: Path) -> None:
    """Each wants something else, so that none can be served by another's read."""
    contents = [os.urandom(MIB // 4 + i) for i in range(10)]
    wanted = [
        (tmp_path / "home", [source.put(f"/{i}", content), "-o", tmp_path / f"{i}"])
        for i, content in enumerate(contents)
    ]
    got = house.get_together(wanted)
    assert [one.status for one in got] == [0] * 10, got
    assert len(peers_of(tmp_path / "home")) == 1
    assert [(tmp_path / f"{i}").read_bytes() for i in range(10)] == contents


def test_files_of_ones_own_host_are_read(house: House, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"content")
    (tmp_path / "link").symlink_to("mine")
    for name in ("mine", "link"):
        got = house.get(tmp_path / "home", f"file://{tmp_path}/{name}", "-o", tmp_path / "got")
        assert got.receipt["from_source"] == 7
        assert (tmp_path / "got").read_bytes() == b"content"


@pytest.mark.parametrize("command", ["peer", "broker"])
def test_a_port_that_is_taken_is_named_and_the_process_ends(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        words = ["-m", f"dfmq.cli.{command}", "--home", str(tmp_path / "home"), "--listen", listen]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment(), timeout=20)
    assert (done.returncode, done.stdout) == (2, "")
    assert listen in done.stderr and "Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_local_socket_that_cannot_be_made_ends_the_peer(tmp_path: Path) -> None:
    """The last of its sockets, when all the others are there."""
    home = tmp_path / "home"
    (home / "peer.sock").mkdir(parents=True)
    words = ["-m", "dfmq.cli.peer", "--home", str(home), "--listen", "tcp://127.0.0.1:0"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment(), timeout=20)
    assert done.returncode == 2
    assert "peer.sock" in done.stderr


def test_a_killed_lone_peer_goes_on_where_it_was(house: House, source: FaultySource, tmp_path: Path) -> None:
    """And so does one whose source has forgotten what its content was called: then it is read again."""
    content = os.urandom(6 * MIB)
    url = source.put("/x", content, rate=3_000_000)
    peer = house.peer("home", None)
    getting = house.start_get(peer, url, "-o", tmp_path / "x")
    peer.wait_for("piece.held", 8)
    peer.kill()
    getting.kill()
    got = house.get(house.peer("home", None), url, "-o", tmp_path / "x")
    assert got.receipt["from_store"] >= 2 * MIB
    assert (tmp_path / "x").read_bytes() == content
    # Sent and lost in the dead peer's socket buffers: some. Read again from zero it would be the 2 MiB held, at least.
    assert source.bytes_sent("/x") < len(content) + 2 * MIB
    assert source.seen("/x")[-1]["if-range"]
