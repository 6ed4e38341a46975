"""Instants that hardly ever come, against the plain heap they stand for."""

from __future__ import annotations

from random import Random

from dfmq.machines.broker.backstops import FEW, MOST_STALE, Backstops
from dfmq.machines.deadlines import Deadlines


def test_backstops_say_what_deadlines_say() -> None:
    for seed in range(30):
        rng, plain, stepped, now = Random(seed), Deadlines[int](), Backstops[int](), 100.0
        for _ in range(600):
            key, what = rng.randrange(40), rng.random()
            if what < 0.5:
                at = now + rng.choice((0.0, 0.001, 0.3, 30.0)) * rng.choice((1.0, rng.random()))
                plain.set(key, at)
                stepped.set(key, at)
            elif what < 0.8:
                plain.clear(key)
                stepped.clear(key)
            elif what < 0.82:
                for each in range(40):
                    plain.clear(each)
                    stepped.clear(each)
            elif what < 0.92:
                now += rng.choice((0.0, 0.01, 0.5))
                instants = {key: plain.at(key) or 0.0 for key in range(40)}
                due = stepped.due(now)
                assert sorted(due) == sorted(plain.due(now))
                assert due == sorted(due, key=lambda key: instants[key]), "earliest first, in any order what is equal"
                assert (bound := stepped.next()) is None or bound > now, "else it would be called again and again"
            assert (stepped.at(key), len(stepped)) == (plain.at(key), len(plain))
            earliest, bound = plain.next(), stepped.next()
            assert (earliest is None) == (bound is None)
            assert earliest is None or bound is None or bound <= earliest


def test_what_was_cleared_is_not_kept_for_long() -> None:
    backstops = Backstops[int]()
    backstops.set(0, 1.0)
    for key in range(1, 10 * FEW):
        backstops.set(key, 30.0 + key)
        backstops.clear(key)
    kept = len(backstops._heap) + sum(map(len, backstops._later.values()))
    assert kept == backstops._entries <= FEW + MOST_STALE
    assert backstops.next() == 1.0
