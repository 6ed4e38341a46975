"""How much a child asks for at once: credit for each lease, leases in flight, by rate, round trip and pressure. Values
only; who is owed what stands in purse."""

from __future__ import annotations

import math
from collections import deque

from dfmq.errors import InvariantViolated
from dfmq.model.host import Pressure

#: Chunks of credit to have out on one lease. "A window of 4-8 chunks is enough on a LAN" (design, section 5).
CALM_CHUNKS = 8
BUSY_CHUNKS = 4
#: Leases at once where the control round trip costs nothing, and at most (design, section 2: with 150 ms, 20 Mbit/s and
#: 256 KiB pieces 3 in flight took 1.31, 6 and 10 took 1.03).
LEAST_IN_FLIGHT = 3
MOST_IN_FLIGHT = 16
#: What waits before a busy link (design, section 2). When a download begins, the trip to the broker was measured on an
#: idle one.
USUAL_QUEUE_SECONDS = 0.15
#: Parents' answers that are remembered. The quickest of them is the way there and back: a parent may be busy, or still
#: wait for the piece itself.
REMEMBERED = 16


class Window:
    """The size of a child's appetite.

    Law: 1 ≤ chunks of credit ≤ CALM_CHUNKS; 1 ≤ leases in flight ≤ MOST_IN_FLIGHT; under full pressure neither grows.
    """

    def __init__(self) -> None:
        self.level: Pressure = "calm"
        self._chunks = CALM_CHUNKS
        self._in_flight = LEAST_IN_FLIGHT
        self._ceiling = MOST_IN_FLIGHT
        self._answers: deque[float] = deque(maxlen=REMEMBERED)

    def answered(self, seconds: float) -> None:
        """So long after it was asked a parent's first chunk came."""
        self._answers.append(seconds)

    def press(self, level: Pressure) -> None:
        """The host's pressure has changed."""
        if level == "full":
            if self.level != "full":
                self._chunks = max(1, self._chunks // 2)
                self._ceiling = max(1, self._in_flight // 2)
        else:
            self._chunks = BUSY_CHUNKS if level == "busy" else CALM_CHUNKS
            self._ceiling = MOST_IN_FLIGHT
        self.level = level

    def credit(self, chunk_length: int) -> int:
        """Bytes of credit to have out on one lease."""
        return self._chunks * chunk_length

    def in_flight(self, rate: int, round_trip: float, piece_length: int) -> int:
        """Leases to have at once: 3, and what the rate brings in two round trips to the broker and two to a parent, for
        a lease is asked for at both, and all ways queue behind the same traffic. (One round trip gave 4 where 6 were
        measured to be needed: design, section 2, 150 ms, 20 Mbit/s, 256 KiB.) `rate` in bytes per second,
        `round_trip` to the broker in seconds.

        Of a parent's answer no more counts than a trip to the broker, or a link's usual queue: the rest is its other
        children's turns, and to have more leases for those makes more turns (from 6 leases it went to 14, and streams
        stalled)."""
        trips = round_trip
        if self._answers:
            trips += min(max(round_trip, USUAL_QUEUE_SECONDS), *self._answers)
        wanted = LEAST_IN_FLIGHT + math.ceil(2 * rate * trips / piece_length)
        self._in_flight = max(1, min(wanted, self._ceiling))
        return self._in_flight

    def check(self) -> None:
        """See the class's law."""
        if not (1 <= self._chunks <= CALM_CHUNKS and 1 <= self._in_flight <= MOST_IN_FLIGHT):
            raise InvariantViolated(f"window of {self._chunks} chunks, {self._in_flight} in flight")
