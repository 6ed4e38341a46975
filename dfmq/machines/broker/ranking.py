"""The choice rule, pure: which piece from which parent. What is possible is found out in scheduler."""

from __future__ import annotations

import random
from collections.abc import Iterable

#: pieces and holders of each looked at per choice. More is not better: whoever takes the least loaded of all builds
#: chains, one child under the other, each a chunk later than its parent. Measured by simulation (1000 peers, 50 pieces,
#: mean completion in multiples of size/rate): 8 × 2 1.030, 8 × 8 1.032, 4 × 4 1.035, all 1.06-1.18.
SAMPLED_PIECES = 8
SAMPLED_HOLDERS = 2
#: pieces granted to one child from one sample
TAKEN_OF_A_SAMPLE = 3

#: a child that has had so many parents stays with them while they have what it lacks: a new pair needs two
#: connections, of three round trips each, behind whatever the link is busy with. Measured by simulation (40 peers,
#: 20 MB at 20 Mbit/s, mean completion in multiples of size/rate, where a new pair costs nothing / costs 0.5 s):
#: 8 parents 1.042 / 1.18, any number 1.043 / 1.27, 4 parents 1.053 / 1.14. With 300 peers and nothing to pay 1.079
#: against 1.075.
ENOUGH_PARENTS = 8

#: (1 for a parent the child would have to get to know, load level of the parent, its distance from a whole holder,
#: holders of the piece, chance, piece, parent): the least is the best. A distance of n is n chunks'
#: time of delay; without it the mean above is 1.04.
Candidate = tuple[int, int, int, int, float, int, int]


def sample(bits: int, count: int, rng: random.Random) -> Iterable[int]:
    """Up to `count` distinct members of a set, at random; all of them when it has no more than that.

    Drawn as "the next member at or above a random place", which favours members behind a gap; exact drawing costs ten
    times as much and changes nothing that could be measured.
    """
    if bits.bit_count() <= count:
        found = []
        while bits:
            low = bits & -bits
            found.append(low.bit_length() - 1)
            bits ^= low
        return found
    top = bits.bit_length()
    drawn: dict[int, None] = {}
    for _ in range(count):
        at = int(rng.random() * top)
        rest = bits >> at
        drawn[at + (rest ^ (rest - 1)).bit_length() - 1] = None
    return drawn


def pick(bits: int, rng: random.Random) -> int:
    """One member of a set that is not empty, drawn as in `sample`."""
    at = int(rng.random() * bits.bit_length())
    rest = bits >> at
    return at + (rest ^ (rest - 1)).bit_length() - 1
