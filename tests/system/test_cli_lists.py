"""Real processes: lists with every kind of line, quickly and by the hundred."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import House, Node, finish
from support.sources import FaultySource

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("lists")) as house:
        yield house


@pytest.fixture(scope="module")
def peer(house: House) -> Node:
    return house.peer("peer", None)


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


def test_bad_lines_are_named_and_the_others_are_done(
    house: House, peer: Node, source: FaultySource, tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "wrong", "spaced%20out"):
        source.put(f"/{name}", name.encode() * 1000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "wrong").write_text("before")
    digest = hashlib.sha256(b"b" * 1000).hexdigest()
    other = hashlib.sha256(b"other").hexdigest()
    lines = [
        "# everything at once",
        source.url("/a"),
        f"{source.url('/b')} 'b with blanks' sha256:{digest}",
        "",
        "no-url-at-all",
        f"{source.url('/c')} folder",
        f"{source.url('/c')} no/such/folder/c",
        source.url("/a"),
        f"{source.url('/c')} a",
        source.url("/missing"),
        f"{source.url('/wrong')} sha256:{other}",
        f"{source.url('/c')} one two three",
        f"{source.url('/spaced%20out')} ",
        f"{source.url('/c')} 'unbalanced",
    ]
    got = house.get(peer, "--input", "-", "-d", tmp_path, typed="\n".join(lines))
    assert got.status == 1
    failed = {event["line"]: event["text"] for event in got.events if event["event"] == "failed"}
    assert sorted(failed) == [5, 6, 7, 9, 10, 11, 12, 14]
    assert "is not a URL" in failed[5] and "is a directory" in failed[6] and "there is no directory" in failed[7]
    assert "is that of line 2" in failed[9] and "404" in failed[10] and other[:16] in failed[11]
    for line in failed:
        assert f"dfmq-get: line {line}: " in got.err
    assert "line 8: the same as line 2, done once" in got.err
    assert (got.last["event"], got.last["done"], got.last["failed"]) == ("summary", 3, 8)
    assert (tmp_path / "b with blanks").read_bytes() == b"b" * 1000
    assert (tmp_path / "wrong").read_text() == "before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b with blanks", "folder", "spaced out", "wrong"]


def test_a_hundred_small_files_take_less_than_a_second(
    house: House, peer: Node, source: FaultySource, tmp_path: Path
) -> None:
    contents = {f"small{i}": os.urandom(1024) for i in range(100)}
    for name, content in contents.items():
        source.put(f"/{name}", content)
    (tmp_path / "list").write_text("\n".join(source.url(f"/{name}") for name in contents))
    (tmp_path / "out").mkdir()
    begun = time.monotonic()
    got = house.get(peer, "--input", tmp_path / "list", "-d", tmp_path / "out", "--quiet")
    took = time.monotonic() - begun
    assert got.status == 0, got
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == contents
    # A second is what is wanted; a loaded machine may take three.
    assert took < 3


def test_an_interrupted_list_is_130_and_what_is_done_stays(
    house: House, peer: Node, source: FaultySource, tmp_path: Path
) -> None:
    quick, slow = source.put("/quick", b"quick"), source.put("/slow", bytes(1 << 20), rate=100_000)
    getting = house.start_get(peer, "--input", "-", "-d", tmp_path)
    assert getting.stdin is not None and getting.stdout is not None
    getting.stdin.write(f"{quick}\n{slow}\n")
    getting.stdin.close()
    for line in getting.stdout:
        if '"done"' in line:
            break
    getting.send_signal(signal.SIGTERM)
    getting.stdin = None
    got = finish(getting)
    assert got.status == 130
    assert [path.name for path in tmp_path.iterdir()] == ["quick"]
