"""The broker as people see it: plain values for the HTTP API. Changes nothing, shows no secret."""

from __future__ import annotations

from typing import Any

from dfmq.machines.broker.catalog import Task
from dfmq.machines.broker.desk import Desk
from dfmq.machines.broker.slots import SLOT
from dfmq.machines.broker.wants import Wants


def counts(desk: Desk, wants: Wants) -> dict[str, int]:
    """How much of everything there is now."""
    return {
        "peers": len(desk.roster),
        "seeds": len(desk.roster.seeds),
        "tasks": len(desk.catalog.tasks),
        "members": sum(len(task.members) for task in desk.catalog.tasks.values()),
        "leases": len(desk.leases),
        "wants": sum(wants.total(task) for task in wants.queues),
        "parked": sum(len(queue.parked) for queue in wants.parked.values()),
        "permits": len(desk.backsource),
        "suspected": desk.health.suspected.bit_count(),
        "quarantined": desk.health.barred.bit_count(),
    }


def tasks(desk: Desk, wants: Wants) -> list[dict[str, Any]]:
    """One row a task. Lengths in bytes."""
    return [_task(task, desk, wants) for task in desk.catalog.tasks.values()]


def _task(task: Task, desk: Desk, wants: Wants) -> dict[str, Any]:
    content = task.content
    return {
        "task": task.id.hex(),
        "url": task.url,
        "generation": content.generation.hex() if content else None,
        "length": content.cut.length if content else None,
        "piece_length": content.cut.piece_length if content else None,
        "pieces": content.cut.count if content and task.is_sealed else None,
        "available": task.available.bit_count(),
        "members": len(task.members),
        "waiting": sum(not member.is_open for member in task.members.values()),
        "holders": len(task.held),
        "complete": sum(task.is_complete(index) for index in task.held),
        "wants": wants.total(task.id),
        "leases": sum(pieces.bit_count() for pieces in task.taking.values()),
        "permits": len(desk.backsource.of_task(task.id)),
    }


def peers(desk: Desk, now: float) -> list[dict[str, Any]]:
    """One row a peer. Rates in bytes per second."""
    rows = []
    for peer in desk.roster.everyone():
        rate, index = desk.rates.of(peer.index), peer.index
        rows.append(
            {
                "peer": peer.id.hex(),
                "host": peer.host.hex(),
                "name": peer.name,
                "exchange": peer.exchange,
                "zone": peer.zone,
                "software": peer.software,
                "seed": peer.is_seed,
                "health": desk.health.state(peer.host),
                "heard_seconds_ago": round(now - peer.heard_at, 3),
                "down_bytes_per_second": rate.down,
                "up_bytes_per_second": rate.up,
                "slots": desk.slots.capacity[index] / SLOT,
                "booked": desk.slots.booked[index] / SLOT,
                "serving": desk.leases.serving(index),
                "receiving": sum(task.taking.get(index, 0).bit_count() for task in desk.catalog.of_peer(index)),
                "cpu_share": peer.sample.cpu_share,
                "memory_share": peer.sample.memory_share,
                "disk_free_bytes": peer.sample.disk_free_bytes,
            }
        )
    return rows
