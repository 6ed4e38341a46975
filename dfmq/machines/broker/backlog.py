"""What came in and is not read yet: until when everything is known, and who hears that the broker lives all the same.
Reads nothing itself."""

from __future__ import annotations

from dfmq.errors import InvariantViolated

#: A backlog is taken for no older than this: whoever has not been heard for longer is gone, even from a broker that is
#: never done.
MOST_UNREAD_SECONDS = 60.0
#: To be called so much later than that, or a sum and a difference that are rounded differently meet the same instant
#: again and again.
ROUNDING_SECONDS = 0.001

NEVER = float("inf")


class Backlog:
    """Law: nobody is judged by what may lie unread: what was not heard until `read_until` was not said until then, if
    the backlog is no older than MOST_UNREAD_SECONDS. A broker that stays behind says each beat that it lives.

    400 peers that begin together at a broker of 10 ms a message (simulated): without this every one was lost for
    silence while its beats lay unread, came again, and was lost again (decision 18).
    """

    def __init__(self, beat_seconds: float) -> None:
        self._beat_seconds = beat_seconds
        self._since = NEVER
        #: when to say next that the broker lives
        self.say_at = NEVER

    @property
    def is_behind(self) -> bool:
        """Something waits to be read."""
        return self._since < NEVER

    def fell_behind(self, since: float, now: float) -> None:
        """What came in after `since` waits."""
        self._since = min(since, now)
        self.say_at = now + self._beat_seconds

    def caught_up(self) -> None:
        """Nothing waits."""
        self._since = self.say_at = NEVER

    def read_until(self, now: float) -> float:
        """Everything that was said by then has been read."""
        return min(now, max(self._since, now - MOST_UNREAD_SECONDS))

    def due_at(self, at: float) -> float:
        """When something that is due at this instant can be judged at the latest."""
        return at if self._since >= at else at + MOST_UNREAD_SECONDS + ROUNDING_SECONDS

    def is_to_say(self, now: float) -> bool:
        """It is time to say that the broker lives; asked once a time."""
        if now < self.say_at:
            return False
        self.say_at = now + self._beat_seconds
        return True

    def check(self) -> None:
        """See the class's law."""
        if self.is_behind != (self.say_at < NEVER):
            raise InvariantViolated(f"behind since {self._since}, and next said at {self.say_at}")
