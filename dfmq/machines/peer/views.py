"""The peer's downloads as people see them: plain values for the status. Changes nothing, shows no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfmq.machines.peer.download import Download
from dfmq.model.ids import TaskId


def downloads(of: Mapping[TaskId, Download]) -> dict[str, dict[str, Any]]:
    """One row a download, by its task. Bytes."""
    return {
        task.hex(): {
            "phase": download.phase,
            "wanted": download.wants.owed,
            "parents": download.leases.parents,
            "bytes": download.tally.total,
        }
        for task, download in of.items()
    }


def received(of: Mapping[TaskId, Download]) -> dict[str, int]:
    """Where the bytes of all of them came from."""
    tallies = [download.tally for download in of.values()]
    return {
        "from_source": sum(tally.from_source for tally in tallies),
        "from_seed": sum(tally.from_seed for tally in tallies),
        "from_peers": sum(tally.from_peers for tally in tallies),
        "from_store": sum(tally.from_store for tally in tallies),
    }
