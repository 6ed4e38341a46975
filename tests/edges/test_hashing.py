"""Digests of chunks and of contents."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from dfmq.edges import hashing
from dfmq.errors import SettingsError
from dfmq.model.digest import HEX_LENGTH


def test_a_chunk_digest_is_xxh3_128_of_any_buffer() -> None:
    # The test vector of the xxHash project for an empty input, seed 0.
    assert hashing.chunk_digest(b"").hex() == "99aa06d3014798d86001c324468d497f"
    octets = os.urandom(70_000)
    assert hashing.chunk_digest(memoryview(octets)) == hashing.chunk_digest(bytearray(octets))
    assert hashing.chunk_digest(octets) != hashing.chunk_digest(octets[:-1] + bytes([octets[-1] ^ 1]))
    assert hashing.chunk_digester("xxh3_128") is hashing.chunk_digest


def test_blake3_is_cut_to_the_length_of_all_chunk_digests() -> None:
    pytest.importorskip("blake3")
    digest = hashing.chunk_digester("blake3")
    # The test vector of the BLAKE3 project for an empty input.
    assert digest(memoryview(b"")).hex() == "af1349b9f5f9a1a6a0404dea36dcc949"
    assert len(digest(b"x")) == hashing.DIGEST_BYTES


def test_an_algorithm_we_do_not_know_or_have_is_a_matter_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="xxh3_128"):
        hashing.chunk_digester("crc32")
    with pytest.raises(SettingsError, match="sha256"):
        hashing.content_hash("crc32")
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(SettingsError, match="pip install"):
        hashing.chunk_digester("blake3")


@pytest.mark.parametrize("algorithm", HEX_LENGTH)
def test_a_file_is_hashed_over_its_first_octets(tmp_path: Path, algorithm: str) -> None:
    if algorithm == "blake3":
        pytest.importorskip("blake3")
    octets = os.urandom(hashing.READ_BYTES + 12_345)
    (tmp_path / "file").write_bytes(octets)
    with (tmp_path / "file").open("rb") as file:
        length = len(octets) - 5
        got = hashing.hash_file(file.fileno(), length, algorithm, lambda: False)
        if algorithm != "blake3":
            assert got == hashlib.new(algorithm, octets[:length]).hexdigest()
        assert len(got) == HEX_LENGTH[algorithm]
        assert hashing.hash_file(file.fileno(), len(octets) + 1, algorithm, lambda: False) == ""
        assert hashing.hash_file(file.fileno(), length, algorithm, lambda: True) == ""
