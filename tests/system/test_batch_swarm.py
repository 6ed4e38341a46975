"""Real processes: lists of many files on many hosts at once. Each source is asked once, each output is right."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import pytest
from support.processes import House, finish
from support.sources import FaultySource

pytestmark = pytest.mark.system

FRESH = {"Cache-Control": "max-age=600"}


def test_a_list_on_four_hosts(tmp_path: Path) -> None:
    """Sizes of all kinds, one file that is not there, one with a digest, one under two URLs."""
    rng = random.Random(3)
    contents = [rng.randbytes(size) for size in [0, 1, 100_000, 700_001, *(rng.randrange(300_000) for _ in range(36))]]
    with House(tmp_path) as house, FaultySource() as source:
        peers = house.peers(["a", "b", "c", "d"], house.broker())
        getting = []
        for peer in peers:
            lines = [f"{source.put(f'/{i}', content, headers=FRESH)} {i}" for i, content in enumerate(contents)]
            lines.append(f"{source.url('/nothing')} nothing")
            digest = hashlib.sha256(contents[3]).hexdigest()
            lines += [f"{source.url(f'/{name}')} {name} sha256:{digest}" for name in ("3?again", "3#again")]
            rng.shuffle(lines)
            (tmp_path / f"{peer.name}.list").write_text("\n".join(lines) + "\n")
            (tmp_path / f"{peer.name}.d").mkdir()
            words = ["--input", tmp_path / f"{peer.name}.list", "-d", tmp_path / f"{peer.name}.d", "--quiet"]
            getting.append(house.start_get(peer, *words))
        for peer, one in zip(peers, getting, strict=True):
            got = finish(one)
            assert got.status == 1, got
            assert Counter(event["event"] for event in got.events) == {"done": 42, "failed": 1, "summary": 1}
            for event in got.events:
                if event["event"] == "done":
                    assert sum(event["receipt"].values()) == event["bytes"]
            for i, content in enumerate(contents):
                assert (tmp_path / f"{peer.name}.d" / f"{i}").read_bytes() == content
        for i, content in enumerate(contents):
            times = 2 if i == 3 else 1
            assert (source.requests(f"/{i}"), source.bytes_sent(f"/{i}")) == (times, times * len(content))
        assert source.requests("/nothing") <= 4
