"""Which generation of a content a source's answer is of. Comparison and derivation; nothing is asked or read here."""

from __future__ import annotations

import hashlib

from dfmq.machines.events import SourceAnswered
from dfmq.machines.peer.holding import Holding
from dfmq.model.ids import GENERATION_BYTES, Generation, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Request


def derive(task: TaskId, answer: SourceAnswered, cut: PieceMap, algorithm: str) -> Generation:
    """The name every reader gives to this version of the content: whoever reads it again, finds it again.

    The cut and the algorithm of the proofs are in it, for pieces of another cut are not the same pieces.
    """
    words = (answer.etag, answer.last_modified, answer.length, cut.piece_length, cut.chunk_length, algorithm)
    text = task + "\n".join(map(str, words)).encode()
    return Generation(hashlib.blake2b(text, digest_size=GENERATION_BYTES, person=b"dfmq.generation").digest())


def has_name(request: Request, answer: SourceAnswered) -> bool:
    """Whether the answer can be told from others: by a validator, or because the user named the content's digest."""
    return bool(request.digest or answer.etag or answer.last_modified)


def is_of(holding: Holding, request: Request, answer: SourceAnswered, cut: PieceMap) -> bool:
    """Whether the answer is of the generation we hold (`cut`: the house's own of the answer's length).

    A digest in the request pins the content: mirrors with other validators give the same, which is proven at the end.
    """
    length = holding.cut.length
    fits = length is None or answer.length is None or answer.length == length
    if answer.kind == "unchanged":
        return True
    if request.digest:
        return fits
    if answer.kind == "partial":
        # The question was conditional. What a 206 leaves out has not changed (RFC 9110, section 15.3.7).
        return (
            fits
            and bool(holding.etag or holding.last_modified)
            and answer.etag.removeprefix("W/") in ("", holding.etag.removeprefix("W/"))
            and answer.last_modified in ("", holding.last_modified)
        )
    if not (answer.etag or answer.last_modified):
        return False
    return holding.content.generation == derive(holding.task, answer, cut, holding.content.algorithm)
