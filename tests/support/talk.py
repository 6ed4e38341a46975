"""The content that machines talk about in tests: two pieces of four chunks, with digests anybody can name."""

from __future__ import annotations

from dfmq.model.ids import Generation, PeerId
from dfmq.model.pieces import KIB, cut
from dfmq.model.task import Request, task_id

REQUEST = Request(url="http://source.example/content")
#: the same, asked for with credentials
MINE = Request(url=REQUEST.url, headers=(("Authorization", "Bearer mine"),))
THEIRS = Request(url=REQUEST.url, headers=(("Authorization", "Bearer theirs"),))
TASK = task_id(REQUEST)
GENERATION = Generation(b"first---")
OTHER_GENERATION = Generation(b"second--")
#: two whole pieces of 256 KiB, 4 chunks each
CUT = cut(512 * KIB)
CHUNKS = CUT.chunks_in(0)


def digest(piece: int, chunk: int) -> bytes:
    """What the chunks of the content digest to, in these tests."""
    return bytes([piece, chunk]) * 8


def proofs(piece: int) -> bytes:
    return b"".join(digest(piece, chunk) for chunk in range(CHUNKS))


def peer_id(name: str) -> PeerId:
    return PeerId(name.encode().ljust(16, b"-"))


def exchange(name: str) -> str:
    return f"tcp://{name}.example:7500"
