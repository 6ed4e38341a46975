"""A host's disk as the store would keep it: survives the peer's process. No delays here; those are the peer's."""

from __future__ import annotations

import msgspec

from dfmq.machines.effects import OpenStore, StoredSpan
from dfmq.model import bitfield
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import DIGEST_BYTES, PieceMap
from dfmq.model.task import Content, Request, Shelved
from dfmq.sim.truth import Truth


class StoredTask:
    """One task's content on a disk."""

    def __init__(self, content: Content, request: Request, etag: str, last_modified: str, strong_date: bool) -> None:
        self.content = content
        self.request = request
        self.names = etag, last_modified, strong_date
        #: piece → chunk → what stands there
        self.pieces: dict[int, dict[int, Truth]] = {}

    def books(self) -> tuple[int, dict[int, int], dict[int, bytes]]:
        """(held, partial, proofs) as Shelved names them."""
        held, partial, proofs = 0, {}, {}
        for piece, chunks in self.pieces.items():
            count = self.content.cut.chunks_in(piece)
            proofs[piece] = b"".join(chunks[i].digest if i in chunks else bytes(DIGEST_BYTES) for i in range(count))
            if len(chunks) == count:
                held |= 1 << piece
            else:
                partial[piece] = bitfield.of(chunks)
        return held, partial, proofs

    def in_order(self) -> list[Truth]:
        """What stands in the file, from its beginning, as far as it is chunk by chunk."""
        return [chunks[chunk] for _, chunks in sorted(self.pieces.items()) for chunk in sorted(chunks)]


class Shelf:
    """Everything one host's store holds."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, StoredTask] = {}

    def load(self, task: TaskId) -> Shelved | None:
        """What LoadTask finds."""
        stored = self.tasks.get(task)
        if stored is None:
            return None
        held, partial, proofs = stored.books()
        return Shelved(stored.content, held, partial, proofs, stored.request, *stored.names)

    def open(self, wish: OpenStore) -> StoredTask:
        """What OpenStore leaves: other generations are gone, of this one everything is kept."""
        stored = self.tasks.get(wish.task)
        if stored is None or stored.content.generation != wish.content.generation:
            stored = StoredTask(wish.content, wish.request, wish.etag, wish.last_modified, wish.strong_date)
            self.tasks[wish.task] = stored
        else:
            stored.content = msgspec.structs.replace(stored.content, cut=wish.content.cut)
            stored.names = wish.etag, wish.last_modified, wish.strong_date
        return stored

    def of(self, task: TaskId, generation: Generation) -> StoredTask | None:
        """The task, if it is stored in this generation."""
        stored = self.tasks.get(task)
        return stored if stored is not None and stored.content.generation == generation else None

    def seal(self, task: TaskId, generation: Generation, length: int) -> None:
        """A growing content's length is known."""
        stored = self.of(task, generation)
        if stored is not None:
            cut = stored.content.cut
            stored.content = msgspec.structs.replace(
                stored.content, cut=PieceMap(length, cut.piece_length, cut.chunk_length)
            )

    def read(self, span: StoredSpan) -> Truth | None:
        """The chunk that stands at the span; None when it is not stored, or not of that generation."""
        stored = self.of(span.task, span.generation)
        if stored is None:
            return None
        cut = stored.content.cut
        piece, inside = divmod(span.offset, cut.piece_length)
        chunks = stored.pieces.get(piece)
        truth = chunks.get(inside // cut.chunk_length) if chunks is not None else None
        return truth if truth is not None and truth.length == span.length else None
