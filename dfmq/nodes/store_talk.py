"""What the store tells, as events of a peer's machine. How they get into its thread is in hops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dfmq.edges.store.ears import Why
from dfmq.machines import events as told
from dfmq.model.ids import Generation, TaskId
from dfmq.model.task import Shelved


class StoreTalk:
    """Called in the store's threads."""

    def __init__(self, hop: Callable[[Any], None], recalled: Callable[[TaskId, Shelved | None], None]) -> None:
        self._hop = hop
        self.recalled = recalled

    def loaded(self, task: TaskId, shelved: Shelved | None) -> None:
        self._hop(told.StoreLoaded(task, shelved))

    def opened(
        self, task: TaskId, generation: Generation, held: int, partial: dict[int, int], proofs: dict[int, bytes]
    ) -> None:
        self._hop(told.StoreOpened(task, generation, held, partial, proofs))

    def failed(self, task: TaskId, code: str, text: str) -> None:
        self._hop(told.StoreFailed(task, code, text))

    def stored(self, task: TaskId, generation: Generation, chunks: list[tuple[int, int]]) -> None:
        self._hop(told.ChunksStored(task, generation, chunks))

    def proved(self, task: TaskId, generation: Generation, algorithm: str, hexadecimal: str) -> None:
        self._hop(told.ContentProved(task, generation, algorithm, hexadecimal))

    def doubted(self, task: TaskId) -> None:
        self._hop(told.StoreDoubted(task))

    def damaged(self, task: TaskId, why: Why) -> None:
        self._hop(told.StoreDamaged(task, why))
