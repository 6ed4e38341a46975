"""Nothing is lost and nothing is left over, however many clients are killed and wherever they stand when it happens."""

from __future__ import annotations

import random

from support.broker_swarm import PIECES, TASKS, Swarm

KILLS = 10_000


def test_ten_thousand_kills_leave_no_lease_behind() -> None:
    rng = random.Random(1)
    swarm = Swarm(checks=False)
    seed = swarm.join(seed=True, slots=12)
    kills = done = 0
    while kills < KILLS:
        while len(swarm.members) < 25:
            swarm.opens(swarm.join(slots=3), rng.choice(TASKS), rng.randint(1, 4))
        for permit_id in list(seed.permits):
            swarm.sources(seed, permit_id)
        children = [member for member in swarm.members.values() if member is not seed]
        for member in rng.sample(children, 6):
            for lease_id in list(member.leases)[:2]:
                if lease_id in member.leases:
                    swarm.has(member, lease_id)
        for member in children:
            if any(member.has(task).bit_count() == PIECES for task in member.asking):
                done += 1
                swarm.leaves(member)
            elif rng.random() < 0.2:
                kills += 1
                swarm.leaves(member, how=rng.choice(["bye", "unreachable"]))
        if kills % 50 == 0:
            swarm.machine.check()
    assert done > 100, "some got it all the same"
    for member in list(swarm.members.values()):
        swarm.leaves(member)
    swarm.machine.check()
    assert swarm.machine.counts() | {"tasks": 0} == dict.fromkeys(swarm.machine.counts(), 0)


def test_whoever_is_left_finishes_though_half_are_killed_on_the_way() -> None:
    for number in range(20):
        rng = random.Random(number)
        swarm = Swarm(number)
        seed = swarm.join(seed=True, slots=2)
        children = [swarm.join() for _ in range(12)]
        for child in children:
            swarm.opens(child, TASKS[0], 3)
        for permit_id in list(seed.permits):
            swarm.sources(seed, permit_id)
        for victim in rng.sample(children, 6):
            for _ in range(rng.randint(0, 8)):
                leases = list(swarm.leases())
                if leases:
                    swarm.has(*rng.choice(leases))
            swarm.leaves(victim, how=rng.choice(["bye", "unreachable"]))
            children.remove(victim)
        swarm.settle()
        assert all(child.has(TASKS[0]).bit_count() == PIECES for child in children), number
