"""Which pieces of which content this broker has been told to be proven, by us. When to tell is fetching's."""

from __future__ import annotations

from dfmq.machines.effects import PeerEffect, TellBroker
from dfmq.machines.peer.holding import Holding
from dfmq.model import bitfield
from dfmq.model.ids import Generation, TaskId
from dfmq.wire.messages import Proven


class Announcements:
    """One broker's knowledge of our pieces. Law: a piece of a generation is told at most once until it is forgotten,
    and only when it is held and the digests of its chunks are known."""

    def __init__(self) -> None:
        self._told: dict[TaskId, tuple[Generation, int]] = {}

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
