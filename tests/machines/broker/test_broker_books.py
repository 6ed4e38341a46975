"""The broker's small books one by one: slots, leases, roster, outbox. How they work together is in test_scheduling."""

from __future__ import annotations

import random

import pytest

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.leases import Leases
from dfmq.machines.broker.outbox import MOST_LEASES_IN_GRANT, MOST_LEASES_IN_REVOKE, Outbox
from dfmq.machines.broker.roster import SILENT_BEATS, Roster
from dfmq.machines.broker.slots import SLOT, Slots
from dfmq.machines.broker.zones import Zones
from dfmq.machines.effects import Record, Send
from dfmq.machines.peer.neighbours import OWN_LEASES_FROM
from dfmq.model.ids import Generation, LeaseId, PeerId, TaskId
from dfmq.wire import codec, envelope
from dfmq.wire import messages as said

TASK = TaskId(b"T" * 16)


def peer(number: int) -> PeerId:
    return PeerId(b"%016d" % number)


# ── slots ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_parent_has_room_until_less_than_half_a_slot_is_left() -> None:
    slots = Slots()
    slots.join(3, 2 * SLOT)
    seen = []
    for cost in (SLOT, SLOT // 2, SLOT // 4):
        slots.book(3, cost)
        slots.check()
        seen.append((slots.room, slots.level_of[3]))
    assert seen == [(1 << 3, 2), (1 << 3, 3), (0, -1)]


def test_a_parent_that_gets_more_slots_has_room_again() -> None:
    slots = Slots()
    slots.join(0, SLOT)
    slots.book(0, SLOT)
    assert slots.resize(0, 3 * SLOT)
    assert not slots.resize(0, 4 * SLOT), "it had room before"
    slots.check()


def test_nobody_leaves_the_slots_with_streams_booked() -> None:
    slots = Slots()
    slots.join(0, SLOT)
    slots.book(0, 1)
    with pytest.raises(InvariantViolated):
        slots.leave(0)


# ── leases ────────────────────────────────────────────────────────────────────────────────────────────────────────


def some_leases(peers: int) -> Leases:
    slots, zones = Slots(), Zones()
    for index in range(peers):
        slots.join(index, 4 * SLOT)
        zones.join(index, "")
    return Leases(slots, zones)


@pytest.mark.clause("LEASE-2")
def test_brokers_of_different_epochs_give_no_lease_the_same_number() -> None:
    chance, seen = random.Random(1), set()
    for epoch in [1, 2, 3, *(chance.randrange(1, 2**62) for _ in range(100))]:
        slots, zones = Slots(), Zones()
        for index in range(4):
            slots.join(index, 4 * SLOT)
            zones.join(index, "")
        leases = Leases(slots, zones, epoch)
        for piece in range(4):
            seen.add(leases.grant(TASK, piece, 1, 0, SLOT, 10.0, 30.0, 2.5).id)
    assert len(seen) == 4 * 103
    assert max(seen) < OWN_LEASES_FROM


def test_a_lease_is_in_every_index_or_in_none() -> None:
    leases = some_leases(3)
    lease = leases.grant(TASK, 5, 1, 0, SLOT, 10.0, 30.0, 2.5)
    leases.check()
    assert leases.get(lease.id) is leases.taking(TASK, 5, 1) is leases.of_parent(0)[0]
    assert (lease.expires_at, lease.look_at) == (40.0, 12.5)
    leases.end(lease)
    leases.check()
    assert (len(leases), leases.of_task(TASK), leases.due(13.0)) == (0, [], [])


def test_a_child_takes_a_piece_once_and_never_from_itself() -> None:
    leases = some_leases(3)
    leases.grant(TASK, 5, 1, 0, SLOT, 10.0, 30.0, 2.5)
    for child, parent in ((1, 2), (2, 2)):
        with pytest.raises(InvariantViolated):
            leases.grant(TASK, 5, child, parent, SLOT, 10.0, 30.0, 2.5)


def test_a_peer_serves_a_piece_of_one_task_and_not_of_another() -> None:
    leases = some_leases(3)
    other = TaskId(b"O" * 16)
    lease = leases.grant(TASK, 5, 1, 0, SLOT, 10.0, 30.0, 2.5)
    leases.grant(other, 5, 2, 0, SLOT, 10.0, 30.0, 2.5)
    leases.grant(TASK, 6, 2, 0, SLOT, 10.0, 30.0, 2.5)
    assert leases.served_on(TASK, 5, 0) == [lease]
    assert leases.served_on(TASK, 5, 1) == []
    assert leases.serves(TASK, 6, 0)
    assert not leases.serves(other, 6, 0)
    assert (leases.serving(0), leases.of_task(other)[0].child) == (3, 2)


def test_ancestors_end_at_whoever_takes_the_piece_from_nobody() -> None:
    leases = some_leases(4)
    for child, parent in ((1, 0), (2, 1), (3, 2)):
        leases.grant(TASK, 5, child, parent, SLOT, 10.0, 30.0, 2.5)
    assert list(leases.ancestors(TASK, 5, 3)) == [3, 2, 1, 0]
    assert [leases.taking(TASK, 5, child).depth for child in (1, 2, 3)] == [0, 1, 2]  # type: ignore[union-attr]


def test_a_ring_of_parents_is_noticed() -> None:
    leases = some_leases(2)
    leases.grant(TASK, 5, 1, 0, SLOT, 10.0, 30.0, 2.5)
    leases.grant(TASK, 5, 0, 1, SLOT, 10.0, 30.0, 2.5)
    with pytest.raises(InvariantViolated, match="ring"):
        leases.check()


# ── roster ────────────────────────────────────────────────────────────────────────────────────────────────────────


def hello(number: int, *, host: int | None = None, exchange: str | None = None) -> said.Hello:
    return said.Hello(
        peer=peer(number), host=b"%016d" % (host or number), exchange=exchange or f"tcp://10.0.0.{number}:1"
    )


def test_the_index_of_a_peer_that_left_is_given_again_the_lowest_first() -> None:
    roster = Roster(2.0)
    peers = [roster.join(hello(number), 0.0) for number in range(1, 5)]
    for left in (peers[2], peers[1]):
        roster.leave(left)
    assert [roster.join(hello(number), 1.0).index for number in (7, 8, 9)] == [1, 2, 4]
    roster.check()


def test_only_who_was_not_heard_for_three_beats_is_silent() -> None:
    roster = Roster(2.0)
    quiet, loud = roster.join(hello(1), 0.0), roster.join(hello(2), 0.0)
    loud.heard_at = 3.0
    assert roster.silent(SILENT_BEATS * 2.0 - 0.1) == []
    assert roster.silent(SILENT_BEATS * 2.0) == [quiet]
    assert roster.deadlines.at(loud.id) == 3.0 + SILENT_BEATS * 2.0


def test_the_same_endpoint_is_an_earlier_life_only_on_the_same_host() -> None:
    roster = Roster(2.0)
    first = roster.join(hello(1, host=1, exchange="tcp://10.0.0.1:1"), 0.0)
    assert roster.predecessor(hello(2, host=1, exchange="tcp://10.0.0.1:1")) is first
    assert roster.predecessor(hello(2, host=2, exchange="tcp://10.0.0.1:1")) is None
    assert roster.predecessor(hello(1, host=1, exchange="tcp://10.0.0.1:1")) is None


# ── outbox ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_grants_stand_behind_all_else_and_void_leases_before_new_ones() -> None:
    outbox = Outbox()
    generation = Generation(b"g" * 8)
    outbox.grant(peer(1), TASK, generation, said.Lease(lease=2, piece=0, parent=peer(2), endpoint="", proofs=b""))
    outbox.revoke(peer(1), TASK, LeaseId(1))
    outbox.record("lease.granted", name="a field may be called name")
    outbox.send(peer(1), said.BeatSeen(stamp=1))
    kinds = [type(e.message if isinstance(e, Send) else e) for e in outbox.take()]
    assert kinds == [Record, said.BeatSeen, said.Revoke, said.Grant]
    assert outbox.take() == []


def test_every_grant_and_revoke_keeps_its_bounds() -> None:
    outbox = Outbox()
    for number in range(700):
        proofs = bytes(16_384) if number in range(0, 350, 50) else bytes(256)
        lease = said.Lease(lease=number, piece=number, parent=peer(2), endpoint="e" * 256, proofs=proofs)
        outbox.grant(peer(1), TASK, Generation(b"g" * 8), lease)
        outbox.revoke(peer(1), TASK, LeaseId(number))
    sent = [effect.message for effect in outbox.take() if isinstance(effect, Send)]
    assert all(len(codec.encode(message)) <= envelope.MOST_BODY_BYTES for message in sent)
    grants = [message for message in sent if isinstance(message, said.Grant)]
    revokes = [message for message in sent if isinstance(message, said.Revoke)]
    assert max(len(grant.leases) for grant in grants) == MOST_LEASES_IN_GRANT
    assert len(grants) < 16, "and no more of them than it takes"
    assert [lease.lease for grant in grants for lease in grant.leases] == list(range(700))
    assert [len(revoke.leases) for revoke in revokes] == [MOST_LEASES_IN_REVOKE] * 2 + [188]
