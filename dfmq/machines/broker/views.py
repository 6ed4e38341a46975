"""The broker as people see it: plain values for the HTTP API. Changes nothing, shows no secret."""

from __future__ import annotations

from typing import Any

from dfmq.machines.broker.backsource import BackSource
from dfmq.machines.broker.catalog import Catalog, Task
from dfmq.machines.broker.health import Health
from dfmq.machines.broker.leases import Leases
from dfmq.machines.broker.rates import Rates
from dfmq.machines.broker.roster import Roster
from dfmq.machines.broker.scheduler import Scheduler
from dfmq.machines.broker.slots import SLOT, Slots


def tasks(catalog: Catalog, scheduler: Scheduler, backsource: BackSource) -> list[dict[str, Any]]:
    """One row a task. Lengths in bytes."""
    return [_task(task, scheduler, backsource) for task in catalog.tasks.values()]


def _task(task: Task, scheduler: Scheduler, backsource: BackSource) -> dict[str, Any]:
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
        "wants": scheduler.wants(task.id),
        "leases": sum(pieces.bit_count() for pieces in task.taking.values()),
        "permits": len(backsource.of_task(task.id)),
    }


def peers(
    roster: Roster, rates: Rates, slots: Slots, leases: Leases, health: Health, now: float
) -> list[dict[str, Any]]:
    """One row a peer. Rates in bytes per second."""
    rows = []
    for peer in roster.everyone():
        rate, index = rates.of(peer.index), peer.index
        rows.append(
            {
                "peer": peer.id.hex(),
                "host": peer.host.hex(),
                "name": peer.name,
                "exchange": peer.exchange,
                "zone": peer.zone,
                "software": peer.software,
                "seed": peer.is_seed,
                "health": health.state(peer.host),
                "heard_seconds_ago": round(now - peer.heard_at, 3),
                "down_bytes_per_second": rate.down,
                "up_bytes_per_second": rate.up,
                "slots": slots.capacity[index] / SLOT,
                "booked": slots.booked[index] / SLOT,
                "serving": leases.serving(index),
                "receiving": leases.receiving(index),
                "cpu_share": peer.sample.cpu_share,
                "memory_share": peer.sample.memory_share,
                "disk_free_bytes": peer.sample.disk_free_bytes,
            }
        )
    return rows
