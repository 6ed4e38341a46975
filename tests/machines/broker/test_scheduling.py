"""Wants and grants through the broker's door: who gets what from whom, and what frees the parked."""

from __future__ import annotations

from itertools import pairwise

from support.broker_swarm import PIECES, TASKS, Member, Swarm
from support.broker_talk import BrokerTalk, leases, of, with_content
from support.talk import CUT, GENERATION, TASK, peer_id

from dfmq.machines.broker.ranking import ENOUGH_PARENTS
from dfmq.machines.broker.rates import MOST_IN_FLIGHT, USUAL_IN_FLIGHT
from dfmq.machines.broker.scheduler import FAILURES_BEFORE_REST, MOST_REST_SECONDS, WORK_PER_EVENT
from dfmq.machines.events import DeadlineReached, PeerSaid
from dfmq.wire import messages as said

MB = 1_000_000


def have(broker: BrokerTalk, name: str, piece: int) -> list[tuple[str, said.Message]]:
    return broker.hears(name, said.Have(task=TASK, generation=GENERATION, pieces=[piece]))


def want(broker: BrokerTalk, name: str, count: int = 1, **rates: int) -> list[tuple[str, said.Message]]:
    return broker.hears(name, said.Want(task=TASK, count=count, **rates))


# ── who serves ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_idle_peer_is_asked_before_a_loaded_seed() -> None:
    broker = with_content("one", "two", seed_slots=2)
    for piece in (0, 1):
        want(broker, "one")
        have(broker, "one", piece)
    broker.hello("three")
    broker.opens("three", want=0)
    assert {lease.parent for lease in leases(want(broker, "three", 2))} == {peer_id("one"), peer_id("seed")}
    (lease,) = leases(want(broker, "two"))
    assert lease.parent in (peer_id("one"), peer_id("three"))


def test_among_equals_the_parent_nearest_to_a_whole_holder_is_taken() -> None:
    """Everybody has room and the same load: the seed, which holds the piece, comes before who is receiving it."""
    broker = with_content("one", "two", "three", seed_slots=64)
    want(broker, "one", 2)
    for _ in range(8):
        assert {lease.parent for lease in leases(want(broker, "two", 2))} == {peer_id("seed")}
        broker.hears("two", said.Close(task=TASK))
        broker.opens("two", 0)


def test_a_child_that_has_had_enough_parents_stays_with_them() -> None:
    """A new pair costs two connections; so many parents have what it lacks anyway."""
    holders = [f"holder{number}" for number in range(2 * ENOUGH_PARENTS)]
    broker = with_content(*holders, "child", seed_slots=64)
    for name in holders:
        have(broker, name, 0)
        have(broker, name, 1)
    parents = set()
    for _ in range(20 * ENOUGH_PARENTS):
        parents |= {lease.parent for lease in leases(want(broker, "child"))}
        broker.hears("child", said.Close(task=TASK))
        broker.opens("child", 0)
    assert len(parents) == ENOUGH_PARENTS


def test_the_first_children_get_different_pieces_so_that_they_can_serve_each_other() -> None:
    swarm = a_swarm(children=2, slots=32)
    taken = [lease.piece for member in swarm.members.values() for _, lease in member.leases.values()]
    assert sorted(taken) == list(range(PIECES))


def test_no_parent_serves_more_than_its_slots() -> None:
    broker = with_content("one", "two", "three", seed_slots=1)
    first = leases(want(broker, "one", 2))
    assert [lease.parent for lease in first] == [peer_id("seed")]
    assert [lease.parent for lease in leases(want(broker, "two", 2))] == [peer_id("one")]


def test_a_child_slower_than_a_quarter_of_the_median_gets_one_piece_and_passes_none_on_before_it_is_whole() -> None:
    broker = with_content("slow", "b", "c", "d", "e")
    for name in "bcde":
        want(broker, name, 0, down_rate=10 * MB)
    (lease,) = leases(want(broker, "slow", 2, down_rate=1 * MB))
    for name in "bcde":
        assert all(lease.parent != peer_id("slow") for lease in leases(want(broker, name, 2)))
    assert len(leases(have(broker, "slow", lease.piece))) == 1, "the second comes when the first is done"


def test_a_slow_parent_serves_a_quick_child_only_what_nobody_quick_holds() -> None:
    swarm = a_swarm(children=0, slots=1)
    task = TASKS[0]
    seed = next(iter(swarm.members.values()))
    quick = [swarm.join() for _ in range(4)]
    for member in quick:
        swarm.opens(member, task, 0)
        swarm.say(member, said.Want(task=task, count=0, down_rate=10 * MB, up_rate=10 * MB))
    slow = swarm.join()
    swarm.say(slow, said.Beat(down_rate=1 * MB, up_rate=1 * MB))
    swarm.say(slow, said.Held(task=task, generation=swarm.generation[task], held=bytes([0b111111])))
    swarm.say(quick[0], said.Want(task=task, count=6))
    assert [lease.parent for _, lease in quick[0].leases.values()] == [seed.peer]
    assert swarm.machine.counts()["parked"] == 1, "the seed is busy, not gone"
    swarm.leaves(seed)
    assert {lease.parent for _, lease in quick[0].leases.values()} == {slow.peer}


def test_when_a_parent_turns_out_to_be_slow_all_below_it_look_for_another_way() -> None:
    swarm = a_swarm(children=0, slots=1)
    task, seed = TASKS[0], next(iter(swarm.members.values()))
    for _ in range(4):
        swarm.say(swarm.join(), said.Beat(down_rate=10 * MB, up_rate=10 * MB))
    slow, child, below = (swarm.join(slots=1) for _ in range(3))
    for member in (slow, child, below):
        swarm.opens(member, task, 1)
    parents = [lease.parent for member in (slow, child, below) for _, lease in member.leases.values()]
    assert parents == [seed.peer, slow.peer, child.peer]
    swarm.say(slow, said.Beat(down_rate=1 * MB, up_rate=1 * MB))
    assert {lease.parent for _, lease in slow.leases.values()} == {seed.peer}, "it goes on taking"
    assert {lease.parent for _, lease in child.leases.values()} == {seed.peer}, "a slow child leaves its parent room"
    assert all(lease.parent != slow.peer for _, lease in below.leases.values())


def test_from_a_parent_that_turns_out_to_be_slow_what_only_it_has_is_taken_on() -> None:
    swarm = a_swarm(children=0, slots=1)
    task, seed = TASKS[0], next(iter(swarm.members.values()))
    for _ in range(4):
        swarm.say(swarm.join(), said.Beat(down_rate=10 * MB, up_rate=10 * MB))
    slow, child = swarm.join(slots=1), swarm.join()
    swarm.say(slow, said.Held(task=task, generation=swarm.generation[task], held=bytes([0b111111])))
    swarm.leaves(seed)
    swarm.opens(child, task, 1)
    before = dict(child.leases)
    swarm.say(slow, said.Beat(down_rate=1 * MB, up_rate=1 * MB))
    assert child.leases == before
    assert len(before) == 1


def test_a_chain_of_parents_never_leads_back_to_the_child() -> None:
    """two takes from one, one loses its own parent: one must not take the piece from two."""
    broker = with_content("one", "two", seed_slots=1)
    (lease,) = leases(want(broker, "one"))
    (below,) = leases(want(broker, "two"))
    assert below.parent == peer_id("one")
    out = broker.hears("one", said.Failed(task=TASK, lease=lease.lease, piece=lease.piece, code="stalled"))
    assert [new.parent for new in leases(out, "one")] == [peer_id("seed")]


# ── the parked ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_freed_slot_is_offered_to_the_parked_at_once() -> None:
    broker = with_content("one", "two", seed_slots=1)
    one = leases(want(broker, "one", 2))
    two = leases(want(broker, "two", 2))
    assert broker.machine.counts()["parked"] > 0
    out = have(broker, "one", one[0].piece)
    assert leases(out), "no poll, no deadline: the grant comes with the Have that freed the slot"
    assert two


def test_the_parked_are_served_in_the_order_they_came() -> None:
    """Five children that pass nothing on, one seed with room for three of them: they take turns."""
    swarm = a_swarm(children=0, slots=1)
    for _ in range(6):
        swarm.say(swarm.join(), said.Beat(down_rate=100 * MB))
    children = [swarm.join() for _ in range(5)]
    for child in children:
        swarm.say(child, said.Beat(down_rate=24 * MB, up_rate=24 * MB))
    swarm.granted_to.clear()
    for child in children:
        swarm.opens(child, TASKS[0], 1)
    for turn in range(20):
        child = children[turn % 5]
        ((lease_id, _),) = child.leases.items()
        swarm.fails(child, lease_id, "cancelled")
        swarm.say(child, said.Want(task=TASKS[0], count=1))
    assert [children.index(swarm.members[peer]) for peer in swarm.granted_to] == [n % 5 for n in range(23)]


def test_a_new_piece_goes_first_to_children_that_can_pass_it_on() -> None:
    """Everybody waits while the source is read: after three pieces all uplinks are at work, none below a full one."""
    swarm = Swarm()
    seed = swarm.join(seed=True, slots=6)
    children = [swarm.join() for _ in range(40)]
    for child in children:
        swarm.opens(child, TASKS[0], 3)
    swarm.permit_sourced(seed, next(iter(seed.permits)))
    for piece in range(3):
        swarm.say(seed, swarm.proven(TASKS[0], piece))
    assert [len(child.leases) for child in children] == [3] * 40


def test_a_parent_that_has_more_room_now_serves_as_many_of_the_parked_as_fit() -> None:
    """They want two pieces each, and being slow get one at a time."""
    swarm = a_swarm(children=0, slots=1)
    seed = next(iter(swarm.members.values()))
    for _ in range(6):
        swarm.say(swarm.join(), said.Beat(down_rate=100 * MB))
    children = [swarm.join() for _ in range(5)]
    for child in children:
        swarm.say(child, said.Beat(down_rate=24 * MB, up_rate=24 * MB))
        swarm.opens(child, TASKS[0], 2)
    assert [len(child.leases) for child in children] == [1, 1, 1, 0, 0]
    swarm.say(seed, said.Beat(up_rate=200 * MB))
    assert [len(child.leases) for child in children] == [1] * 5


def test_a_piece_that_comes_ends_the_rest_of_a_child_that_had_failed() -> None:
    swarm = a_swarm(children=0, slots=8)
    child = swarm.join()
    swarm.opens(child, TASKS[0], 5)
    for _ in range(FAILURES_BEFORE_REST):
        swarm.fails(child, next(iter(child.leases)), "refused")
    assert len(child.leases) == 4, "the last failure was not made good: it rests"
    swarm.has(child, next(iter(child.leases)))
    assert len(child.leases) == 5


def test_work_for_one_event_is_bounded_and_goes_on_at_once() -> None:
    swarm = Swarm(checks=False)
    seed, waiting = swarm.join(seed=True, slots=200), [swarm.join() for _ in range(150)]
    for child in waiting:
        swarm.opens(child, TASKS[0], want=2)
    machine, now = swarm.machine, swarm.now
    (permit_id,) = seed.permits
    swarm.permit_sourced(seed, permit_id)
    machine.handle(PeerSaid(seed.peer, swarm.proven(TASKS[0], 0)), now)
    turns = [machine.counts()["leases"]]
    while (at := machine.next_deadline()) is not None and at <= now:
        machine.handle(DeadlineReached(), now)
        turns.append(machine.counts()["leases"])
    machine.check()
    assert turns[-1] == 150
    assert max(after - before for before, after in pairwise([0, *turns])) <= WORK_PER_EVENT


def test_wants_are_bounded_however_often_they_are_said() -> None:
    broker = with_content("one")
    for _ in range(3):
        want(broker, "one", 60_000)
    assert broker.machine.counts()["wants"] + broker.machine.counts()["leases"] == MOST_IN_FLIGHT


def test_open_said_again_states_the_wants_anew() -> None:
    broker = with_content("one", seed_slots=0)
    want(broker, "one", 9)
    before = broker.machine.counts()
    broker.opens("one", want=2)
    after = broker.machine.counts()
    assert before["wants"] + before["leases"] == 9
    assert after["wants"] + after["leases"] == 2 + before["leases"]


def arriving(*children: str) -> BrokerTalk:
    """A broker whose seed has five pieces of a content of six; the children have it open and want nothing yet."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True, slots=32)
    for child in children:
        broker.hello(child)
    (permit,) = of(said.Permit, broker.opens(children[0], 0))
    broker.sourced("seed", permit, length=6 * CUT.piece_length)
    for piece in range(5):
        broker.proven("seed", piece)
    for child in children[1:]:
        broker.opens(child, 0)
    return broker


def test_while_a_content_arrives_nobody_gets_more_leases_than_fill_a_short_way() -> None:
    broker = arriving("one")
    assert len(leases(want(broker, "one", 5))) == USUAL_IN_FLIGHT
    assert len(leases(have(broker, "one", 0))) == 1, "one of its leases has ended"
    assert len(leases(broker.proven("seed", 5))) == 1, "all can be had now"


def test_whoever_has_a_long_way_gets_what_it_needs_and_whoever_learns_so_is_looked_at() -> None:
    broker = arriving("one", "two")
    assert len(leases(want(broker, "one", 5, in_flight=9))) == 5
    assert len(leases(want(broker, "two", 5, in_flight=USUAL_IN_FLIGHT + 1))) == USUAL_IN_FLIGHT
    assert len(leases(broker.hears("two", said.Want(task=TASK, count=0, in_flight=9)), "two")) == 2


# ── what drags ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lease_that_drags_is_moved_to_a_whole_holder_with_room() -> None:
    swarm = a_swarm(children=0, slots=1)
    task = TASKS[0]
    middle, child = swarm.join(), swarm.join()
    swarm.opens(middle, task, 1)
    swarm.opens(child, task, 1)
    ((_, lease),) = child.leases.values()
    assert lease.parent == middle.peer
    holder = swarm.join()
    swarm.say(holder, said.Held(task=task, generation=swarm.generation[task], held=bytes([0b111111])))
    swarm.passes(3.0)
    ((_, moved),) = child.leases.values()
    whole = {holder.peer} | {member.peer for member in swarm.members.values() if member.is_seed}
    assert moved.piece == lease.piece
    assert moved.parent in whole, "the seed has room as soon as the lease of the first is moved"


def test_who_fails_at_once_everywhere_does_not_spin_the_broker() -> None:
    swarm = a_swarm(children=0, slots=8)
    child = swarm.join()
    swarm.opens(child, TASKS[0], 1)
    before = swarm.now
    for _ in range(60):
        while child.leases:
            swarm.fails(child, next(iter(child.leases)), "refused")
        at = swarm.machine.next_deadline()
        assert at is not None
        swarm.passes(max(0.05, at - swarm.now))
    assert swarm.granted < 60 + FAILURES_BEFORE_REST
    assert swarm.now - before > MOST_REST_SECONDS


def test_a_child_that_waits_and_turns_out_slow_itself_is_given_what_slower_parents_have() -> None:
    swarm = Swarm()
    seed = swarm.join(seed=True, slots=1)
    busy = swarm.join()
    swarm.opens(busy, TASKS[0], 0)
    for permit in list(seed.permits):
        swarm.sources(seed, permit)
    swarm.say(busy, said.Want(task=TASKS[0], count=1))
    assert busy.leases
    slower, child = swarm.join(), swarm.join()
    swarm.say(slower, said.Held(task=TASKS[0], generation=swarm.generation[TASKS[0]], held=bytes([0b111111])))
    swarm.say(slower, said.Beat(down_rate=MB, up_rate=MB))
    swarm.say(child, said.Beat(down_rate=8 * MB, up_rate=8 * MB))
    swarm.opens(child, TASKS[0], 3)
    assert {lease.parent for _, lease in child.leases.values()} == {busy.peer}, "who is slower comes after the seed"
    swarm.say(child, said.Beat(down_rate=MB // 10))
    assert {lease.parent for _, lease in child.leases.values()} == {busy.peer, slower.peer}


# ── the rings and chains that random talks have found ─────────────────────────────────────────────────────────────


def test_who_reads_the_source_for_all_takes_no_more_what_it_has_proven() -> None:
    """A reader that is a member may have a lease on what it then reads itself; it must not stay somebody's child."""
    swarm = Swarm()
    reader, other = swarm.join(), swarm.join()
    swarm.opens(reader, TASKS[0], 2)
    swarm.opens(other, TASKS[0], 2)
    swarm.settle()
    assert reader.has(TASKS[0]).bit_count() == other.has(TASKS[0]).bit_count() == PIECES
    assert swarm.machine.counts()["leases"] == 0


def a_swarm(children: int, slots: int) -> Swarm:
    """A seed that holds everything, and children that want three pieces each."""
    swarm = Swarm()
    seed = swarm.join(seed=True, slots=slots)
    first = swarm.join()
    swarm.opens(first, TASKS[0], 0)
    for permit in list(seed.permits):
        swarm.sources(seed, permit)
    swarm.leaves(first)
    members: list[Member] = [swarm.join() for _ in range(children)]
    for member in members:
        swarm.opens(member, TASKS[0], 3)
    return swarm
