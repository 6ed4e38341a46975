"""The broker's books against each other: what one part says must be what the other says. Slow; only check() asks."""

from __future__ import annotations

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.desk import Desk
from dfmq.model import bitfield


def check(desk: Desk) -> None:
    """Raises InvariantViolated where two books differ."""
    _check_leases(desk)
    _check_peers(desk)
    _check_permits(desk)


def _check_leases(desk: Desk) -> None:
    """What the catalog says is being taken are the live leases, and children are members."""
    taken = {
        (t.id, i, p) for t in desk.catalog.tasks.values() for i, ps in t.taking.items() for p in bitfield.members(ps)
    }
    live = {(lease.task, lease.child, lease.piece) for lease in desk.leases}
    if taken != live:
        raise InvariantViolated(f"taken but not leased: {taken - live}; leased but not taken: {live - taken}")
    for task, child, piece in live:
        if child not in desk.catalog.tasks[task].members:
            raise InvariantViolated(f"{child} has a lease on piece {piece} of a task it does not want")


def _check_peers(desk: Desk) -> None:
    """Every peer named anywhere is here."""
    here = {peer.index for peer in desk.roster.everyone()}
    if set(desk.slots.capacity) != here:
        raise InvariantViolated("the peers with slots are not those on the roster")
    for task in desk.catalog.tasks.values():
        if {*task.members, *task.held, *task.claims, *task.taking} - here:
            raise InvariantViolated(f"task {task.id.hex()} names a peer that is gone")
        for index in {*task.held, *bitfield.members(task.barred)}:
            if (task.barred ^ desk.health.barred) >> index & 1:
                raise InvariantViolated(f"task {task.id.hex()}: {index} is in quarantine here or there only")
    for peer in desk.roster.everyone():
        if not desk.health.peers_of(peer.host) >> peer.index & 1:
            raise InvariantViolated(f"peer {peer.index} is not with its host")


def _check_permits(desk: Desk) -> None:
    """Permits name who and what is here; whoever waits, waits for one; what nobody holds is being asked for."""
    for peer in desk.roster.everyone():
        for permit in desk.backsource.of_holder(peer.index):
            if permit.task not in desk.catalog.tasks:
                raise InvariantViolated(f"permit {permit.id} is on a task nobody knows")
    for task in desk.catalog.tasks.values():
        permits = desk.backsource.of_task(task.id)
        if any(not member.is_open for member in task.members.values()) and not permits:
            raise InvariantViolated(f"task {task.id.hex()}: somebody waits for a permit that nobody has")
        is_ending = desk.backsource.unwanted.at(task.id) is not None
        if is_ending and task.may_be_read():
            raise InvariantViolated(f"task {task.id.hex()}: somebody wants it, and its permits would end")
        if permits and not task.may_be_read() and not is_ending:
            raise InvariantViolated(f"task {task.id.hex()}: nobody wants it, and its permits stand for ever")
        stranded = any(m.is_open and not task.is_complete(i) for i, m in task.members.items())
        if stranded and not task.is_available() and desk.backsource.fetch_of(task.id) is None:
            raise InvariantViolated(f"task {task.id.hex()}: a piece nobody holds is not asked for")
    if sum(len(desk.backsource.of_holder(peer.index)) for peer in desk.roster.everyone()) != len(desk.backsource):
        raise InvariantViolated("a peer that is gone has a permit")
