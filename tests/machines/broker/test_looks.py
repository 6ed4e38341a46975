"""Instants that hardly ever come, and that need not be met exactly."""

from __future__ import annotations

from random import Random

from dfmq.machines.broker.looks import STEPS_PER_SECOND, Looks
from dfmq.model.ids import LeaseId


def test_each_is_due_once_at_its_instant_or_a_step_later() -> None:
    for seed in range(30):
        rng, looks, now = Random(seed), Looks(), 100.0
        waiting: dict[LeaseId, float] = {}
        for number in range(600):
            lease = LeaseId(number)
            waiting[lease] = now + rng.choice((0.0, 0.001, 0.3, 30.0)) * rng.choice((1.0, rng.random()))
            looks.set(lease, waiting[lease])
            assert looks.has(lease, waiting[lease])
            now += rng.choice((0.0, 0.0, 0.01, 0.5))
            due = looks.due(now)
            looks.check()
            instants = [waiting.pop(lease) for lease in due]
            assert all(at < now for at in instants)
            assert all(at + 1 / STEPS_PER_SECOND > now for at in waiting.values())
            assert looks.soonest > now, "else it would be called again and again"


def test_what_comes_first_is_looked_at_first() -> None:
    looks = Looks()
    for number, at in enumerate((3.0, 1.0, 2.0)):
        looks.set(LeaseId(number), at)
    assert (looks.due(0.9), looks.due(5.0), looks.soonest) == ([], [1, 2, 0], float("inf"))
