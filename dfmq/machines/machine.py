"""The one door every machine has. No machine of its own; who performs effects is in nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Event_contra = TypeVar("Event_contra", contravariant=True)
Effect_co = TypeVar("Effect_co", covariant=True)


class Machine(Protocol[Event_contra, Effect_co]):
    """Events in, effects out. Time and chance are arguments; effects are performed in the order given."""

    def handle(self, event: Event_contra, now: float) -> Sequence[Effect_co]:
        """Take one fact; answer with what is to be done. `now`: seconds on a monotonic clock, never falling."""
        ...

    def next_deadline(self) -> float | None:
        """When to call again with DeadlineReached at the latest; None: no need."""
        ...

    def check(self) -> None:
        """Raise InvariantViolated, with the story, if the books do not balance. Slow; for tests."""
        ...
