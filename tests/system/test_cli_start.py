"""Real processes: the host's peer is started once, found again, outlived, and told when we go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.processes import PATIENCE, House, finish, side_by_side, until
from support.sources import FaultySource

pytestmark = pytest.mark.system

CONTENT = os.urandom(1 << 20)


def pid_of(home: Path) -> int:
    """The peer of a home."""
    lock = home / "lock"
    return int(until(f"a peer of {home}", lambda: lock.exists() and lock.read_text().strip()))


def held_of(getting: subprocess.Popen[str], least: int) -> None:
    """Read its progress until it holds so many bytes."""
    assert getting.stdout is not None
    for line in getting.stdout:
        if json.loads(line).get("held", 0) >= least:
            return
    raise AssertionError("it ended before")


def test_ten_that_start_at_once_share_one_peer_and_one_read(house: House, source: FaultySource, tmp_path: Path) -> None:
    url = source.put("/x", CONTENT)
    got = house.get_together([(tmp_path / "home", [url, "-o", tmp_path / f"out{i}"]) for i in range(10)])
    assert [each.status for each in got] == [0] * 10, got
    assert all((tmp_path / f"out{i}").read_bytes() == CONTENT for i in range(10))
    assert source.requests("/x") == 1
    assert source.bytes_sent("/x") == len(CONTENT)


def test_nodes_stand_back_in_all_their_threads_and_what_starts_them_does_not(house: House) -> None:
    broker = house.broker()
    for node in (broker, house.peer("peer", broker)):
        threads = [int(name) for name in os.listdir(f"/proc/{node.popen.pid}/task")]
        assert len(threads) >= 4, "the loop, ZeroMQ's two, the store's"
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_started_peer_outlives_its_starter_and_ends_when_idle(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert house.get(home, source.put("/x", CONTENT), "-o", tmp_path / "x", DFMQ_PEER_IDLE_EXIT="1s").status == 0
    pid = pid_of(home)
    assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/cwd") == "/"
    until("the idle peer ends", lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))
    # The next one starts another peer, which knows what the first one stored.
    got = house.get(home, source.url("/x"), "-o", tmp_path / "y")
    assert got.status == 0
    assert source.bytes_sent("/x") == len(CONTENT)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@side_by_side("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_get_is_130_and_goes_on_where_it_was(
    house: House, source: FaultySource, tmp_path: Path, number: int
) -> None:
    url = source.put("/x", CONTENT, rate=1_500_000)
    output = tmp_path / "x"
    output.write_text("before")
    getting = house.start_get(tmp_path / "home", url, "-o", output)
    held_of(getting, 200_000)
    getting.send_signal(number)
    got = finish(getting)
    assert (got.status, got.last["code"]) == (130, "interrupted"), got
    assert "run the command again to go on" in got.err
    assert output.read_text() == "before"
    again = house.get(tmp_path / "home", url, "-o", output)
    assert again.status == 0
    assert output.read_bytes() == CONTENT
    # What was under way when the read was broken off may be read twice; nothing else.
    assert source.bytes_sent("/x") < len(CONTENT) + 400_000


def test_a_peer_that_is_killed_is_started_again_and_the_get_goes_on(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    url = source.put("/x", CONTENT, rate=500_000)
    getting = house.start_get(tmp_path / "home", url, "-o", tmp_path / "x")
    held_of(getting, 200_000)
    os.kill(pid_of(tmp_path / "home"), signal.SIGKILL)
    got = finish(getting)
    assert got.status == 0, got
    assert "it is started again and goes on" in got.err
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_frozen_peer_is_named_and_not_waited_for_for_ever(house: House, source: FaultySource, tmp_path: Path) -> None:
    peer = house.peer("peer", None)
    url = source.put("/x", CONTENT, rate=1_000_000)
    getting = house.start_get(peer, url, "-o", tmp_path / "x")
    held_of(getting, 100_000)
    peer.freeze()
    begun = time.monotonic()
    got = finish(getting)
    assert got.status == 1
    assert "stop it if it hangs" in got.err
    assert time.monotonic() - begun < PATIENCE
    peer.resume()
    assert house.get(peer, url, "-o", tmp_path / "x").status == 0


def test_version_and_help_need_nothing(house: House, tmp_path: Path) -> None:
    got = house.get(tmp_path / "home", "--version")
    assert (got.status, got.out.split()[0]) == (0, "dfmq-get")
    assert house.get(tmp_path / "home", "--help").status == 0
    assert not (tmp_path / "home").exists()
