"""Real processes whose gets go away while the source is read: the read stops soon, and goes on for who comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.processes import House, Node, finish, side_by_side, until, until_it_holds
from support.sources import FaultySource

from dfmq.machines.broker.backsource import UNWANTED_SECONDS

pytestmark = pytest.mark.system

KIB = 1 << 10
MIB = 1 << 20
FRESH = {"Cache-Control": "max-age=600"}
LIMIT = 500_000
#: more than the buffers between a source and who reads it take, together with what is read in a test's time
CONTENT = os.urandom(25_000_000)


def bytes_quit(reader: Node) -> int:
    """What a reader had read when it was told that nobody wants it."""
    (record,) = reader.wait_for("source.quit")
    return int(record["bytes"])


def journals_open(node: Node) -> list[str]:
    """Of the contents that the node's process has open for writing."""
    found = []
    for entry in Path(f"/proc/{node.popen.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return [path for path in found if path.startswith(f"{node.home}/tasks/") and path.endswith("/journal")]


@side_by_side("how, is_alone", [("interrupted", True), ("killed", True), ("timed out", True), ("interrupted", False)])
def test_what_nobody_wants_any_more_is_read_on_for_seconds_at_its_limit_and_no_further(
    house: House, source: FaultySource, tmp_path: Path, how: str, is_alone: bool
) -> None:
    if is_alone:
        url = source.put("/x", CONTENT, headers=FRESH)
        peer = reader = house.peer("peer", None)
    else:
        # The limit of a get is its host's; what a seed reads for it has none.
        url = source.put("/x", CONTENT, headers=FRESH, rate=LIMIT)
        broker = house.broker()
        peer, reader = house.peer("peer", broker), broker
    patience = ["--timeout", "2s"] if how == "timed out" else []
    getting = house.start_get(peer, url, "-o", tmp_path / "x", "--limit", f"{LIMIT}B/s", *patience)
    if how != "timed out":
        until_it_holds(getting, LIMIT // 2)
        getting.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
    assert finish(getting).status == {"interrupted": 130, "killed": -9, "timed out": 8}[how]
    (gone,) = peer.wait_for("get.failed")
    (started,) = peer.records("get.started")
    (ended,) = reader.wait_for("permit.ended", why="unwanted")
    assert ended["at"] - gone["at"] == pytest.approx(UNWANTED_SECONDS, abs=1.5)
    read = bytes_quit(reader)
    most = LIMIT * (ended["at"] - started["at"]) + MIB
    assert LIMIT < read < most, "it was held back by the limit to its end"
    assert source.requests("/x") == 1
    if is_alone:
        got = house.get(peer, url, "-o", tmp_path / "x")
        assert got.receipt["from_store"] >= read - 256 * KIB
        assert (tmp_path / "x").read_bytes() == CONTENT
        asked = source.seen("/x")[1]
        assert int(asked["range"].removeprefix("bytes=").removesuffix("-")) >= read - 256 * KIB
        assert "if-range" in asked


def comes_back_in_time(house: House, source: FaultySource, tmp_path: Path) -> None:
    """At a limit of its own, which holds from then on; without a new request."""
    content = CONTENT[: 8 * MIB]
    url = source.put("/x", content, headers=FRESH)
    peer = house.peer("peer", None)
    getting = house.start_get(peer, url, "-o", tmp_path / "x", "--limit", f"{LIMIT}B/s")
    until_it_holds(getting, LIMIT // 2)
    getting.send_signal(signal.SIGINT)
    assert finish(getting).status == 130
    began = time.monotonic()
    got = house.get(peer, url, "-o", tmp_path / "x", "--limit", "1MB/s")
    assert got.status == 0, got
    assert time.monotonic() - began >= (len(content) - 3 * LIMIT) / 1_000_000
    assert (tmp_path / "x").read_bytes() == content
    assert source.requests("/x") == 1
    assert not peer.records("source.quit")


@side_by_side("where", ["same host", "other host"])
def test_who_must_not_go_to_the_source_takes_what_is_read_for_others_and_keeps_no_read_going(
    house: House, source: FaultySource, tmp_path: Path, where: str
) -> None:
    url = source.put("/x", CONTENT, headers=FRESH, rate=4 * LIMIT)
    broker = house.broker()
    peers = house.peers(["a", "b"], broker)
    frugal_at = peers[where == "other host"]
    getting = house.start_get(peers[0], url, "-o", tmp_path / "x")
    until_it_holds(getting, 1)
    frugal = house.start_get(frugal_at, url, "-o", tmp_path / "y", "--no-source")
    until_it_holds(frugal, LIMIT)
    getting.send_signal(signal.SIGINT)
    assert finish(getting).status == 130
    gone = time.time()
    got = finish(frugal)
    assert (got.status, got.last["code"]) == (1, "transfer") and "--no-source" in got.err
    (ended,) = broker.wait_for("permit.ended", why="unwanted")
    assert ended["at"] - gone == pytest.approx(UNWANTED_SECONDS, abs=1.5)
    assert LIMIT <= bytes_quit(broker) < len(CONTENT)
    assert source.requests("/x") == 1
    source.put("/x", CONTENT, headers=FRESH)
    got = house.get(frugal_at, url, "-o", tmp_path / "y")
    assert got.receipt["from_store"] >= LIMIT, "what it got is kept"
    assert (tmp_path / "y").read_bytes() == CONTENT
    assert house.get(peers[0], url, "-o", tmp_path / "x", "--no-source").status == 0, "all of it is here"
    assert source.requests("/x") == 2


def goes_while_others_want_it(house: House, source: FaultySource, tmp_path: Path) -> None:
    """Two on one host, one on another: each that goes leaves the rest to be read, once."""
    content = CONTENT[: 3 * MIB]
    url = source.put("/x", content, headers=FRESH, rate=LIMIT)
    broker = house.broker()
    one, other = house.peers(["one", "other"], broker)
    gets = [house.start_get(peer, url, "-o", tmp_path / f"{i}") for i, peer in enumerate((one, one, other))]
    for getting in gets:
        until_it_holds(getting, 1)
    gets[0].send_signal(signal.SIGINT)
    gets[1].kill()
    assert [finish(getting).status for getting in gets] == [130, -9, 0]
    assert (tmp_path / "2").read_bytes() == content
    assert source.bytes_sent("/x") == len(content)
    assert not broker.records("source.quit")


@side_by_side("who", [comes_back_in_time, goes_while_others_want_it])
def test_a_read_that_somebody_wants_goes_on_whoever_goes(
    house: House, source: FaultySource, tmp_path: Path, who: Callable[[House, FaultySource, Path], None]
) -> None:
    who(house, source, tmp_path)


@side_by_side("how", ["stopped", "killed"])
def test_a_seed_does_not_read_on_for_peers_that_are_gone(
    house: House, source: FaultySource, tmp_path: Path, how: str
) -> None:
    url = source.put("/x", CONTENT, headers=FRESH, rate=2 * LIMIT)
    broker = house.broker(DFMQ_BROKER_BEAT="500ms")
    peers = house.peers(["a", "b"], broker)
    gets = [house.start_get(peer, url, "-o", tmp_path / f"{peer.name}.out") for peer in peers]
    for peer, getting in zip(peers, gets, strict=True):
        until_it_holds(getting, 1)
        getting.kill()
        peer.stop() if how == "stopped" else peer.kill()
    broker.wait_for("peer.lost", 2)
    (ended,) = broker.wait_for("permit.ended", why="unwanted")
    assert bytes_quit(broker) < len(CONTENT) // 2
    until("it lets go of what it wrote to", lambda: not journals_open(broker))
    sent = until("the source sends no more", lambda: _stands(source))
    assert sent < len(CONTENT)
    lost = max(record["at"] for record in broker.records("peer.lost"))
    assert ended["at"] - lost == pytest.approx(UNWANTED_SECONDS, abs=1.0)
    fresh = house.peer("c", broker)
    source.put("/x", CONTENT, headers=FRESH)
    got = house.get(fresh, url, "-o", tmp_path / "c.out")
    assert got.status == 0 and (tmp_path / "c.out").read_bytes() == CONTENT
    assert "if-range" in source.seen("/x")[1]


def _stands(source: FaultySource) -> int:
    """The bytes the source has sent, if it has sent none for half a second; else 0."""
    before = source.bytes_sent("/x")
    time.sleep(0.5)
    return before if source.bytes_sent("/x") == before else 0
