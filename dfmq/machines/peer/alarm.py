"""The one instant at which the peer wants to be called: what every part that waits for something sets, and nobody has
to ask them all for after each event."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from dfmq.errors import InvariantViolated
from dfmq.machines.deadlines import Deadlines

K = TypeVar("K", bound=Hashable)

NEVER = float("inf")


class Alarm:
    """The soonest of all instants that were asked for since it last rang.

    Law: never after the soonest instant any part waits for; before it, where that came to nothing, it rings once in
    vain.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = NEVER

    def by(self, at: float) -> float:
        """Ring at this instant, which is given back, at the latest."""
        if at < self.at:
            self.at = at
        return at

    def check(self, soonest: float) -> None:
        """See the class's law; `soonest`: what the parts say, asked one by one."""
        if soonest < self.at:
            raise InvariantViolated(f"something is due at {soonest}, and the alarm is set for {self.at}")


class AlarmedDeadlines(Deadlines[K]):
    """Deadlines that set the alarm. Law: that of Deadlines; and the alarm is not after any of them."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__()
        self._alarm = alarm

    def set(self, key: K, at: float) -> None:
        """Give or move a key's instant."""
        super().set(key, at)
        self._alarm.by(at)
