"""The choice rule, pure: which piece from which parent. What is possible is found out in scheduler."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

#: pieces looked at per choice; measured by simulation: 8 do as well as all of them (design, section 2)
SAMPLED_PIECES = 8

#: (piece, parents that may serve it as a bit set of roster indices, how many hold it)
Option = tuple[int, int, int]


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
        drawn[at + (rest & -rest).bit_length() - 1] = None
    return drawn


def pick(bits: int, rng: random.Random) -> int:
    """One member of a set that is not empty."""
    at = int(rng.random() * bits.bit_length())
    rest = bits >> at
    return at + (rest & -rest).bit_length() - 1


def best(options: Sequence[Option], levels: Sequence[int], rng: random.Random) -> tuple[int, int] | None:
    """(piece, parent): the least loaded parent first, then the rarest piece, then chance. `levels`: the peers with
    room by rising load, as bit sets. None when no option has a parent with room."""
    for level in levels:
        chosen = 0
        parents = 0
        fewest = -1
        ties = 1
        for piece, possible, holders in options:
            here = possible & level
            if not here or (holders > fewest >= 0):
                continue
            if holders == fewest:
                ties += 1
                if rng.random() * ties >= 1:
                    continue
            else:
                ties = 1
            chosen, parents, fewest = piece, here, holders
        if parents:
            return chosen, pick(parents, rng)
    return None
