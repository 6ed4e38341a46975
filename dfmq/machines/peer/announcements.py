"""What the broker is told of sources: what they have, what of it is proven, what failed. When is fetching's."""

from __future__ import annotations

from dfmq.machines.effects import PeerEffect, TellBroker
from dfmq.machines.peer.holding import Holding
from dfmq.machines.peer.reading import Reading
from dfmq.model import bitfield
from dfmq.model.ids import Generation, PermitId, TaskId
from dfmq.model.task import Content
from dfmq.wire.messages import Proven, Sealed, Sourced, SourceFailed

_MOST_TEXT = 2000


class Announcements:
    """One broker's knowledge of what we read. Law: a permit is told a generation once; a piece of a generation is told
    once until it is forgotten, and only when it is held and the digests of its chunks are known. Where no permit is
    left, nobody is told."""

    def __init__(self) -> None:
        self._told: dict[TaskId, tuple[Generation, int]] = {}

    def settled(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Tell which generation it is to every permit that was not told, and which pieces of it are here."""
        holding = reading.holding
        if holding is None or not reading.permits:
            return []
        effects: list[PeerEffect] = []
        for permit, told in reading.permits.items():
            if told != holding.content.generation:
                fresh = max(0.0, reading.fresh_until - now)
                effects.append(self.sourced(permit, reading.task, holding.content, fresh))
                reading.permits[permit] = holding.content.generation
        return effects + self.pieces(holding)

    def sourced(self, permit: PermitId, task: TaskId, content: Content, fresh_seconds: float) -> PeerEffect:
        """Tell what the source has."""
        cut = content.cut
        return TellBroker(
            Sourced(
                permit=permit,
                task=task,
                generation=content.generation,
                length=cut.length,
                piece_length=cut.piece_length,
                chunk_length=cut.chunk_length,
                algorithm=content.algorithm,
                fresh_seconds=fresh_seconds,
            )
        )

    def sealed(self, reading: Reading, holding: Holding, length: int) -> list[PeerEffect]:
        """Tell where a growing content has ended."""
        message = Sealed(task=reading.task, generation=holding.content.generation, length=length)
        return [TellBroker(message)] if reading.permits else []

    def failed(self, reading: Reading, code: str, text: str, retry_after: float) -> list[PeerEffect]:
        """Tell every permit that nothing comes of it."""
        text = text[:_MOST_TEXT]
        return [
            TellBroker(SourceFailed(permit=permit, task=reading.task, code=code, text=text, retry_after=retry_after))
            for permit in reading.permits
        ]

    def pieces(self, holding: Holding) -> list[PeerEffect]:
        """Tell every piece that can be told and was not."""
        effects: list[PeerEffect] = []
        for piece in bitfield.members(holding.held & ~self._told_of(holding)):
            effects += self.piece(holding, piece)
        return effects

    def piece(self, holding: Holding, piece: int) -> list[PeerEffect]:
        """Tell this piece, if it can be told and was not."""
        told = self._told_of(holding)
        proofs = holding.proofs.get(piece)
        if proofs is None or told >> piece & 1 or not holding.held >> piece & 1:
            return []
        generation = holding.content.generation
        self._told[holding.task] = (generation, told | 1 << piece)
        return [TellBroker(Proven(task=holding.task, generation=generation, piece=piece, proofs=proofs))]

    def _told_of(self, holding: Holding) -> int:
        generation, told = self._told.get(holding.task, (b"", 0))
        return told if generation == holding.content.generation else 0

    def forget(self, task: TaskId) -> None:
        """The broker knows nothing of this task (any more)."""
        self._told.pop(task, None)

    def forget_all(self) -> None:
        """It is another broker, or one that has lost its memory."""
        self._told.clear()
