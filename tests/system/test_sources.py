"""Real processes: sources of every kind and temper behind a broker. The outputs are right, and the source is spared.

What a user reads when a source says no is in test_cli_sources.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes import Got, House, Node, finish, until
from support.sources import MODIFIED, FaultySource

pytestmark = pytest.mark.system

KIB = 1 << 10
MIB = 1 << 20
PIECE, CHUNK = 256 * KIB, 64 * KIB
FRESH = {"Cache-Control": "max-age=600"}
SAME_SECOND, LATER = {"Date": MODIFIED}, {"Date": "Tue, 24 Nov 2026 10:00:00 GMT"}
STALL_SECONDS = 1.0
NEGATIVE_SECONDS = 60.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("sources")) as house:
        yield house


@pytest.fixture(scope="module")
def peers(house: House) -> list[Node]:
    shelf = house.folder / "shelf"
    shelf.mkdir()
    (shelf / "content").write_bytes(b"a file of the broker's host")
    (house.folder / "secret").write_bytes(b"not for peers")
    settings = {"DFMQ_SOURCE_STALL": f"{STALL_SECONDS}s", "DFMQ_SOURCE_NEGATIVE": f"{NEGATIVE_SECONDS}s"}
    broker = house.broker("broker", "--files", str(shelf), **settings)
    return house.peers(["a", "b", "c"], broker)


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


@pytest.fixture(scope="module")
def secure() -> Iterator[FaultySource]:
    with FaultySource(tls=True) as secure:
        yield secure


def get_all(house: House, peers: list[Node], folder: Path, url: str, *words: str | Path) -> list[Got]:
    """Every peer gets the URL, at once; the outputs are NAME.out."""
    return house.get_together([(peer, [url, "-o", folder / f"{peer.name}.out", *words]) for peer in peers])


def outputs(peers: list[Node], folder: Path) -> list[bytes]:
    return [(folder / f"{peer.name}.out").read_bytes() for peer in peers]


def assert_all_right(got: list[Got], peers: list[Node], folder: Path, content: bytes) -> None:
    for one in got:
        assert sum(one.receipt.values()) == len(content)
    assert all(output == content for output in outputs(peers, folder))


# ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, CHUNK + 1, PIECE - 1, PIECE, PIECE + 1])
def test_any_size_comes_whole(house: House, peers: list[Node], source: FaultySource, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    url = source.put(f"/size/{size}", content, headers=FRESH)
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    assert (source.requests(f"/size/{size}"), source.bytes_sent(f"/size/{size}")) == (1, size)


@pytest.mark.parametrize("size", [0, 5, 4 * MIB, 9 * MIB + 1])
def test_a_length_nobody_says_is_found_at_the_end(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    url = source.put(f"/chunked/{size}", content, chunked=True, headers=FRESH)
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    assert (source.requests(f"/chunked/{size}"), source.bytes_sent(f"/chunked/{size}")) == (1, size)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_coding_nobody_asked_for_is_undone(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path, encoding: str
) -> None:
    content = b"compressible " * 100_000
    url = source.put(f"/{encoding}", content, encoding=encoding, headers=FRESH)
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    assert source.requests(f"/{encoding}") == 1
    assert source.seen(f"/{encoding}")[0]["accept-encoding"] == "identity"


def test_files_of_the_brokers_host_are_given_from_the_folders_it_names_alone(
    house: House, peers: list[Node], tmp_path: Path
) -> None:
    shelf = house.folder / "shelf"
    assert_all_right(
        get_all(house, peers, tmp_path, f"file://{shelf}/content"), peers, tmp_path, b"a file of the broker's host"
    )
    (shelf / "link").symlink_to(house.folder / "secret")
    for path in ("/etc/hostname", f"{house.folder}/secret", f"{shelf}/../secret", f"{shelf}/link", "/no/such"):
        got = house.get(peers[0], f"file://{path}", "-o", tmp_path / "secret")
        assert (got.status, got.last["code"]) == (5, "source_refused"), got
        assert "dfmq-broker --files DIR" in got.err
        assert not (tmp_path / "secret").exists()


# ── whom the source is, and who asks ──────────────────────────────────────────────────────────────────────────────


def test_authorities_and_recklessness_are_one_tasks_own(
    house: House, peers: list[Node], secure: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(PIECE)
    url = secure.put("/tls", content, headers=FRESH)
    authorities = tmp_path / "ca.pem"
    authorities.write_text(secure.cacert)
    assert_all_right(get_all(house, peers, tmp_path, url, "--cacert", authorities), peers, tmp_path, content)
    assert secure.requests("/tls") == 1
    assert_all_right(get_all(house, peers, tmp_path, url, "--insecure"), peers, tmp_path, content)
    assert secure.requests("/tls") == 2
    # The swarm has it twice by now, and neither is what somebody gets who trusts the system's authorities.
    strict = house.get(peers[0], url, "-o", tmp_path / "strict")
    assert strict.status == 1 and "is not trusted" in strict.err
    other = house.get(peers[1], secure.put("/tls2", content), "-o", tmp_path / "strict")
    assert other.status == 1 and "is not trusted" in other.err
    assert not (tmp_path / "strict").exists()


def test_redirects_are_followed_and_credentials_stay_at_the_host_they_were_given_for(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(PIECE)
    there = source.put("/there", content, headers=FRESH)
    source.put("/same-host", redirect=there)
    words = ["-H", "Authorization: Bearer of-one-host", "-H", "X-Colour: blue"]
    got = get_all(house, peers, tmp_path, source.url("/same-host"), *words)
    assert_all_right(got, peers, tmp_path, content)
    assert source.seen("/there")[0]["authorization"] == "Bearer of-one-host"
    with FaultySource() as other:
        elsewhere = other.put("/elsewhere", content, headers=FRESH)
        source.put("/other-host", redirect=elsewhere)
        got = get_all(house, peers, tmp_path, source.url("/other-host"), *words)
        assert_all_right(got, peers, tmp_path, content)
        assert source.seen("/other-host")[0]["authorization"] == "Bearer of-one-host"
        assert source.seen("/other-host")[0]["x-colour"] == "blue"
        assert "authorization" not in other.seen("/elsewhere")[0]


# ── it says no ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_404_is_told_to_all_who_wait_and_remembered(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    url = source.url("/nothing")
    wanted = [(peers[i % 3], [url, "-o", tmp_path / f"{i}"]) for i in range(10)]
    assert [one.status for one in house.get_together(wanted)] == [5] * 10
    assert [one.status for one in get_all(house, peers, tmp_path, url)] == [5] * 3
    assert source.requests("/nothing") == 1


def test_a_source_that_is_busy_is_asked_again_when_it_said(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    content = os.urandom(PIECE)
    url = source.put("/busy", content, status=503, headers={"Retry-After": "1"}, times=1)
    begun = time.monotonic()
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    assert time.monotonic() - begun >= 1.0
    assert (source.requests("/busy"), source.bytes_sent("/busy")) == (2, len(content))


# ── it breaks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["stall_after", "close_after"])
def test_a_read_that_breaks_is_resumed_where_it_was(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path, fault: str
) -> None:
    content = os.urandom(12 * MIB)
    broke_at = 9 * MIB + 1234
    url = source.put(f"/{fault}", content, headers=FRESH, times=1, **{fault: broke_at})
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    first, second = source.seen(f"/{fault}")
    assert "range" not in first
    resumed_at = int(second["range"].removeprefix("bytes=").removesuffix("-"))
    assert broke_at - CHUNK < resumed_at <= broke_at
    assert second["if-range"].startswith('"')
    assert source.bytes_sent(f"/{fault}") == len(content) + broke_at - resumed_at


def test_a_stall_is_noticed_in_the_time_that_is_set(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    url = source.put("/stalls", os.urandom(PIECE), stall_after=1000, times=1)
    begun = time.monotonic()
    assert house.get(peers[0], url, "-o", tmp_path / "x").status == 0
    assert STALL_SECONDS <= time.monotonic() - begun < STALL_SECONDS + 8


@pytest.mark.parametrize("names", [{}, {"etag": "", "last_modified": ""}])
def test_without_ranges_it_is_read_again_from_its_beginning(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path, names: dict[str, str]
) -> None:
    content = os.urandom(2 * MIB)
    path = f"/no-ranges/{len(names)}"
    url = source.put(path, content, ranges=False, close_after=MIB + 7, times=1, headers=FRESH, **names)
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    assert (source.requests(path), source.bytes_sent(path)) == (2, 3 * MIB + 7)


def test_a_range_it_answers_wrongly_is_not_used(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path
) -> None:
    """Each 206 is of another part than was asked for: then all of it is asked for."""
    content = os.urandom(10 * MIB)
    headers = {**FRESH, "Content-Range": "bytes 0-9/10"}
    url = source.put("/wrong", content, close_after=9 * MIB, times=1, headers=headers)
    assert_all_right(get_all(house, peers, tmp_path, url), peers, tmp_path, content)
    assert ["range" in seen for seen in source.seen("/wrong")] == [False, True, False]


# ── it changes ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"etag": ""},
        {"etag": "", "last_modified": ""},
        {"etag": "", "last_modified": MODIFIED, "headers": SAME_SECOND},
        {"etag": 'W/"x"', "last_modified": MODIFIED, "headers": LATER},
    ],
    ids=["etag", "date", "no names", "one date", "weak etag and date"],
)
def test_content_that_changes_while_it_is_read_is_never_mixed(
    house: House, peers: list[Node], source: FaultySource, tmp_path: Path, names: dict[str, Any]
) -> None:
    before, after = os.urandom(4 * MIB), os.urandom(4 * MIB)
    path = f"/changes/{'-'.join(names)}/{len(names.get('etag', 'own'))}"
    url = source.put(path, before, close_after=3 * MIB, rate=3_000_000, **names)
    getting = [house.start_get(peer, url, "-o", tmp_path / f"{peer.name}.out") for peer in peers]
    until("half of the old one is read", lambda: source.bytes_sent(path) > 2 * MIB)
    modified = {"last_modified": "Tue, 24 Nov 2026 10:00:00 GMT"} if "last_modified" not in names else {}
    source.put(path, after, **{**names, **modified})
    assert [finish(one).status for one in getting] == [0] * 3
    assert set(outputs(peers, tmp_path)) == {after}
