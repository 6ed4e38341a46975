"""Children that nothing reaches: a firewall, or they advertise a wrong address. They keep no slots from others."""

from __future__ import annotations

from typing import Any

import pytest
from support.broker_swarm import PIECES, TASKS, Member, Swarm

from dfmq.machines.broker.leases import SLOTS_A_TRIAL
from dfmq.model import bitfield
from dfmq.wire import messages as said

TASK, OTHER = TASKS


def a_swarm(slots: int = 32) -> tuple[Swarm, Member]:
    """A seed that holds everything of two contents."""
    swarm = Swarm()
    seed = swarm.join(seed=True, slots=slots)
    first = swarm.join()
    for task in TASKS:
        swarm.opens(first, task, 0)
    for permit in list(seed.permits):
        swarm.sources(seed, permit)
    swarm.leaves(first)
    return swarm, seed


def all_stall(swarm: Swarm, children: list[Member]) -> None:
    """Each of the leases that these have now comes to nothing."""
    for child in children:
        for lease_id in list(child.leases):
            if lease_id in child.leases:
                swarm.fails(child, lease_id, "stalled")


def served_by(swarm: Swarm, parent: Member) -> list[Member]:
    """A child for each of the parent's leases."""
    return [
        child
        for child in swarm.members.values()
        for _, lease in child.leases.values()
        if lease.parent == parent.peer
    ]  # fmt: skip


def row_of(swarm: Swarm, member: Member) -> dict[str, Any]:
    (row,) = [row for row in swarm.machine.peers() if row["peer"] == member.peer.hex()]
    return row


def test_a_child_that_nothing_has_reached_gets_one_lease_at_a_time_until_a_piece_has_come() -> None:
    swarm, _ = a_swarm()
    child = swarm.join()
    swarm.opens(child, TASK, 3)
    assert len(child.leases) == 3, "nobody knows yet"
    all_stall(swarm, [child])
    assert len(child.leases) == 1
    swarm.has(child, next(iter(child.leases)))
    assert len(child.leases) == 3
    all_stall(swarm, [child])
    assert len(child.leases) == 3, "it was reached: those parents failed it"


def test_children_that_nothing_reaches_leave_the_slots_of_a_seed_to_one_that_comes_later() -> None:
    swarm, seed = a_swarm(slots=32)
    unreached = [swarm.join() for _ in range(24)]
    for child in unreached:
        swarm.opens(child, TASK, 3)
    assert len(served_by(swarm, seed)) >= 16, "and the rest by each other"
    for _ in range(12):
        all_stall(swarm, unreached)
        swarm.passes(6.0)
    assert 1 <= row_of(swarm, seed)["serving"] <= 32 // SLOTS_A_TRIAL, "some of them rest"
    late = swarm.join()
    swarm.opens(late, TASK, 3)
    for permit in list(seed.permits):
        swarm.sources(seed, permit)
    for _ in range(PIECES):
        for lease_id, (_, lease) in list(late.leases.items()):
            assert lease.parent == seed.peer, "nobody waits for what an unreached one takes"
            swarm.has(late, lease_id)
    assert late.has(TASK) == bitfield.full(PIECES)


def test_of_two_that_nothing_reaches_one_waits_for_the_other_at_a_parent_with_few_slots() -> None:
    swarm, seed = a_swarm(slots=4)
    first, second = swarm.join(), swarm.join()
    swarm.opens(first, TASK, 1)
    swarm.opens(second, OTHER, 1)
    all_stall(swarm, [first, second])
    assert served_by(swarm, seed) == [first]
    swarm.has(first, next(iter(first.leases)))
    assert sorted(child.peer for child in served_by(swarm, seed)) == [first.peer, second.peer]


@pytest.mark.parametrize("code", ["refused", "unreachable", "cancelled"])
def test_a_parent_that_says_no_says_nothing_of_the_way_to_the_child(code: str) -> None:
    swarm, _ = a_swarm()
    child = swarm.join()
    swarm.opens(child, TASK, 3)
    swarm.fails(child, next(iter(child.leases)), code)
    swarm.say(child, said.Want(task=TASK, count=1))
    assert len(child.leases) >= 3


def test_a_lease_that_nobody_ended_until_its_deadline_has_not_reached_its_child_either() -> None:
    swarm, _ = a_swarm()
    child = swarm.join()
    swarm.opens(child, TASK, 3)
    swarm.passes(31.0)
    assert len(child.leases) == 1


def test_one_piece_of_any_content_shows_that_a_host_is_reached() -> None:
    swarm, _ = a_swarm()
    child = swarm.join()
    for task in TASKS:
        swarm.opens(child, task, 3)
    all_stall(swarm, [child])
    assert sorted(task for task, _ in child.leases.values()) == sorted(TASKS)
    swarm.has(child, next(iter(child.leases)))
    assert len(child.leases) == 6


def test_whoever_gets_the_index_of_one_that_nothing_reached_begins_anew() -> None:
    swarm, _ = a_swarm()
    child = swarm.join()
    swarm.opens(child, TASK, 3)
    all_stall(swarm, [child])
    swarm.leaves(child)
    for other in (swarm.join(), swarm.join(host=int(child.peer))):
        swarm.opens(other, TASK, 3)
        assert len(other.leases) == 3
