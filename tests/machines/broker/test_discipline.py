"""Whose fault a failure is: probation, quarantine, black holes; and that suspicion alone never stops a transfer."""

from __future__ import annotations

import pytest
from support.broker_swarm import PIECES, TASKS, Member, Swarm

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.broker import health as standing
from dfmq.wire import messages as said

TASK = TASKS[0]


def a_swarm(holders: int, *, seed_slots: int = 1) -> tuple[Swarm, Member, list[Member]]:
    """A seed that holds everything, and peers that do."""
    swarm = Swarm()
    seed = swarm.join(seed=True, slots=seed_slots)
    members = [swarm.join() for _ in range(holders)]
    opener = swarm.join()
    swarm.opens(opener, TASK, 0)
    for permit in list(seed.permits):
        swarm.sources(seed, permit)
    swarm.leaves(opener)
    for member in members:
        swarm.say(member, said.Held(task=TASK, generation=swarm.generation[TASK], held=bytes([0b111111])))
    return swarm, seed, members


def lease_of(member: Member) -> tuple[int, said.Lease]:
    ((lease_id, (_, lease)),) = member.leases.items()
    return lease_id, lease


def quarantined(swarm: Swarm) -> int:
    return swarm.machine.counts()["quarantined"]


@pytest.mark.parametrize("code", ["stalled", "refused", "unreachable"])
def test_a_parent_that_failed_one_child_is_the_last_choice_of_the_next(code: str) -> None:
    swarm, seed, (bad, good) = a_swarm(2)
    swarm.leaves(seed)
    child = swarm.join()
    swarm.opens(child, TASK, 1)
    while lease_of(child)[1].parent != bad.peer:
        swarm.fails(child, lease_of(child)[0], "cancelled")
        swarm.say(child, said.Want(task=TASK, count=1))
    swarm.fails(child, lease_of(child)[0], code)
    assert lease_of(child)[1].parent == good.peer
    other = swarm.join()
    swarm.opens(other, TASK, 1)
    assert lease_of(other)[1].parent != bad.peer


def test_a_parent_that_was_itself_waiting_is_not_blamed() -> None:
    swarm, _, _ = a_swarm(0)
    middle, child = swarm.join(), swarm.join()
    swarm.opens(middle, TASK, 1)
    swarm.opens(child, TASK, 1)
    assert lease_of(child)[1].parent == middle.peer
    swarm.fails(child, lease_of(child)[0], "stalled")
    assert swarm.machine.counts()["suspected"] == 0


def test_a_black_hole_does_not_win() -> None:
    """It fails at once and so always looks idle: of 300 tries it must get few."""
    swarm, _, members = a_swarm(3, seed_slots=3)
    hole = members[0]
    tries = 0
    for _ in range(50):
        child = swarm.join()
        swarm.opens(child, TASK, 3)
        for _ in range(60):
            if child.has(TASK).bit_count() == PIECES:
                break
            for lease_id, (_, lease) in list(child.leases.items()):
                if lease.parent == hole.peer:
                    tries += 1
                    swarm.fails(child, lease_id, "refused")
                elif lease_id in child.leases:
                    swarm.has(child, lease_id)
        assert child.has(TASK).bit_count() == PIECES
        swarm.leaves(child)
        swarm.passes(0.2)
    assert 1 <= tries <= 15, tries


def test_everybody_suspected_serves_all_the_same() -> None:
    swarm, seed, members = a_swarm(2)
    for number in range(6):
        child = swarm.join()
        swarm.opens(child, TASK, 1)
        swarm.fails(child, lease_of(child)[0], "stalled")
        swarm.leaves(child)
        del number
    assert swarm.machine.counts()["suspected"] == 3
    child = swarm.join()
    swarm.opens(child, TASK, PIECES)
    swarm.settle()
    assert child.has(TASK).bit_count() == PIECES
    assert {seed.peer, *(m.peer for m in members)} <= set(swarm.members)


def test_who_sends_corrupt_chunks_is_in_quarantine_at_once_and_everywhere() -> None:
    swarm, seed, (bad,) = a_swarm(1)
    swarm.leaves(seed)
    victims = [swarm.join() for _ in range(2)]
    for victim, count in zip(victims, (1, PIECES), strict=True):
        swarm.opens(victim, TASK, count)
    from_bad = {
        victim.peer: {number for number, (_, lease) in victim.leases.items() if lease.parent == bad.peer}
        for victim in victims
    }
    assert all(from_bad.values()), "both are taking something from it"
    lease_id = min(from_bad[victims[0].peer])
    piece = victims[0].leases[lease_id][1].piece
    effects = swarm.machine.handle(
        told.PeerSaid(victims[0].peer, said.Failed(task=TASK, lease=lease_id, piece=piece, code="corrupt")), swarm.now
    )
    swarm.machine.check()
    notices = [effect.message for effect in effects if isinstance(effect, do.Publish)]
    assert [(notice.kind, notice.peer) for notice in notices if isinstance(notice, said.Notice)] == [
        ("quarantine", bad.peer)
    ]
    sent = [effect for effect in effects if isinstance(effect, do.Send)]
    revoked = {effect.peer: {*effect.message.leases} for effect in sent if isinstance(effect.message, said.Revoke)}
    assert {lease.parent for _, lease in victims[1].leases.values()} == {bad.peer, victims[0].peer}
    assert revoked == from_bad, "what it serves to others is void too, and what these pass on to each other is not"
    (row,) = [row for row in swarm.machine.peers() if row["peer"] == bad.peer.hex()]
    assert (row["health"], row["serving"], row["booked"]) == ("quarantined", 0, 0)
    assert quarantined(swarm) == 1
    (permit,) = [effect for effect in sent if isinstance(effect.message, said.Permit)]
    assert permit.peer in from_bad, "nobody else holds anything: somebody reads the source"


def test_who_lost_its_own_parent_is_not_blamed_by_those_below() -> None:
    """Its lease is revoked with the parent; it has nothing to pass on until it gets another."""
    swarm, _, _ = a_swarm(0)
    middle, child = swarm.join(), swarm.join()
    swarm.opens(middle, TASK, 1)
    swarm.opens(child, TASK, 1)
    lease_id, lease = lease_of(child)
    assert lease.parent == middle.peer
    swarm.leaves(next(iter(swarm.members.values())))
    assert middle.leases == {}
    assert lease_id in child.leases
    swarm.fails(child, lease_id, "stalled")
    assert swarm.machine.counts()["suspected"] == 0


def test_a_host_in_quarantine_stays_there_when_its_peer_starts_again() -> None:
    swarm, _, (bad, good) = a_swarm(2)
    child = swarm.join()
    swarm.opens(child, TASK, 1)
    while lease_of(child)[1].parent != bad.peer:
        swarm.fails(child, lease_of(child)[0], "cancelled")
        swarm.say(child, said.Want(task=TASK, count=1))
    swarm.fails(child, lease_of(child)[0], "corrupt")
    swarm.leaves(bad)
    host = int(bad.peer)
    again = swarm.join(host=host)
    swarm.say(again, said.Held(task=TASK, generation=swarm.generation[TASK], held=bytes([0b111111])))
    assert quarantined(swarm) == 1
    others = [swarm.join() for _ in range(5)]
    for other in others:
        swarm.opens(other, TASK, 3)
    parents = {lease.parent for other in others for _, lease in other.leases.values()}
    assert again.peer not in parents
    assert good.peer in parents


def test_when_a_quarantine_is_over_the_parked_are_served_from_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "QUARANTINE_SECONDS", 4.0)
    swarm, seed, (bad,) = a_swarm(1)
    swarm.leaves(seed)
    victim = swarm.join()
    swarm.opens(victim, TASK, 1)
    swarm.fails(victim, lease_of(victim)[0], "corrupt")
    assert (victim.leases, len(victim.permits)) == ({}, 1), "it is to read the source, and takes its time"
    assert quarantined(swarm) == 1
    swarm.passes(4.0)
    assert quarantined(swarm) == 0
    assert lease_of(victim)[1].parent == bad.peer


def test_a_reader_in_quarantine_is_told_to_quit_and_another_reads() -> None:
    swarm = Swarm()
    other = TASKS[1]
    bad, good = swarm.join(), swarm.join()
    for member in (bad, good):
        swarm.opens(member, other, 0)
    (permit,) = bad.permits
    seed = swarm.join(seed=True)
    swarm.opens(good, TASK, 0)
    for number in list(seed.permits):
        swarm.sources(seed, number)
    swarm.say(bad, said.Held(task=TASK, generation=swarm.generation[TASK], held=bytes([0b111111])))
    swarm.leaves(seed)
    swarm.say(good, said.Want(task=TASK, count=1))
    assert lease_of(good)[1].parent == bad.peer
    swarm.fails(good, lease_of(good)[0], "corrupt")
    assert bad.quit == {permit}
    assert {given.task for given in good.permits.values()} == {TASK, other}


@pytest.mark.parametrize("others", [0, 1])
def test_a_seed_is_suspected_by_one_child_and_quarantined_by_the_second_unless_it_is_the_last(others: int) -> None:
    swarm, seed, _ = a_swarm(0, seed_slots=8)
    for _ in range(others):
        swarm.join(seed=True)
    states = []
    for _ in range(3):
        child = swarm.join()
        swarm.opens(child, TASK, 1)
        if quarantined(swarm):
            break
        assert lease_of(child)[1].parent == seed.peer
        swarm.fails(child, lease_of(child)[0], "corrupt")
        states.append((swarm.machine.counts()["suspected"], quarantined(swarm)))
        swarm.leaves(child)
    assert states == ([(1, 0), (1, 1)] if others else [(1, 0)] * 3)


def test_a_lease_whose_deadline_comes_is_taken_as_failed() -> None:
    swarm, seed, _ = a_swarm(0)
    child = swarm.join()
    swarm.opens(child, TASK, 1)
    lease_id, lease = lease_of(child)
    swarm.passes(lease.seconds + 1)
    assert lease_id not in child.leases, "revoked"
    assert lease_of(child)[1].parent == seed.peer, "nobody else is there"
    assert swarm.machine.counts()["suspected"] == 1
