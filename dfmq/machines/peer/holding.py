"""What this peer holds of each task: the book that download, upload and fetch share. Decides nothing itself."""

from __future__ import annotations

from typing import Any

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import StoredSpan
from dfmq.machines.peer.assembly import Assembly
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Content, Request


class Holding:
    """One task's content here, of one generation.

    Law: a piece is in exactly one of absent, gathering (`assemblies`), held; `held` and `proofs` name only pieces of
    the cut; nothing is gathered before the store is open.
    """

    def __init__(self, task: TaskId, content: Content, request: Request) -> None:
        self.task = task
        self.content = content
        self.request = request
        self.etag = ""
        self.last_modified = ""
        #: the store has answered OpenStore (or LoadTask): chunks may be written
        self.is_open = False
        #: whole, proven, stored pieces; a bit set
        self.held = 0
        self.assemblies: dict[int, Assembly] = {}
        #: piece → the digests of its chunks, where known
        self.proofs: dict[int, bytes] = {}
        #: chunks an earlier life left of pieces that were not whole; consumed when the piece is gathered again
        self.leftover: dict[int, int] = {}

    @property
    def cut(self) -> PieceMap:
        return self.content.cut

    @property
    def is_complete(self) -> bool:
        """The whole content is held."""
        return self.content.cut.length is not None and self.held == bitfield.full(self.content.cut.count)

    def held_bytes(self) -> int:
        """Bytes that are stored, of whole pieces and of others."""
        cut = self.cut
        total = self.held.bit_count() * cut.piece_length
        if cut.length is not None and cut.count and self.held >> (cut.count - 1) & 1:
            total -= cut.piece_length - cut.piece_span(cut.count - 1)[1]
        for piece, assembly in self.assemblies.items():
            total += sum(cut.chunk_span(piece, chunk)[1] for chunk in bitfield.members(assembly.stored))
        return total

    def gather(self, piece: int, proofs: bytes | None) -> Assembly:
        """The piece's assembly, begun with what an earlier life left of it; it must not be held."""
        if self.held >> piece & 1:
            raise InvariantViolated(f"piece {piece} is held and would be gathered")
        assembly = self.assemblies.get(piece)
        if assembly is None:
            count = self.cut.chunks_in(piece)
            stored = self.leftover.pop(piece, 0) & bitfield.full(count)
            assembly = self.assemblies[piece] = Assembly(piece, count, proofs, stored)
        elif proofs is not None:
            assembly.learn(proofs)
        return assembly

    def keep(self, piece: int) -> None:
        """The piece's assembly is whole: it is held from now on."""
        assembly = self.assemblies.pop(piece)
        if not assembly.is_whole:
            raise InvariantViolated(f"piece {piece} is not whole and would be kept")
        self.held |= 1 << piece
        if len(assembly.proofs) == assembly.count:
            self.proofs[piece] = assembly.joined_proofs()

    def chunk(self, piece: int, chunk: int) -> Any | None:
        """What to send for this chunk: the proven payload, a StoredSpan, or None when we do not have it yet."""
        if not self.held >> piece & 1:
            assembly = self.assemblies.get(piece)
            if assembly is None or not assembly.proven >> chunk & 1:
                return None
            if not assembly.stored >> chunk & 1:
                return assembly.payloads[chunk]
        offset, length = self.cut.chunk_span(piece, chunk)
        return StoredSpan(self.task, self.content.generation, offset, length)

    def seal(self, length: int) -> None:
        """A growing content has ended."""
        cut = self.cut
        self.content = Content(
            self.content.generation, PieceMap(length, cut.piece_length, cut.chunk_length), self.content.algorithm
        )

    def check(self) -> None:
        """See the class's law."""
        if self.held & bitfield.of(self.assemblies):
            raise InvariantViolated(f"task {self.task.hex()}: a piece is both held and gathered")
        if self.assemblies and not self.is_open:
            raise InvariantViolated(f"task {self.task.hex()}: gathers before its store is open")
        if self.cut.length is not None and self.held >> self.cut.count:
            raise InvariantViolated(f"task {self.task.hex()}: holds pieces beyond its end")
        for assembly in self.assemblies.values():
            assembly.check()


class Holdings(dict[TaskId, Holding]):
    """Every task of which something is here, or is about to be."""

    def check(self) -> None:
        """Every holding's law."""
        for task, holding in self.items():
            if task != holding.task:
                raise InvariantViolated("a holding stands under another task's name")
            holding.check()
