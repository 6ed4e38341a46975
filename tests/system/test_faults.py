"""Real processes that die, freeze, lie, run out of disk or are meddled with: the others finish, and with the truth."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import House, Node, finish, side_by_side, until, until_it_holds
from support.raw_peer import RawPeer
from support.relay import Relay
from support.sources import FaultySource

from dfmq.model import bitfield
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Request, task_id
from dfmq.wire.messages import Close, Fetch, Held, Open, Opened, Stop

pytestmark = pytest.mark.system

KIB = 1 << 10
MIB = 1 << 20
FRESH = {"Cache-Control": "max-age=600"}
#: so slow that something can happen in the middle
SEED_RATE, PEER_RATE = "4MB/s", "2MB/s"


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


def output_of(house: House, peer: Node) -> Path:
    return house.folder / f"{peer.name}.out"


def assert_gets(house: House, peer: Node, url: str, content: bytes, *words: str) -> dict[str, int]:
    """It has the content; the receipt."""
    receipt = house.get(peer, url, "-o", output_of(house, peer), *words).receipt
    assert output_of(house, peer).read_bytes() == content
    return receipt


def short_ids(broker: Node) -> dict[str, str]:
    """Exchange endpoint → the peer's id as records have it."""
    with urllib.request.urlopen(f"http://{broker.said['api']}/v1/peers", timeout=10) as answer:
        return {peer["exchange"]: peer["peer"][:8] for peer in json.load(answer)}


def given_up(broker: Node, parent: str) -> list[float]:
    """When leases on this parent came to nothing: the child said so, or the broker moved them to somebody else."""
    leases = {record["lease"] for record in broker.records("lease.granted") if record["parent"] == parent}
    ends = [r for name in ("lease.failed", "lease.expired", "lease.revoked") for r in broker.records(name)]
    return [record["at"] for record in ends if record["lease"] in leases]


# ── a broker that is out of reach for one ─────────────────────────────────────────────────────────────────────────


def test_a_peer_that_alone_loses_its_broker_finishes_by_a_neighbour_that_was_done_before(
    house: House, source: FaultySource
) -> None:
    content = os.urandom(8 * MIB)
    url = source.put("/stray", content, headers=FRESH)
    broker = house.broker("broker", "--seed-up-limit", SEED_RATE, DFMQ_BROKER_BEAT="500ms")
    holder = house.peer("holder", broker, "--up-limit", PEER_RATE)
    assert_gets(house, holder, url, content)
    host, port = broker.control.removeprefix("tcp://").rsplit(":", 1)
    with Relay((host, int(port))) as relay:
        stray = house.peer("stray", relay.endpoint)
        getting = house.start_get(stray, url, "-o", output_of(house, stray), "--timeout", "60s")
        until("a piece from a peer", lambda: stray.records("piece.held"))
        relay.cut()
        got = finish(getting)
    assert got.status == 0, got
    assert output_of(house, stray).read_bytes() == content
    assert source.requests("/stray") == 1
    assert stray.records("session.silent")


# ── parents that fail ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_parent_that_fails_in_the_middle_is_done_without(house: House, source: FaultySource, fault: str) -> None:
    content = os.urandom(12 * MIB)
    url = source.put(f"/{fault}", content, headers=FRESH)
    broker = house.broker("broker", "--api", "127.0.0.1:0", "--seed-up-limit", SEED_RATE)
    holders = house.peers(["one", "two"], broker, "--up-limit", PEER_RATE)
    got = house.get_together([(peer, [url, "-o", output_of(house, peer)]) for peer in holders])
    assert [one.status for one in got] == [0, 0]
    child = house.peer("child", broker)
    ids = {short_ids(broker)[str(peer.said["exchange"])]: peer for peer in holders}
    getting = house.start_get(child, url, "-o", output_of(house, child))
    victim = until(
        "a piece from a peer",
        lambda: next((r["parent"] for r in child.records("piece.held") if r["parent"] in ids), ""),
    )
    begun = time.time()
    if fault == "kill":
        ids[victim].kill()
    else:
        ids[victim].freeze()
    got = [finish(getting)]
    assert got[0].status == 0, got
    assert output_of(house, child).read_bytes() == content
    assert source.bytes_sent(f"/{fault}") == len(content)
    noticed = [at - begun for at in given_up(broker, victim) if at > begun]
    assert noticed and min(noticed) < 6, noticed


class Rogue(threading.Thread):
    """A raw peer that says it holds all of a content, and treats each Fetch as it likes."""

    def __init__(self, raw: RawPeer, content: bytes, opened: Opened, manner: str) -> None:
        super().__init__()
        self._raw = raw
        self._content = content
        self._cut = PieceMap(opened.length, opened.piece_length, opened.chunk_length)
        self._manner = manner
        self._over = threading.Event()
        self.asked = 0

    def run(self) -> None:
        while not self._over.is_set():
            found = self._raw.asked(Fetch, 0.1)
            if found is None:
                continue
            self.asked += 1
            child, fetch = found
            if self._manner == "lies":
                self._lie(fetch)
            elif self._manner == "refuses":
                self._raw.answer(child, Stop(lease=fetch.lease, code="not_held"))

    def _lie(self, fetch: Fetch) -> None:
        """Every chunk of the right length, one bit off."""
        for chunk in bitfield.members(bitfield.from_bytes(fetch.chunks)):
            offset, length = self._cut.chunk_span(fetch.piece, chunk)
            payload = bytearray(self._content[offset : offset + length])
            payload[length // 2] ^= 4
            self._raw.send_chunk(fetch.inbox, fetch.lease, fetch.piece, chunk, bytes(payload))

    def stop(self) -> None:
        self._over.set()
        self.join()


@contextlib.contextmanager
def a_rogue(broker: Node, url: str, content: bytes, manner: str) -> Iterator[tuple[RawPeer, Rogue]]:
    request = Request(url=url)
    task = task_id(request)
    with RawPeer(broker.control) as raw:
        raw.say(Open(task=task, request=request))
        opened = raw.hear(Opened)
        pieces = bitfield.full(PieceMap(opened.length, opened.piece_length, opened.chunk_length).count)
        raw.say(Close(task=task), Held(task=task, generation=opened.generation, held=bitfield.to_bytes(pieces)))
        rogue = Rogue(raw, content, opened, manner)
        rogue.start()
        try:
            yield raw, rogue
        finally:
            rogue.stop()


@side_by_side("manner", ["lies", "refuses", "is silent"])
def test_a_peer_that_does_not_keep_its_word_is_found_out(house: House, source: FaultySource, manner: str) -> None:
    content = os.urandom(6 * MIB)
    url = source.put(f"/{manner}".replace(" ", "-"), content, headers=FRESH)
    broker = house.broker("broker", "--seed-up-limit", SEED_RATE)
    honest, child, later = house.peers(["honest", "child", "later"], broker)
    assert_gets(house, honest, url, content)
    with a_rogue(broker, url, content, manner) as (raw, rogue):
        assert_gets(house, child, url, content)
        assert rogue.asked, "else this shows nothing"
        name = raw.id.hex()[:8]
        if manner == "lies":
            assert {record["parent"] for record in child.records("chunk.rejected")} == {name}
            (quarantined,) = broker.wait_for("peer.quarantined", peer=name)
            asked = rogue.asked
            assert_gets(house, later, url, content)
            assert rogue.asked == asked, "nobody asks it any more"
            granted = [r["at"] for r in broker.records("lease.granted") if r["parent"] == name]
            assert max(granted) <= quarantined["at"]
        else:
            assert given_up(broker, name)
            assert not broker.records("peer.quarantined")
        if manner == "refuses":
            assert broker.records("host.suspected")
    assert source.bytes_sent(f"/{manner}".replace(" ", "-")) == len(content)


# ── brokers that fail ─────────────────────────────────────────────────────────────────────────────────────────────


def test_while_the_broker_is_frozen_peers_finish_among_themselves(house: House, source: FaultySource) -> None:
    content = os.urandom(8 * MIB)
    url = source.put("/frozen", content, headers=FRESH)
    broker = house.broker("broker", "--seed-up-limit", SEED_RATE, DFMQ_BROKER_BEAT="500ms")
    holder = house.peer("holder", broker, "--up-limit", "3MB/s")
    assert_gets(house, holder, url, content)
    child = house.peer("child", broker)
    getting = house.start_get(child, url, "-o", output_of(house, child))
    child.wait_for("piece.held", 4)
    broker.freeze()
    got = finish(getting)
    assert child.records("session.silent")
    assert got.receipt["from_peers"] > 0
    assert output_of(house, child).read_bytes() == content
    broker.resume()
    child.wait_for("session.welcomed", 2)
    assert_gets(house, child, source.put("/after", content[:MIB]), content[:MIB])


# ── disks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a disk of its own, of 12 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("length", ["known", "unknown"])
def test_a_full_disk_is_one_peers_own_trouble(
    small_disk: Path, house: House, source: FaultySource, length: str
) -> None:
    """`unknown`: then it cannot be seen before the disk is full."""
    content, little = os.urandom(20 * MIB), os.urandom(MIB)
    url = source.put(f"/disk/{length}", content, headers=FRESH, chunked=length == "unknown")
    small = source.put("/little", little, headers=FRESH)
    broker = house.broker()
    cramped = house.peer("small", broker, "--free-floor", "1MiB")
    other = house.peer("other", broker)
    wanted = [(peer, [url, "-o", house.folder / f"{peer.name}.out"]) for peer in (cramped, other)]
    failed, got = house.get_together(wanted)
    assert (failed.status, failed.last["code"]) == (7, "no_space"), failed
    assert str(small_disk) in failed.err, "it says where"
    assert not (house.folder / "small.out").exists()
    assert got.status == 0
    assert (house.folder / "other.out").read_bytes() == content
    assert_gets(house, cramped, small, little)
    assert house.get(cramped, url, "-o", house.folder / "small.out").status == 7


def test_a_brokers_full_disk_does_not_hinder_what_fits(small_disk: Path, house: House, source: FaultySource) -> None:
    """The seed cannot hold it; then a peer that wants it reads the source."""
    content, little = os.urandom(20 * MIB), os.urandom(MIB)
    url = source.put("/seed-full", content, headers=FRESH)
    broker = house.broker("small", "--free-floor", "1MiB")
    peers = house.peers(["one", "two"], broker)
    got = house.get_together([(peer, [url, "-o", output_of(house, peer)]) for peer in peers])
    assert [one.status for one in got] == [0, 0], got
    assert all(output_of(house, peer).read_bytes() == content for peer in peers)
    assert source.requests("/seed-full") == 2, "the seed saw that it does not fit; a peer read it for all"
    assert_gets(house, peers[0], source.put("/fits", little), little)


@side_by_side("is_set_back", [False, True])
def test_a_file_changed_through_its_other_name_is_never_served(
    house: House, source: FaultySource, is_set_back: bool
) -> None:
    content = os.urandom(4 * MIB)
    url = source.put("/linked", content, headers=FRESH)
    broker = house.broker("broker", "--seed-up-limit", SEED_RATE)
    holder, child = house.peers(["holder", "child"], broker)
    got = house.get(holder, url, "-o", output_of(house, holder))
    if got.last["placed"] == "hardlink":
        look = output_of(house, holder).stat()
        with output_of(house, holder).open("r+b") as file:
            file.seek(MIB)
            file.write(b"meddled")
        if is_set_back:
            os.utime(output_of(house, holder), ns=(look.st_atime_ns, look.st_mtime_ns))
    assert_gets(house, child, url, content)
    assert not child.records("chunk.rejected")
    assert not broker.records("peer.quarantined")
    assert_gets(house, holder, url, content)
    assert bool(holder.records("store.failed")) == (got.last["placed"] == "hardlink")
    again = house.get(holder, url, "-o", house.folder / "again")
    assert (house.folder / "again").read_bytes() == content, again


@pytest.mark.clause("SESS-4")
@side_by_side("seconds", [2.0, 1.45])
def test_a_broker_that_stood_still_loses_nobody_and_reads_the_source_once(
    house: House, source: FaultySource, tmp_path: Path, seconds: float
) -> None:
    """Just less than three beats, and more. Peers that gave it up and came back another way are no silent ones."""
    content = os.urandom(4 * MIB)
    url = source.put(f"/still-{seconds}", content, rate=MIB)
    broker = house.broker("broker", DFMQ_BROKER_BEAT="500ms")
    peers = house.peers("ab", broker)
    gets = [house.start_get(peer, url, "-o", output_of(house, peer)) for peer in peers]
    until_it_holds(gets[0], MIB)
    broker.freeze()
    time.sleep(seconds)
    broker.resume()
    for peer, getting in zip(peers, gets, strict=True):
        assert finish(getting).status == 0
        assert output_of(house, peer).read_bytes() == content
    assert source.requests(f"/still-{seconds}") == 1
    assert [record["why"] for record in broker.records("peer.lost") if record["why"] == "silent"] == []
    assert broker.records("broker.stood_still")
