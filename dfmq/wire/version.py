"""How a dfmq message begins, and which protocol it is. Alone, for a command that reads no other part of wire."""

from __future__ import annotations

PROTOCOL_VERSION = 1
#: Two octets that no text protocol begins with, then the protocol's version.
MAGIC = b"\xdf\x51"
SIGNATURE = MAGIC + bytes([PROTOCOL_VERSION])
