"""Real processes that end in the middle: what was fetched is not fetched again, and the output is right."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.processes import House, finish, free_port, receipts, until_it_holds
from support.sources import FaultySource

pytestmark = pytest.mark.system

KIB = 1 << 10
MIB = 1 << 20
FRESH = {"Cache-Control": "max-age=600"}
#: the cut of a content whose length nobody knows (docs/protocol.md): long pieces, so that one takes a while
GROWING_CHUNK = 256 * KIB


def test_a_killed_peer_goes_on_at_the_chunk_where_it_was(house: House, source: FaultySource, tmp_path: Path) -> None:
    content = os.urandom(8 * MIB)
    url = source.put("/x", content, chunked=True, headers=FRESH)
    broker = house.broker("broker", "--seed-up-limit", "2MB/s")
    peer = house.peer("peer", broker)
    getting = house.start_get(peer, url, "-o", tmp_path / "x")
    until_it_holds(getting, 2 * MIB)
    peer.kill()
    getting.kill()
    assert not peer.records("piece.held"), "else this would show nothing about chunks"
    got = house.get(house.peer("peer", broker), url, "-o", tmp_path / "x")
    assert got.receipt["from_store"] >= MIB
    assert got.receipt["from_store"] % GROWING_CHUNK == 0
    assert (tmp_path / "x").read_bytes() == content
    assert source.bytes_sent("/x") == len(content)


def test_a_killed_peer_is_followed_by_one_with_the_same_broker(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    """The get was told of no broker: its peer was. So is the peer it starts when that one dies."""
    content = os.urandom(6 * MIB)
    url = source.put("/x", content, rate=2_000_000, headers=FRESH)
    broker = house.broker()
    peer = house.peer("peer", broker)
    getting = house.start_get(peer, url, "-o", tmp_path / "x")
    until_it_holds(getting, MIB)
    peer.kill()
    got = finish(getting)
    assert got.status == 0, got
    assert "it is started again and goes on" in got.err and "no broker is configured" not in got.err
    assert (tmp_path / "x").read_bytes() == content
    assert source.bytes_sent("/x") == len(content)


def test_a_killed_get_leaves_what_it_had_and_wants_nothing_any_more(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(6 * MIB)
    url = source.put("/x", content, rate=2_000_000, headers=FRESH)
    peer = house.peer("peer", house.broker())
    getting = house.start_get(peer, url, "-o", tmp_path / "x")
    held = until_it_holds(getting, MIB)
    getting.kill()
    peer.wait_for("get.failed", code="interrupted")
    assert not (tmp_path / "x").exists()
    got = house.get(peer, url, "-o", tmp_path / "x")
    assert got.receipt["from_store"] >= held
    assert (tmp_path / "x").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".dfmq")) == []


def test_an_interrupted_get_stops_the_read_and_goes_on_later(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(6 * MIB)
    url = source.put("/x", content, rate=2_000_000, headers=FRESH)
    broker = house.broker()
    peer = house.peer("peer", broker)
    getting = house.start_get(peer, url, "-o", tmp_path / "x")
    held = until_it_holds(getting, MIB)
    getting.send_signal(signal.SIGINT)
    assert finish(getting).status == 130
    got = house.get(peer, url, "-o", tmp_path / "x")
    assert got.receipt["from_store"] >= held
    assert (tmp_path / "x").read_bytes() == content
    assert source.bytes_sent("/x") <= len(content) + 256 * KIB


def test_a_killed_broker_comes_back_and_everybody_finishes(house: House, source: FaultySource, tmp_path: Path) -> None:
    content = os.urandom(8 * MIB)
    url = source.put("/x", content, rate=2_000_000, headers=FRESH)
    listen = f"tcp://127.0.0.1:{free_port()}"
    broker = house.broker(listen=listen)
    peers = house.peers(["a", "b", "c"], broker)
    getting = [house.start_get(peer, url, "-o", tmp_path / f"{peer.name}.out") for peer in peers]
    for peer in peers:
        peer.wait_for("piece.held", 8)
    broker.kill()
    house.broker(listen=listen)
    got = [finish(one) for one in getting]
    assert [one.status for one in got] == [0] * 3, got
    for peer in peers:
        assert (tmp_path / f"{peer.name}.out").read_bytes() == content
    assert receipts(got)["from_seed"] + receipts(got)["from_peers"] == 3 * len(content)
    # Twice: what was on its way when the broker died, and the chunks it had not written down yet.
    assert source.bytes_sent("/x") <= len(content) + MIB
    assert "range" in source.seen("/x")[1]
    for peer in peers:
        pieces = [record["piece"] for record in peer.records("piece.held")]
        assert len(pieces) == len(set(pieces)), "no piece was fetched twice"
