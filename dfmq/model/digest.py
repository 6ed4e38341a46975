"""A content digest as users and registries write it: `sha256:<hex>`. Hashing itself is in edges/hashing."""

from __future__ import annotations

import msgspec

from dfmq.errors import SettingsError

#: algorithm → length of its hex form
HEX_LENGTH = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128, "blake3": 64}


class Digest(msgspec.Struct, frozen=True, order=True):
    """An algorithm's name and the digest in lower-case hex."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse_digest(text: str) -> Digest:
    """`algorithm:hex` → Digest. Raises SettingsError that says which part is wrong."""
    algorithm, colon, value = text.strip().partition(":")
    algorithm = algorithm.lower()
    if not colon or algorithm not in HEX_LENGTH:
        known = ", ".join(HEX_LENGTH)
        raise SettingsError(f"digest {text!r}: write it as ALGORITHM:HEX with one of {known}")
    value = value.lower()
    wanted = HEX_LENGTH[algorithm]
    if len(value) != wanted or any(c not in "0123456789abcdef" for c in value):
        raise SettingsError(f"digest {text!r}: {algorithm} needs {wanted} hex digits, this has {len(value)} characters")
    return Digest(algorithm, value)
