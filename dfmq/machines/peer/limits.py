"""How fast bytes may go, and how fast they went: a token bucket and a rate meter. Knows no stream and no message."""

from __future__ import annotations

from collections import deque

from dfmq.errors import InvariantViolated

#: What an idle sender may send at once: some 12 MB at 1 Gbit/s, and less than one chunk below 5 Mbit/s.
BURST_SECONDS = 0.1
#: Waits are rounded: an instant on a float clock is good to a nanosecond, and a byte is not worth a second deadline.
_CLOCK_ERROR = 1e-9


class TokenBucket:
    """Leave to send, in bytes, filled at `rate` bytes per second up to `rate × burst_seconds`.

    Law: over any span of time the bytes taken when ready are at most rate × span + the burst or the largest request,
    whichever is more. Work-conserving: a full bucket lets any request through, even one larger than the burst, which
    then leaves a debt; so nobody waits while nothing was sent for `burst_seconds`.
    """

    __slots__ = ("_at", "_level", "burst_seconds", "rate")

    def __init__(self, rate: int, burst_seconds: float = BURST_SECONDS) -> None:
        """`rate`: bytes per second, 0 unlimited."""
        self.rate = rate
        self.burst_seconds = burst_seconds
        self._level = self.burst
        self._at = float("-inf")

    @property
    def burst(self) -> float:
        """The most that lies in the bucket, bytes."""
        return self.rate * self.burst_seconds

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            self._at = now

    def ready_in(self, size: int, now: float) -> float:
        """Seconds until `size` bytes may be taken; 0.0 now."""
        if not self.rate:
            return 0.0
        self._fill(now)
        short = min(size, self.burst) - self._level
        return short / self.rate if short > 1 + self.rate * _CLOCK_ERROR else 0.0

    def take(self, size: int, now: float) -> None:
        """`size` bytes are sent now. Whoever takes before it is ready leaves a debt that the next one waits for."""
        if self.rate:
            self._fill(now)
            self._level -= size

    def set_rate(self, rate: int, now: float) -> None:
        """From now on this rate, bytes per second; debts stay."""
        if rate == self.rate:
            return
        if self.rate:
            self._fill(now)
            self.rate = rate
            self._level = min(self._level, self.burst)
        else:
            self.rate = rate
            self._level, self._at = self.burst, now

    def check(self) -> None:
        """Never more in it than the burst."""
        if self.rate and self._level > self.burst + 1:
            raise InvariantViolated(f"a bucket of {self.burst:.0f} bytes holds {self._level:.0f}")


#: The sliding average: long enough for sixteen chunks of 64 KiB at 1 MiB/s, short enough to see a burst of one piece.
WINDOW_SECONDS = 1.0
_SLOTS = 8
_SLOT_SECONDS = WINDOW_SECONDS / _SLOTS
#: The maximum halves in so many seconds of traffic. Idle time does not count: a host that rested is not a slow one.
HALF_LIFE_SECONDS = 30.0
_DECAY = 0.5 ** (_SLOT_SECONDS / HALF_LIFE_SECONDS)
#: What an earlier life measured halves in so many seconds from the first byte on: as it fades the window fills.
#: Simulated, 300 peers, three tenths of them at a tenth of the rate: 1.052 times size/rate, in half a second 1.056,
#: without memory 1.082. Seconds of traffic instead: who remembers too much is served by nobody, and keeps it.
MEMORY_HALF_LIFE_SECONDS = 1.0
#: A life in which less went by has measured no way, but round trips and small files; bytes.
LEAST_LASTING = 8 << 20


class RateMeter:
    """Measured bytes per second: the decaying maximum of a short sliding average.

    A maximum, because a host that is asked for little shows little; decaying, because a host may become slower.
    Law: `rate` is never more than the largest number of bytes seen in any WINDOW_SECONDS, per second; `expected` is
    never less than it, nor more than it and what is remembered.
    """

    __slots__ = ("_began_at", "_best", "_peak", "_remembered", "_seen", "_slot", "_slots", "_total")

    def __init__(self, remembered: int = 0) -> None:
        """`remembered`: bytes per second, as `lasting` said at the end of an earlier life; 0 nothing."""
        self._slots: deque[int] = deque([0] * _SLOTS, maxlen=_SLOTS)
        self._slot = 0
        self._total = 0
        self._peak = 0.0
        #: the best second of this life, which does not fade: who is asked for little at last can still do what it did
        self._best = 0.0
        #: bytes in the slots that are over
        self._seen = 0
        self._remembered = remembered
        #: the first byte's instant
        self._began_at: float | None = None

    def add(self, size: int, now: float) -> None:
        """`size` bytes went by."""
        slot = int(now / _SLOT_SECONDS)
        if slot != self._slot:
            self._turn(slot)
        self._slots[-1] += size
        self._total += size

    def rate(self, now: float) -> int:
        """Bytes per second; 0 until anything was measured."""
        slot = int(now / _SLOT_SECONDS)
        if slot != self._slot:
            self._turn(slot)
        return int(max(self._peak, self._total / WINDOW_SECONDS))

    def expected(self, now: float) -> int:
        """As `rate`; and while nothing, or little, was measured in this life what an earlier one did."""
        measured = self.rate(now)
        age = 0.0 if self._began_at is None else now - self._began_at
        return max(measured, int(self._remembered * 0.5 ** (age / MEMORY_HALF_LIFE_SECONDS)))

    @property
    def lasting(self) -> int:
        """What a later life may begin with, bytes per second: one bad night halves it at most, and one in which next to
        nothing went by leaves it as it was."""
        if self._seen + self._slots[-1] < LEAST_LASTING:
            return self._remembered
        return max(int(max(self._best, self._total / WINDOW_SECONDS)), self._remembered // 2)

    def _turn(self, slot: int) -> None:
        """The slot at hand is over: see whether it makes a new maximum, and let the old one fade."""
        slots = self._slots
        if self._total:
            if self._began_at is None:
                self._began_at = self._slot * _SLOT_SECONDS
            second = self._total / WINDOW_SECONDS
            self._peak = max(self._peak * _DECAY, second)
            self._best = max(self._best, second)
            self._seen += slots[-1]
        for _ in range(min(_SLOTS, slot - self._slot)):
            slots.append(0)
        self._total = sum(slots)
        self._slot = slot

    def check(self) -> None:
        """The running total is that of the slots."""
        if self._total != sum(self._slots):
            raise InvariantViolated(f"a meter of {sum(self._slots)} bytes says {self._total}")
