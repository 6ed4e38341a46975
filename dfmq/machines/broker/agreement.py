"""The broker's books against each other: what one part says must be what the other says. Slow; only check() asks."""

from __future__ import annotations

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.backsource import BackSource
from dfmq.machines.broker.catalog import Catalog
from dfmq.machines.broker.health import Health
from dfmq.machines.broker.leases import Leases
from dfmq.machines.broker.roster import Roster
from dfmq.machines.broker.slots import Slots
from dfmq.model import bitfield


def check_leases(catalog: Catalog, leases: Leases) -> None:
    """What the catalog says is being taken are the live leases, and children are members."""
    taken = {(t.id, i, p) for t in catalog.tasks.values() for i, ps in t.taking.items() for p in bitfield.members(ps)}
    live = {(lease.task, lease.child, lease.piece) for lease in leases}
    if taken != live:
        raise InvariantViolated(f"taken but not leased: {taken - live}; leased but not taken: {live - taken}")
    for task, child, piece in live:
        if child not in catalog.tasks[task].members:
            raise InvariantViolated(f"{child} has a lease on piece {piece} of a task it does not want")


def check_peers(roster: Roster, catalog: Catalog, slots: Slots, health: Health) -> None:
    """Every peer named anywhere is here."""
    here = {peer.index for peer in roster.everyone()}
    if set(slots.capacity) != here:
        raise InvariantViolated("the peers with slots are not those on the roster")
    for task in catalog.tasks.values():
        if {*task.members, *task.held, *task.claims, *task.taking} - here:
            raise InvariantViolated(f"task {task.id.hex()} names a peer that is gone")
        for index in {*task.held, *bitfield.members(task.barred)}:
            if (task.barred ^ health.barred) >> index & 1:
                raise InvariantViolated(f"task {task.id.hex()}: {index} is in quarantine here or there only")
    for peer in roster.everyone():
        if not health.peers_of(peer.host) >> peer.index & 1:
            raise InvariantViolated(f"peer {peer.index} is not with its host")


def check_permits(roster: Roster, catalog: Catalog, backsource: BackSource) -> None:
    """Permits name who and what is here; whoever waits, waits for one; what nobody holds is being asked for."""
    for peer in roster.everyone():
        for permit in backsource.of_holder(peer.index):
            if permit.task not in catalog.tasks:
                raise InvariantViolated(f"permit {permit.id} is on a task nobody knows")
    for task in catalog.tasks.values():
        permits = backsource.of_task(task.id)
        if any(not member.is_open for member in task.members.values()) and not permits:
            raise InvariantViolated(f"task {task.id.hex()}: somebody waits for a permit that nobody has")
        stranded = any(m.is_open and not task.is_complete(i) for i, m in task.members.items())
        if stranded and not task.is_available() and backsource.fetch_of(task.id) is None:
            raise InvariantViolated(f"task {task.id.hex()}: a piece nobody holds is not asked for")
    if sum(len(backsource.of_holder(peer.index)) for peer in roster.everyone()) != len(backsource):
        raise InvariantViolated("a peer that is gone has a permit")
