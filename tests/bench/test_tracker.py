"""Torrents of the benches name what they should, and their tracker tells everybody of the others."""

from __future__ import annotations

import hashlib
import http.server
import threading
import urllib.request
from pathlib import Path

import pytest

from bench import content, tracker


def test_a_value_is_written_as_torrents_write_it() -> None:
    value: tracker.Value = {"b": [1, b"x"], "a": "é", "c": {"n": -3}}
    assert tracker.bencode(value) == b"d1:a2:\xc3\xa91:bli1e1:xe1:cd1:ni-3eee"


@pytest.mark.parametrize("size", [1, 64_000, 20_000_000, 512 << 20, 1 << 40])
def test_a_torrent_has_at_most_a_thousand_pieces_until_they_are_the_largest(size: int) -> None:
    length = tracker.piece_length(size)
    assert 64 << 10 <= length <= 4 << 20
    assert size <= 1000 * length or length == 4 << 20


def test_a_torrent_has_the_digest_of_every_piece(tmp_path: Path) -> None:
    file = tmp_path / "content.bin"
    digest = content.make_file(file, 100_000)
    assert content.sha256_of(file) == digest
    tracker.make_torrent(file, "http://tracker.example/announce", tmp_path / "t")
    data = file.read_bytes()
    sums = b"".join(hashlib.sha1(data[at : at + 65536], usedforsecurity=False).digest() for at in (0, 65536))
    assert b"6:pieces40:" + sums in (tmp_path / "t").read_bytes()


def test_who_asks_later_is_told_of_who_asked_before() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), tracker.Tracker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/announce?info_hash=%ff%00abc&peer_id=x"

        def ask(rest: str) -> bytes:
            with urllib.request.urlopen(url + rest, timeout=5) as answer:
                return bytes(answer.read())

        assert b"5:peers0:" in ask("&port=1000")
        assert b"5:peers6:\x7f\x00\x00\x01\x03\xe8" in ask("&port=2000")
        ask("&port=1000&event=stopped")
        assert b"5:peers0:" in ask("&port=2000")
        server.shutdown()


def test_a_file_that_was_read_is_cached_and_one_that_was_forgotten_is_not(tmp_path: Path) -> None:
    file = tmp_path / "content.bin"
    content.make_file(file, 4 << 20)
    content.read_through(file)
    assert content.cached_share(file) == 1.0
    try:
        content.forget(file)
    except RuntimeError as error:
        pytest.skip(f"this folder's file system keeps everything: {error}")
    assert content.cached_share(file) <= 0.01
