"""Real processes: what a broker has read stays of use: over restarts, while fresh, for those who may have it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

import pytest
from support.processes import House, Node, free_port, side_by_side, until
from support.raw_peer import RawPeer
from support.sources import FaultySource, Page

from dfmq.model.task import Request, task_id
from dfmq.wire.messages import Close, Open, Opened

pytestmark = pytest.mark.system

MIB = 1 << 20
CONTENT = os.urandom(3 * MIB)


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


def assert_gets(house: House, peer: Node, url: str, content: bytes, *words: str) -> dict[str, int]:
    """It has the content; the receipt."""
    output = house.folder / "output"
    receipt = house.get(peer, url, "-o", output, *words).receipt
    assert output.read_bytes() == content
    output.unlink()
    return receipt


@side_by_side("how", ["stop", "kill"])
def test_a_broker_that_comes_back_asks_whether_it_changed_and_reads_nothing_twice(
    house: House, source: FaultySource, how: str
) -> None:
    path = f"/restart/{how}"
    url = source.put(path, CONTENT)
    listen = f"tcp://127.0.0.1:{free_port()}"
    broker = house.broker(listen=listen)
    first, second = house.peers(["first", "second"], broker)
    assert_gets(house, first, url, CONTENT)
    if how == "stop":
        assert broker.stop() == 0
    else:
        broker.kill()
    house.broker(listen=listen)
    second.wait_for("session.welcomed", 2)
    assert_gets(house, second, url, CONTENT)
    assert [seen.get("if-none-match", "") for seen in source.seen(path)] == ["", Page(data=CONTENT).tag]
    assert source.bytes_sent(path) == len(CONTENT)


def test_a_broker_that_comes_back_cuts_for_as_many_hosts_as_it_had(house: House, source: FaultySource) -> None:
    listen = f"tcp://127.0.0.1:{free_port()}"
    broker = house.broker(listen=listen)
    for _ in range(2):
        with RawPeer(broker.control):
            pass
    assert broker.stop() == 0
    census = house.folder / "broker" / "hosts"
    assert int(census.read_text()) >= 1
    census.write_text("2000")
    broker = house.broker(listen=listen)
    request = Request(url=source.put("/many", os.urandom(32 * MIB)))
    with RawPeer(broker.control) as raw:
        raw.say(Open(task=task_id(request), request=request))
        opened = raw.hear(Opened)
        raw.say(Close(task=task_id(request)))
    assert (opened.piece_length, opened.chunk_length) == (4 * MIB, 128 << 10), "eight pieces, in chunks as for few"
    assert census.read_text() == "1000"


def test_what_nothing_names_is_read_again_by_a_broker_that_comes_back(house: House, source: FaultySource) -> None:
    url = source.put("/nameless", CONTENT, etag="", last_modified="")
    listen = f"tcp://127.0.0.1:{free_port()}"
    broker = house.broker(listen=listen)
    first, second = house.peers(["first", "second"], broker)
    assert_gets(house, first, url, CONTENT)
    assert_gets(house, second, url, CONTENT)
    assert source.requests("/nameless") == 1
    broker.kill()
    changed = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    source.put("/nameless", changed, etag="", last_modified="")
    house.broker(listen=listen)
    second.wait_for("session.welcomed", 2)
    assert_gets(house, second, url, changed)
    assert_gets(house, first, url, changed)


def test_freshness_is_the_sources_word_and_a_new_version_is_a_new_generation(
    house: House, source: FaultySource
) -> None:
    fresh_seconds = 2
    url = source.put("/fresh", CONTENT, headers={"Cache-Control": f"max-age={fresh_seconds}"})
    broker = house.broker()
    first, second = house.peers(["first", "second"], broker)
    begun = time.monotonic()
    assert_gets(house, first, url, CONTENT)
    while_fresh = 0
    while time.monotonic() - begun < fresh_seconds - 1 or not while_fresh:
        assert_gets(house, second, url, CONTENT)
        while_fresh += 1
    if time.monotonic() - begun < fresh_seconds:
        assert source.requests("/fresh") == 1
    until("the answer is stale", lambda: time.monotonic() - begun > fresh_seconds + 1)
    assert assert_gets(house, second, url, CONTENT)["from_store"] == len(CONTENT)
    assert source.requests("/fresh") >= 2
    assert source.bytes_sent("/fresh") == len(CONTENT)
    changed = os.urandom(2 * MIB)
    source.put("/fresh", changed, headers={"Cache-Control": "max-age=600"})
    until("the answer is stale", lambda: time.monotonic() - begun > 2 * fresh_seconds + 3)
    assert assert_gets(house, second, url, changed)["from_store"] == 0
    assert_gets(house, first, url, changed)
    assert source.bytes_sent("/fresh") == len(CONTENT) + len(changed)


def test_content_of_a_digest_is_not_asked_for_again(house: House, source: FaultySource) -> None:
    """Whatever becomes of its source, and from whichever mirror."""
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    url = source.put("/digest", CONTENT)
    broker = house.broker("broker", DFMQ_SOURCE_REVALIDATE="0")
    first, second = house.peers(["first", "second"], broker)
    assert_gets(house, first, url, CONTENT, "--digest", digest)
    source.put("/digest", status=500)
    assert_gets(house, second, url, CONTENT, "--digest", digest)
    assert_gets(house, second, source.url("/mirror"), CONTENT, "--digest", digest)
    assert source.requests("/digest") == 1


def test_private_content_is_for_those_the_source_accepts(house: House, source: FaultySource) -> None:
    url = source.put("/private", CONTENT, authorization="Bearer right", headers={"Cache-Control": "max-age=600"})
    broker = house.broker()
    first, second = house.peers(["first", "second"], broker)
    right, wrong = ("-H", "Authorization: Bearer right"), ("-H", "Authorization: Bearer wrong")
    assert_gets(house, first, url, CONTENT, *right)
    for peer in (second, first):
        for words in ((), wrong):
            asked = source.requests("/private")
            got = house.get(peer, url, "-o", house.folder / "stolen", *words)
            assert (got.status, got.last["code"]) == (6, "not_authorised"), got
            assert not (house.folder / "stolen").exists()
            if peer is second:
                assert source.requests("/private") == asked + 1
    asked = source.requests("/private")
    receipt = assert_gets(house, second, url, CONTENT, *right)
    assert receipt["from_seed"] + receipt["from_peers"] == len(CONTENT)
    assert source.requests("/private") <= asked + 1
    assert source.bytes_sent("/private") == len(CONTENT)
    # And while somebody with the right one is being served, the others still get nothing.
    assert house.get(second, url, "-o", house.folder / "stolen").status == 6
