"""Frames of a message: signature, then bodies. Knows no message; sockets are in edges/bus.

control, exchange, local:  [signature][body]…        (at most MOST_BODIES bodies, in order)
notices, hints:            [topic][signature][body]
chunks:                    [header][payload]         (see ChunkHeader)
"""

from __future__ import annotations

from collections.abc import Sequence

from dfmq.errors import ProtocolError
from dfmq.wire.version import MAGIC as MAGIC
from dfmq.wire.version import PROTOCOL_VERSION as PROTOCOL_VERSION
from dfmq.wire.version import SIGNATURE as SIGNATURE

MOST_BODY_BYTES = 64 * 1024
MOST_BODIES = 256


class Stranger(ProtocolError):
    """No dfmq signature: dropped without answer, for ports get reused."""


class OtherVersion(ProtocolError):
    """dfmq of another protocol version: answered with Error `version`, then dropped."""


def wrap(bodies: Sequence[bytes]) -> list[bytes]:
    """Bodies → frames."""
    return [SIGNATURE, *bodies]


def unwrap(frames: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Frames → bodies. Raises Stranger, OtherVersion or ProtocolError, never anything else."""
    if not frames or len(frames[0]) != len(SIGNATURE) or bytes(frames[0][:2]) != MAGIC:
        raise Stranger("no dfmq signature")
    if frames[0][2] != PROTOCOL_VERSION:
        raise OtherVersion(f"protocol version {frames[0][2]}, ours is {PROTOCOL_VERSION}", "version")
    bodies = frames[1:]
    if not 1 <= len(bodies) <= MOST_BODIES:
        raise ProtocolError(f"{len(bodies)} bodies in one message; 1 to {MOST_BODIES} are allowed")
    for body in bodies:
        if len(body) > MOST_BODY_BYTES:
            raise ProtocolError(f"a body of {len(body)} octets; {MOST_BODY_BYTES} are allowed")
    return bodies
