"""dfmq-get as it is typed in a script, plain flags and no terminal: the way that loads little, with real peers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import PATIENCE, House, Node, environment, side_by_side
from support.sources import FaultySource

from dfmq.nodes.starting import host_peer

pytestmark = pytest.mark.system

CONTENT = os.urandom(3_000_000)


def start(house: House, peer: Node, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dfmq.cli.get", "--home", str(peer.home), *map(str, words)]
    popen = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )  # fmt: skip
    house.gets.append(popen)
    return popen


def test_a_plain_get_says_whence_it_came(house: House, source: FaultySource, tmp_path: Path) -> None:
    broker = house.broker()
    peers = house.peers(["one", "two"], broker)
    url = source.put("/x", CONTENT)
    for peer in peers:
        out_path = tmp_path / f"{peer.name}.out"
        out, err = start(house, peer, url, "-o", out_path).communicate(timeout=PATIENCE)
        assert out_path.read_bytes() == CONTENT
        assert out.startswith(f"{out_path}: 2.9 MiB in ")
        assert err == ""
    assert source.requests("/x") == 1


def test_a_refusal_has_its_status_and_its_sentence_and_is_asked_for_once(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    peer = house.peer("peer", None)
    popen = start(house, peer, source.url("/none"), "-q", "-o", tmp_path / "x")
    _, err = popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 5
    assert err == f"dfmq-get: there is nothing at {source.url('/none')} (404 Not Found): check the URL\n"
    assert source.requests("/none") == 1


@side_by_side("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_politely_and_the_next_one_goes_on(
    house: House, source: FaultySource, tmp_path: Path, number: signal.Signals
) -> None:
    peer = house.peer("peer", None)
    url = source.put("/x", CONTENT, rate=1_000_000)
    popen = start(house, peer, url, "-q", "-o", tmp_path / "x")
    peer.wait_for("get.started")
    peer.wait_for("source.answered")
    popen.send_signal(number)
    assert popen.communicate(timeout=PATIENCE)[1].count("run the command again to go on") == 1
    assert popen.returncode == 130
    peer.wait_for("get.failed")
    assert not (tmp_path / "x").exists()
    popen = start(house, peer, url, "-q", "-o", tmp_path / "x")
    assert popen.communicate(timeout=PATIENCE) == ("", "")
    assert (tmp_path / "x").read_bytes() == CONTENT


@side_by_side("is_quiet", [True, False])
def test_a_peer_that_is_killed_is_started_again_the_command_goes_on_and_that_is_told_once(
    house: House, source: FaultySource, tmp_path: Path, is_quiet: bool
) -> None:
    peer = house.peer("peer", None)
    url = source.put("/x", CONTENT, rate=1_000_000)
    popen = start(house, peer, url, *(["-q"] if is_quiet else []), "-o", tmp_path / "x")
    peer.wait_for("source.answered")
    peer.kill()
    out, err = popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 0
    assert (tmp_path / "x").read_bytes() == CONTENT
    if is_quiet:
        assert (out, err) == ("", "")
    else:
        assert err.count("no broker is configured") == 1, "that it is alone"
        assert err.count("the peer of this host died; it is started again and goes on") == 1


@side_by_side("flags", [["-q"], []])
def test_a_peer_that_is_started_in_place_of_a_dead_one_has_its_brokers(
    house: House, source: FaultySource, tmp_path: Path, flags: list[str]
) -> None:
    broker = house.broker()
    peer = house.peer("peer", broker)
    popen = start(house, peer, source.put("/x", CONTENT, rate=1_000_000), *flags, "-o", tmp_path / "x")
    peer.wait_for("piece.held")
    peer.kill()
    popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 0
    successor, answer = host_peer(peer.home)
    successor.close()
    assert answer.brokers == [broker.control]
