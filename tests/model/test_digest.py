"""Digests as users write them."""

from __future__ import annotations

import pytest

from dfmq.errors import SettingsError
from dfmq.model.digest import HEX_LENGTH, Digest, parse_digest


@pytest.mark.parametrize("algorithm", sorted(HEX_LENGTH))
def test_a_digest_is_read_in_any_case_and_written_in_one(algorithm: str) -> None:
    value = "0123456789abcdef" * (HEX_LENGTH[algorithm] // 16) + "0" * (HEX_LENGTH[algorithm] % 16)
    digest = parse_digest(f" {algorithm.upper()}:{value.upper()}\n")
    assert digest == Digest(algorithm, value)
    assert str(digest) == f"{algorithm}:{value}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ALGORITHM:HEX"),
        ("sha256", "ALGORITHM:HEX"),
        ("crc32:00000000", "sha256"),
        ("ab" * 32, "ALGORITHM:HEX"),
        ("sha256:", "64 hex digits"),
        ("sha256:" + "a" * 63, "63 characters"),
        ("sha256:" + "g" * 64, "64 hex digits"),
        ("sha256:" + "٣" * 64, "64 hex digits"),
        ("md5:" + "a" * 64, "32 hex digits"),
    ],
)
def test_what_is_no_digest_says_what_is_wrong_with_it(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_digest(text)
