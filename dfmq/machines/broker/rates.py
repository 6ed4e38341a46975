"""How fast each peer is, as measured: capacity, cost of a stream, who is slow. Measuring is the peers' business."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.slots import SLOT

#: pieces in flight that Hello.slots is meant for (design, section 2)
USUAL_IN_FLIGHT = 3
MOST_IN_FLIGHT = 64
#: below a quarter of the median a child is slow: it gets one piece at a time and serves whole pieces only. Not a third:
#: a third of the rate is what one of three streams has, so a child held to one stream could not show that it is faster.
SLOW_SHARE = 4
#: rates are compared in half octaves; three steps apart is slower by a factor of 2 to 2.8, beyond the noise of a
#: measurement over a few pieces
CLASSES_PER_OCTAVE = 2
CLASSES_APART = 3
#: a median of fewer says nothing
LEAST_FOR_MEDIAN = 4
#: a stream never costs less, or a parent could be given hundreds
LEAST_COST = SLOT // 20
#: a seed that serves all its slots gets a quarter more, until its measured rate no longer follows
SEED_HEADROOM = 1.25
#: reports of a loaded peer that sends less than half of what it receives, until its uplink is believed slow. Reports
#: come with every want, some ten a second, and a peer that passes on what it is still receiving sends little at first:
#: 3 shut out whole swarms (10 peers took 9 of 10 bytes from the seed). Each report without load takes one back.
WEAK_REPORTS = 12


@dataclass(slots=True)
class Rate:
    """One peer's rates, bytes per second; 0 unknown."""

    slots: int
    is_seed: bool
    up_limit: int
    down_limit: int
    zone: int
    down: int = 0
    up: int = 0
    in_flight: int = USUAL_IN_FLIGHT
    #: reports in which the loaded peer's uplink looked weaker than its downlink, less those without load since
    weak: int = 0
    #: what it can send: `can_serve`, kept
    serves: int = 0
    #: half octave of `serves`, -1 unknown
    rate_class: int = -1

    def can_serve(self) -> int:
        """What it can send. A peer that was not asked for more has a small `up` and is no slow parent: until the
        uplink was seen to be weak under load, the better of both directions counts."""
        best = self.up if self.weak >= WEAK_REPORTS else max(self.up, self.down)
        return min(best, self.up_limit) if self.up_limit else best


def _median(rates: Sequence[int]) -> int:
    return rates[len(rates) // 2] if len(rates) >= LEAST_FOR_MEDIAN else 0


class Rates:
    """Law: `_sorted` holds the known down rates of the peers that are not seeds, `_in_zone` those of each zone; each
    peer whose serving rate is known stands in exactly one rate class; `slow` says who was below a quarter of its
    zone's median at its last report."""

    def __init__(self) -> None:
        self._rates: dict[int, Rate] = {}
        self._sorted: list[int] = []
        #: behind a thin link a whole zone may be slower than others, and its peers no slow ones among themselves
        self._in_zone: dict[int, list[int]] = {}
        self._classes: dict[int, int] = {}
        self.slow = 0
        #: mean of what children keep in flight, for seeds have none of their own
        self._in_flight = float(USUAL_IN_FLIGHT)

    def join(self, index: int, slots: int, is_seed: bool, up_limit: int, down_limit: int, zone: int) -> None:
        """A peer whose rates are not known."""
        self._rates[index] = Rate(max(1, slots), is_seed, up_limit, down_limit, zone)

    def renew(self, index: int, slots: int, up_limit: int, down_limit: int) -> None:
        """The peer said Hello again: what it measured stays, what is configured may be new."""
        rate = self._rates[index]
        rate.slots, rate.up_limit, rate.down_limit = max(1, slots), up_limit, down_limit
        self._weigh(index, rate)

    def leave(self, index: int) -> None:
        """Forget a peer."""
        rate = self._rates.pop(index)
        self._unlist(rate)
        self._reclass(index, rate, -1)
        self.slow &= ~(1 << index)

    def report(self, index: int, down: int, up: int, in_flight: int, is_loaded: bool) -> int:
        """What the peer measured; 0 leaves a value as it is. `is_loaded`: half of its slots are booked at least.
        Returns 1 when it is taken for a better parent than before, -1 for a worse one, 0 for the same."""
        rate = self._rates[index]
        was_slow, was_class = self.slow >> index & 1, rate.rate_class
        if in_flight:
            rate.in_flight = min(in_flight, MOST_IN_FLIGHT)
            self._in_flight += (rate.in_flight - self._in_flight) / 64
        if up:
            rate.up = up
            if 2 * up >= max(down, rate.down):
                rate.weak = 0
            elif is_loaded:
                rate.weak = min(rate.weak + 1, WEAK_REPORTS)
            else:
                rate.weak = max(rate.weak - 1, 0)
        if down and down != rate.down:
            self._unlist(rate)
            rate.down = down
            if not rate.is_seed:
                insort(self._sorted, down)
                insort(self._in_zone.setdefault(rate.zone, []), down)
        self._weigh(index, rate)
        self._judge(index, rate)
        if rate.rate_class == was_class:
            return was_slow - (self.slow >> index & 1)
        return 1 if rate.rate_class > was_class >= 0 else -1

    def _unlist(self, rate: Rate) -> None:
        if rate.down and not rate.is_seed:
            del self._sorted[bisect_left(self._sorted, rate.down)]
            near = self._in_zone[rate.zone]
            del near[bisect_left(near, rate.down)]
            if not near:
                del self._in_zone[rate.zone]

    def _weigh(self, index: int, rate: Rate) -> None:
        serves = rate.can_serve()
        if serves != rate.serves:
            rate.serves = serves
            self._reclass(index, rate, int(CLASSES_PER_OCTAVE * log2(serves)) if serves else -1)

    def _reclass(self, index: int, rate: Rate, to: int) -> None:
        if to == rate.rate_class:
            return
        if rate.rate_class >= 0:
            self._classes[rate.rate_class] ^= 1 << index
            if not self._classes[rate.rate_class]:
                del self._classes[rate.rate_class]
        if to >= 0:
            self._classes[to] = self._classes.get(to, 0) | 1 << index
        rate.rate_class = to

    def _judge(self, index: int, rate: Rate) -> None:
        median = _median(self._in_zone.get(rate.zone, ()))
        if not rate.is_seed and rate.down and median and rate.down * SLOW_SHARE < median:
            self.slow |= 1 << index
        else:
            self.slow &= ~(1 << index)

    @property
    def median(self) -> int:
        """Of the known down rates, bytes per second; 0 while too few are known."""
        return _median(self._sorted)

    def of(self, index: int) -> Rate:
        """One peer's rates."""
        return self._rates[index]

    def enough(self, index: int) -> int:
        """Leases that fill a child's way in. On a short way one more evens out its parents; on a long one it needs what
        it keeps in flight (20 Mbit/s, 150 ms of queue, a source of 30 Mbit/s: 1.150, with one less 1.162)."""
        in_flight = self._rates[index].in_flight
        return in_flight if in_flight > USUAL_IN_FLIGHT + 1 else USUAL_IN_FLIGHT

    def slower_than(self, child: int) -> int:
        """The peers known to serve markedly slower than this child receives; a bit set."""
        return self._below(self._rates[child].down)

    def _below(self, rate: int) -> int:
        if not rate or len(self._classes) < 2:
            return 0
        limit = int(CLASSES_PER_OCTAVE * log2(rate)) - CLASSES_APART
        bits = 0
        for rate_class, peers in self._classes.items():
            if rate_class <= limit:
                bits |= peers
        return bits

    def unwelcome_to(self, child: int) -> int:
        """The peers to be asked after the others: slower than the child, or than the fast tenth of its zone. Whoever
        has only had slow parents so far looks slow itself, and would get no better ones by its own measure."""
        if len(self._classes) < 2:
            return 0
        rate = self._rates[child]
        near = self._in_zone.get(rate.zone, ())
        fast = near[len(near) * 9 // 10] if near else 0
        return self._below(max(rate.down, fast))

    def laggards(self) -> int:
        """The peers markedly slower than the fastest child: whoever is slower than some child is among them."""
        return self._below(self._sorted[-1]) if self._sorted else 0

    def terms(self, child: int, parent: int, piece_bytes: int, *, is_long: bool = False) -> tuple[int, float]:
        """What a stream takes of the parent's slots, in thousandths: min(child, parent) / parent, and of a seed, whose
        slots are those of usual peers, min(child, seed) / median. And its deadline in seconds: a backstop, for children
        notice stalls themselves; eight times what the piece should take, 30 s at least; where no rate is known
        64 KiB/s in all, a modest uplink. `is_long`: it may come by a way of which the peers' rates say nothing."""
        taker, giver = self._rates[child], self._rates[parent]
        down, serves, limit = taker.down, giver.serves, taker.down_limit
        slower = min(down, serves) or down or serves
        expected = piece_bytes * taker.in_flight / slower if slower else piece_bytes / 8 / 65536
        seconds = max(30.0, 8 * expected, piece_bytes / 65536 if is_long else 0.0)
        if limit:
            down = min(down or limit, limit)
        unit = self.median if giver.is_seed else serves
        if not down or not unit:
            return SLOT, seconds
        return max(LEAST_COST, min(SLOT, SLOT * down // unit)), seconds

    def capacity(self, index: int) -> int:
        """Thousandths of a slot: Hello.slots, scaled as pieces in flight; of a seed more when its measured rate says
        so."""
        rate = self._rates[index]
        if not rate.is_seed:
            # A child has so many streams of its own: as many as it serves fill the same rate. One more for each parent
            # was measured at 1.08 instead of 1.03.
            slots = USUAL_IN_FLIGHT if rate.serves else min(rate.slots, USUAL_IN_FLIGHT)
            return slots * SLOT * rate.in_flight // USUAL_IN_FLIGHT
        many = float(rate.slots)
        if rate.serves and self.median:
            many = max(many, SEED_HEADROOM * USUAL_IN_FLIGHT * rate.serves / self.median)
        return int(many * SLOT * max(1.0, self._in_flight / USUAL_IN_FLIGHT))

    def expected_seconds(self, child: int, piece_bytes: int) -> float | None:
        """How long the child usually takes for a piece among its others; None while no rate is known."""
        rate = self._rates[child]
        median = _median(self._in_zone.get(rate.zone, ()))
        down = rate.down if self.slow >> child & 1 else max(rate.down, median)
        return piece_bytes * rate.in_flight / down if down else None

    def check(self) -> None:
        """See the class's law."""
        if self._sorted != sorted(r.down for r in self._rates.values() if r.down and not r.is_seed):
            raise InvariantViolated("the sorted down rates are not those of the peers")
        if sorted(down for near in self._in_zone.values() for down in near) != self._sorted:
            raise InvariantViolated("the zones' down rates are not those of the peers")
        for index, rate in self._rates.items():
            if rate.serves != rate.can_serve():
                raise InvariantViolated(f"peer {index} can serve {rate.can_serve()}, and {rate.serves} is noted")
            standing = [c for c, peers in self._classes.items() if peers >> index & 1]
            if standing != ([rate.rate_class] if rate.rate_class >= 0 else []):
                raise InvariantViolated(f"peer {index} stands in the rate classes {standing}")
        union = self.slow
        for peers in self._classes.values():
            union |= peers
        if union & ~sum(1 << index for index in self._rates):
            raise InvariantViolated("a peer that is gone has a rate")
