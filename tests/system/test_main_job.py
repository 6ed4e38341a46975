"""Real processes: one URL, many hosts, the source read once, and most of the bytes from each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import House, Node, finish, receipts
from support.sources import FaultySource

pytestmark = pytest.mark.system

MIB = 1 << 20
#: so that the broker need not ask again while a test takes its time
FRESH = {"Cache-Control": "max-age=600"}


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("main")) as house:
        yield house


@pytest.fixture(scope="module")
def broker(house: House) -> Node:
    return house.broker()


@pytest.fixture(scope="module")
def peers(house: House, broker: Node) -> list[Node]:
    return house.peers([f"peer{i}" for i in range(8)], broker)


def test_eight_hosts_get_one_url_and_the_source_is_read_once(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(24 * MIB + 12345)
    url = source.put("/main", content, headers=FRESH)
    got = house.get_together([(peer, [url, "-o", tmp_path / peer.name]) for peer in peers])
    for peer, one in zip(peers, got, strict=True):
        assert one.receipt["from_source"] == one.receipt["from_store"] == 0
        assert (tmp_path / peer.name).read_bytes() == content
    assert (source.requests("/main"), source.requests("/main", "HEAD")) == (1, 0)
    assert source.bytes_sent("/main") == len(content)
    assert receipts(got)["from_peers"] > 0


def test_who_comes_later_needs_no_source_and_who_has_it_needs_nobody(
    house: House, broker: Node, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(3 * MIB)
    url = source.put("/later", content, headers=FRESH)
    assert house.get(peers[0], url, "-o", tmp_path / "first").status == 0
    late = house.peer("late", broker)
    got = house.get(late, url, "-o", tmp_path / "late")
    assert got.receipt["from_seed"] + got.receipt["from_peers"] == len(content)
    again = house.get(late, url, "-o", tmp_path / "again")
    assert again.receipt["from_store"] == len(content)
    assert (tmp_path / "late").read_bytes() == (tmp_path / "again").read_bytes() == content
    assert (source.requests("/later"), source.bytes_sent("/later")) == (1, len(content))


def test_pieces_arrive_while_the_source_is_still_being_read(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(6 * MIB)
    url = source.put("/drip", content, rate=2_000_000)
    before = [len(peer.records("piece.held")) for peer in peers[:2]]
    getting = [house.start_get(peer, url, "-o", tmp_path / peer.name) for peer in peers[:2]]
    for peer, count in zip(peers, before, strict=False):
        peer.wait_for("piece.held", count + 1)
    assert source.bytes_sent("/drip") < len(content) / 2
    for peer, one in zip(peers, getting, strict=False):
        assert finish(one).status == 0
        assert (tmp_path / peer.name).read_bytes() == content
    assert source.bytes_sent("/drip") == len(content)


def test_thirty_first_requests_at_once_are_one_request_to_the_source(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(MIB)
    url = source.put("/rush", content, rate=400_000)
    wanted = [(peers[i % len(peers)], [url, "-o", tmp_path / f"{i}"]) for i in range(30)]
    got = house.get_together(wanted)
    assert [one.status for one in got] == [0] * 30
    assert all((tmp_path / f"{i}").read_bytes() == content for i in range(30))
    assert (source.requests("/rush"), source.requests("/rush", "HEAD")) == (1, 0)
    assert source.bytes_sent("/rush") == len(content)


def test_nothing_went_wrong_meanwhile(broker: Node, peers: list[Node]) -> None:
    """After all that: nothing was rejected, refused or given up."""
    for peer in peers:
        wrong = [r for name in ("chunk.rejected", "store.failed", "stream.stalled") for r in peer.records(name)]
        assert [(r["record"], r.get("why", "")) for r in wrong] == []
    assert not [r for name in ("message.refused", "lease.expired", "permit.failed") for r in broker.records(name)]
