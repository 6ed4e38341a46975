"""What the store tells its owner. Called in the store's threads: an owner hops each call into its own."""

from __future__ import annotations

from typing import Literal, Protocol

from dfmq.model.ids import Generation, TaskId
from dfmq.model.task import Shelved

#: Why a content does not stand any more as it was told: its file was changed from outside, the disk did not keep what
#: was written, it had to make room.
Why = Literal["changed", "unsynced", "evicted"]


class StoreEars(Protocol):
    """Each slow request is answered by exactly one of these; `failed` and `damaged` also come by themselves."""

    def loaded(self, task: TaskId, shelved: Shelved | None) -> None:
        """Answers load: what there is of the task, None nothing."""
        ...

    def recalled(self, task: TaskId, shelved: Shelved | None) -> None:
        """Answers recall: what there is of the task, None nothing that could be told at once."""
        ...

    def opened(
        self, task: TaskId, generation: Generation, held: int, partial: dict[int, int], proofs: dict[int, bytes]
    ) -> None:
        """Answers open: the content may be written; this of it is held already."""
        ...

    def failed(self, task: TaskId, code: str, text: str) -> None:
        """Answers open, or says that a write went wrong; until the task is opened again nothing of it is written.
        `code`: no_space or store."""
        ...

    def stored(self, task: TaskId, generation: Generation, chunks: list[tuple[int, int]]) -> None:
        """These chunks, (piece, chunk), are written and journalled. Once a batch."""
        ...

    def proved(self, task: TaskId, generation: Generation, algorithm: str, hexadecimal: str) -> None:
        """Answers prove: the digest of the whole content, "" when it could not be read."""
        ...

    def doubted(self, task: TaskId) -> None:
        """Answers pin, at once: somebody may have written to the file of this complete content. `open` or `load` prove
        it; if it does not prove, `damaged` comes before their answer."""
        ...

    def damaged(self, task: TaskId, why: Why) -> None:
        """What was told of this task does not hold any more. Open or load it to learn what is left, mostly nothing."""
        ...
