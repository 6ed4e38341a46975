"""What comes into a zone comes once: near parents first, far ones only for what nobody near holds or is getting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.broker_swarm import PIECES, TASKS, Member, Swarm
from support.choice_books import CHILD, MB, Books, host

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.slots import SLOT
from dfmq.machines.broker.zones import EVERYBODY, LEAST_ENTERING, MOST_ENTERING, Zones
from dfmq.model import bitfield
from dfmq.model.ids import PeerId
from dfmq.wire import messages as said

TASK = TASKS[0]


# ── the book ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_names_the_same_zone_or_none_stands_near() -> None:
    zones = Zones()
    first = zones.join(0, "")
    assert zones.join(1, "") == first
    assert (zones.near(0), zones.are_several) == (EVERYBODY, False)
    second = zones.join(2, "east")
    assert (zones.near(0), zones.near(2), zones.peers_of(second)) == (0b011, 0b100, 0b100)
    assert zones.is_far(0, 2)
    assert not zones.is_far(0, 1)
    zones.leave(2)
    zones.check()
    assert (zones.peers_of(second), zones.all()) == (0, [first])
    assert zones.join(2, "east") != second, "it begins anew"


def test_as_many_come_in_as_are_quick() -> None:
    zones = Zones()
    east = zones.join(0, "east")
    zones.join(1, "west")

    def room() -> int:
        count = 0
        while zones.has_way_in(TASK, east):
            zones.enters(TASK, 0)
            count += 1
        for _ in range(count):
            zones.entered(TASK, 0)
        return count

    assert room() == LEAST_ENTERING
    for _ in range(100):
        zones.widen(0, 8 * MB)
    assert room() == MOST_ENTERING
    for _ in range(10):
        zones.widen(0, 2 * MB)
    assert LEAST_ENTERING <= room() < MOST_ENTERING, "each is slower than fewer were"
    for _ in range(100):
        zones.widen(0, 2 * MB)
    assert room() == MOST_ENTERING, "that is what the link brings now"
    zones.narrow(0)
    assert room() == MOST_ENTERING // 2
    for _ in range(9):
        zones.narrow(0)
    assert room() == LEAST_ENTERING
    zones.check()


def test_a_count_that_is_not_that_of_the_leases_is_noticed() -> None:
    zones = Zones()
    zones.join(0, "east")
    zones.enters(TASK, 0)
    zones.check_entering([(TASK, 0)])
    with pytest.raises(InvariantViolated):
        zones.check_entering([])


def test_who_may_send_less_than_a_quarter_of_what_a_lease_brings_is_nobody_to_wait_for() -> None:
    zones = Zones()
    for index, limit in enumerate([0, MB, 3 * MB, 3 * MB]):
        zones.join(index, "east", limit)
    zones.join(4, "west", MB)
    zones.check()
    assert zones.meagre == 0b11110, "nothing is known of the way in"
    zones.widen(0, 8 * MB)
    zones.check()
    assert zones.meagre == 0b10010
    assert [zones.suffice(peers) for peers in (0b00000, 0b00010)] == [False, False]
    assert [zones.suffice(peers) for peers in (0b00001, 0b00011, 0b00100)] == [True, True, True]
    assert zones.widen(0, 16 * MB), "whoever was worth waiting for is no more"
    assert zones.meagre == 0b11110
    assert [zones.suffice(peers) for peers in (0b0100, 0b1100)] == [False, True], "together they send enough"
    for _ in range(100):
        zones.widen(0, 2 * MB)
    zones.check()
    assert zones.meagre == 0b10000
    for index in range(5):
        zones.leave(index)
        zones.check()
    assert zones.meagre == 0


# ── the choice ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.clause("LEASE-5")
def test_what_a_near_peer_holds_does_not_come_from_afar() -> None:
    books = Books(4, zones="eeww")
    books.task.hold(1, 0b0001)
    books.task.hold(2, 0b0001)
    books.task.hold(3, 0b0001)
    assert books.chosen() == {(0, 1)}
    assert not books.choosing.may(books.task, CHILD, 0, 2)


@pytest.mark.clause("LEASE-5")
def test_the_child_waits_for_a_near_holder_without_room() -> None:
    books = Books(3, zones="eew")
    books.task.hold(1, 0b0001)
    books.task.hold(2, 0b0001)
    books.full(1)
    assert books.chosen() == set()


@pytest.mark.clause("LEASE-5")
def test_what_a_near_peer_is_getting_does_not_come_from_afar() -> None:
    books = Books(3, zones="eew")
    books.task.hold(2, 0b0001)
    books.takes(1, 0, 2)
    assert books.chosen() == {(0, 1)}


def test_what_comes_to_a_near_peer_by_way_of_the_child_comes_in_anew() -> None:
    books = Books(4, zones="eeww")
    books.task.hold(2, 0b0001)
    books.takes(1, 0, CHILD)
    assert books.chosen() == {(0, 2)}, "1 waits for the child, which has lost its own parent"


def test_a_near_holder_that_is_slow_on_probation_or_has_failed_the_child_keeps_nothing_out() -> None:
    def books(zones: str = "eeeeeew") -> Books:
        made = Books(7, zones=zones)
        made.task.hold(1, 0b0001)
        made.task.hold(6, 0b0001)
        return made

    on_probation = books()
    on_probation.health.blame(host(1), host(3), 0.0)
    assert on_probation.chosen() == {(0, 6)}
    failed = books()
    failed.task.members[CHILD].shunned = 0b10
    assert failed.chosen() == {(0, 6)}
    slow = books()
    for index in range(2, 6):
        slow.rate(index, 8 * MB)
    slow.rate(1, MB)
    assert slow.rates.slow == 0b10
    assert slow.chosen() == {(0, 6)}


def test_who_is_in_quarantine_and_getting_it_keeps_nothing_out() -> None:
    """It may pass on nothing: to wait for it would be to wait in vain."""
    books = Books(3, zones="eew")
    books.task.hold(2, 0b0001)
    books.takes(1, 0, 2)
    assert books.health.accuse(host(1), host(2), is_seed=False, now=0.0)
    assert books.chosen() == {(0, 2)}


def test_a_near_holder_slower_than_the_child_serves_it_all_the_same() -> None:
    """A better one elsewhere would mean a second copy; neither of them would mean none."""
    books = Books(3, zones="eew")
    books.task.hold(1, 0b0001)
    books.task.hold(2, 0b0001)
    books.rate(CHILD, 8 * MB)
    books.rate(1, 2 * MB)
    books.rate(2, 8 * MB)
    assert books.chosen() == {(0, 1)}


def test_a_zone_that_is_slow_as_a_whole_has_no_slow_peers() -> None:
    books = Books(12, zones="eeeeeewwwwww")
    for index in range(12):
        books.rate(index, (8 if index < 6 else 1) * MB)
    assert books.rates.slow == 0
    books.rate(3, MB)
    assert books.rates.slow == 0b1000


def test_a_lease_that_drags_is_moved_within_the_zone_only() -> None:
    books = Books(4, zones="eeww")
    books.task.hold(2, 0b0001)
    books.task.hold(3, 0b0001)
    lease = books.takes(CHILD, 0, 2)
    assert lease.is_far
    assert books.choosing.relief(books.task, lease) is None, "the link may be what is slow"
    books.health.blame(host(2), host(3), 0.0)
    assert books.choosing.relief(books.task, lease) == 3
    books.task.hold(1, 0b0001)
    assert books.choosing.relief(books.task, lease) == 1

    near = Books(4, zones="eeww")
    near.task.hold(2, 0b0001)
    near.takes(1, 0, 3)
    assert near.choosing.relief(near.task, near.takes(CHILD, 0, 1)) is None


def limited_books(limits: dict[int, int], brought: int = 8 * MB) -> Books:
    """The child's zone has peers 1 and 2 besides, which hold piece 0; peer 3, elsewhere, does too. A lease brings so
    many bytes per second into the zone."""
    books = Books(4, zones="eeew", limits=limits)
    for holder in (1, 2, 3):
        books.task.hold(holder, 0b0001)
    if brought:
        books.zones.widen(CHILD, brought)
    return books


@pytest.mark.clause("LEASE-5")
def test_near_holders_that_are_told_to_send_little_keep_nothing_out_while_they_are_few() -> None:
    few = MB // 2
    assert limited_books({1: few, 2: few}).chosen() == {(0, 1), (0, 2), (0, 3)}
    assert limited_books({1: few, 2: few}, brought=0).chosen() == {(0, 1), (0, 2), (0, 3)}, "one has to try"
    assert limited_books({1: few}).chosen() == {(0, 1), (0, 2)}, "the other sends what it can"
    assert limited_books({1: MB, 2: MB}).chosen() == {(0, 1), (0, 2)}, "together they send enough"
    assert limited_books({1: few, 2: few}, brought=MB).chosen() == {(0, 1), (0, 2)}, "the way in brings no more"


def test_who_gets_a_piece_and_sends_what_it_can_is_waited_for_beside_holders_that_send_little() -> None:
    books = limited_books({2: 1000})
    books.task.unhold(1, 0b0001)
    books.takes(1, 0, 3)
    books.full(1)
    assert books.chosen() == {(0, 2)}


def test_a_lease_on_a_near_holder_that_sends_little_is_moved_to_another_zone_while_there_is_a_way_in() -> None:
    books = limited_books({1: 1000, 2: 1000})
    books.full(2)
    lease = books.takes(CHILD, 0, 1)
    assert books.choosing.relief(books.task, lease) == 3
    while books.zones.has_way_in(books.task.id, books.zones.of(CHILD)):
        books.zones.enters(books.task.id, CHILD)
    assert books.choosing.relief(books.task, lease) is None
    assert books.choosing.relief(books.task, lease, is_overdue=True) == 1, "its Grant may have been lost"


def test_without_a_way_in_such_a_lease_is_moved_within_the_zone_even_to_a_more_loaded_one_or_not_at_all() -> None:
    books = limited_books({1: 1000, 2: 1000})
    lease = books.takes(CHILD, 0, 1)
    books.slots.book(1, 2 * SLOT)
    books.slots.book(2, SLOT)
    while books.zones.has_way_in(books.task.id, books.zones.of(CHILD)):
        books.zones.enters(books.task.id, CHILD)
    assert {books.choosing.relief(books.task, lease) for _ in range(50)} <= {None, 2}


def test_a_near_holder_that_sends_little_is_asked_last_when_there_is_no_way_in_for_more() -> None:
    books = limited_books({1: 1000, 2: 1000})
    for peer in (CHILD, 1, 2, 3):
        books.rate(peer, 8 * MB)
    assert books.chosen() == {(0, 3)}
    while books.zones.has_way_in(books.task.id, books.zones.of(CHILD)):
        books.zones.enters(books.task.id, CHILD)
    assert books.chosen() == {(0, 1), (0, 2)}


# ── the swarm ─────────────────────────────────────────────────────────────────────────────────────────────────────


class TwoZones:
    """A seed in the west that holds everything, and children in the east that want three pieces each."""

    def __init__(self, children: int) -> None:
        self.swarm = Swarm()
        self.seed = self.swarm.join(seed=True, slots=200, zone="west")
        first = self.swarm.join(zone="west")
        self.swarm.opens(first, TASK, 0)
        for permit in list(self.seed.permits):
            self.swarm.sources(self.seed, permit)
        self.swarm.leaves(first)
        self.children = [self.swarm.join(zone="east") for _ in range(children)]
        for child in self.children:
            self.swarm.opens(child, TASK, 3)

    def entering(self) -> Iterator[tuple[Member, said.Lease]]:
        for child in self.children:
            for _, lease in child.leases.values():
                if lease.parent == self.seed.peer:
                    yield child, lease


@pytest.mark.clause("LEASE-5")
def test_each_piece_comes_into_a_zone_once_and_few_at_a_time() -> None:
    two = TwoZones(12)
    came: list[int] = []
    for _ in range(400):
        entering = list(two.entering())
        pieces = [lease.piece for _, lease in entering]
        assert len(set(pieces)) == len(pieces) <= LEAST_ENTERING + 2
        found = next(((child, lease) for child in two.children for _, lease in child.leases.values()), None)
        if found is None:
            break
        child, lease = entering[0] if entering else found
        came += [lease.piece] * bool(entering)
        two.swarm.has(child, lease.lease)
        two.swarm.say(child, said.Want(task=TASK, count=1))
    assert all(child.has(TASK) == bitfield.full(PIECES) for child in two.children)
    assert sorted(came) == list(range(PIECES))


@pytest.mark.parametrize(("code", "times"), [("stalled", 1), ("unreachable", 0), ("cancelled", 0)])
def test_only_what_stalls_says_that_the_way_in_is_thin(monkeypatch: pytest.MonkeyPatch, code: str, times: int) -> None:
    narrowed: list[int] = []
    monkeypatch.setattr(Zones, "narrow", lambda _, child: narrowed.append(child))
    two = TwoZones(2)
    child, lease = next(two.entering())
    two.swarm.fails(child, lease.lease, code)
    assert len(narrowed) == times


@pytest.mark.parametrize("how", ["fails", "leaves", "closes"])
def test_when_who_brings_it_in_is_gone_another_does(how: str) -> None:
    two = TwoZones(2)
    bringing, _ = next(two.entering())
    (waiting,) = (child for child in two.children if child is not bringing)
    before = {lease.piece for child, lease in two.entering() if child is bringing}
    if how == "fails":
        for lease_id in list(bringing.leases):
            two.swarm.fails(bringing, lease_id, "cancelled")
        two.swarm.closes(bringing, TASK)
    elif how == "leaves":
        two.swarm.leaves(bringing)
    else:
        two.swarm.closes(bringing, TASK)
    two.swarm.settle()
    assert waiting.has(TASK) == bitfield.full(PIECES)
    assert before, "it was bringing something in"


def test_when_a_zone_loses_its_only_holder_others_are_asked() -> None:
    two = TwoZones(0)
    holder = two.swarm.join(zone="east", slots=1)
    two.swarm.say(holder, said.Held(task=TASK, generation=two.swarm.generation[TASK], held=bytes([0b111111])))
    children = [two.swarm.join(zone="east") for _ in range(3)]
    for child in children:
        two.swarm.opens(child, TASK, 1)

    def parents() -> set[PeerId]:
        return {PeerId(lease.parent) for child in children for _, lease in child.leases.values()}

    assert two.seed.peer not in parents()
    two.swarm.say(holder, said.Lost(task=TASK, all_pieces=True))
    assert two.seed.peer in parents()
    two.swarm.settle()
    assert all(child.has(TASK) for child in children)


def test_a_way_that_has_proven_wider_is_so_for_every_task() -> None:
    """Also where who gave of the one has nothing of the other."""
    two, other = TwoZones(1), TASKS[1]
    swarm, (first,) = two.swarm, two.children
    west = swarm.join(zone="west")
    swarm.opens(west, other, 0)
    for permit in list(two.seed.permits):
        swarm.sources(two.seed, permit)
    for holder in (west, swarm.join(zone="west")):
        swarm.say(holder, said.Held(task=other, generation=swarm.generation[other], held=bytes([0b111111])))
    swarm.say(two.seed, said.Lost(task=other, all_pieces=True))
    second = swarm.join(zone="east")
    swarm.opens(second, other, PIECES)
    assert len(second.leases) == LEAST_ENTERING
    swarm.now += 0.5
    swarm.has(first, next(iter(first.leases)))
    assert len(second.leases) == LEAST_ENTERING + 1


def test_when_a_zones_only_holder_gives_more_and_is_slow_others_are_asked() -> None:
    """Better as a parent than it was, and no good one any more."""
    two = TwoZones(0)
    swarm = two.swarm
    holder = swarm.join(zone="east", slots=1)
    swarm.say(holder, said.Held(task=TASK, generation=swarm.generation[TASK], held=bytes([0b111111])))
    swarm.say(holder, said.Want(task=TASK, count=0, down_rate=8 * MB, up_rate=MB))
    for _ in range(4):
        swarm.say(swarm.join(zone="east"), said.Beat(down_rate=8 * MB, up_rate=8 * MB))
    children = [swarm.join(zone="east", slots=1) for _ in range(2)]
    for child in children:
        swarm.opens(child, TASK, PIECES)
    assert all(0 < len(child.leases) < PIECES for child in children), "they wait for the holder"
    swarm.say(holder, said.Beat(down_rate=MB, up_rate=16 * MB))
    assert [lease.piece for child in children for _, lease in child.leases.values() if lease.parent == two.seed.peer]


def test_a_zone_does_not_wait_for_a_holder_that_is_told_to_send_little() -> None:
    two = TwoZones(0)
    swarm = two.swarm
    holder = swarm.join(zone="east", up_limit=1000)
    swarm.say(holder, said.Held(task=TASK, generation=swarm.generation[TASK], held=bytes([0b111111])))
    children = [swarm.join(zone="east") for _ in range(3)]
    for child in children:
        swarm.opens(child, TASK, PIECES)
    leases = [lease for child in children for _, lease in child.leases.values()]
    entering = [lease.piece for lease in leases if lease.parent == two.seed.peer]
    assert 0 < len(entering) <= LEAST_ENTERING
    assert len(set(entering)) == len(entering), "each once"
    swarm.settle()
    assert all(child.has(TASK) == bitfield.full(PIECES) for child in children)


def test_a_grant_that_was_lost_is_made_anew_by_the_only_holder_of_the_zone() -> None:
    """Its deadline is a minute and more away, and nobody elsewhere is to be asked."""
    two = TwoZones(1)
    swarm, (first,) = two.swarm, two.children
    swarm.settle()
    second = swarm.join(zone="east")
    swarm.opens(second, TASK, 1)
    (lost,) = second.leases
    del second.leases[lost]
    swarm.passes(10.0)
    assert [lease.parent for _, lease in second.leases.values()] == [first.peer]


def test_who_waits_for_a_piece_whose_only_holder_is_gone_ends_no_broker() -> None:
    """Nobody holds it any more, others that stand near are getting it, and the lease is looked at as usual."""
    swarm = Swarm()
    holder = swarm.join(seed=True)
    waiting = [swarm.join(host=101, up_limit=limit) for limit in (0, 1000, 0)]
    for member in waiting:
        swarm.opens(member, TASK)
    for permit_id in list(holder.permits):
        swarm.sources(holder, permit_id)
    swarm.join(host=101, slots=1, zone="east")
    assert all(member.leases for member in waiting)
    swarm.passes(0.1)
    swarm.leaves(holder)
    swarm.passes(1.0)
    assert TASK in waiting[0].opened
