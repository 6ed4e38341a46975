"""Names of things: task, host, peer, generation, lease. Only names; how a TaskId is derived is in model/task."""

from __future__ import annotations

from typing import NewType

#: 16 octets, derived from what identifies the content (see model/task).
TaskId = NewType("TaskId", bytes)
#: 16 random octets, new at every start of a process. It is the routing id of its control socket.
PeerId = NewType("PeerId", bytes)
#: 16 octets, kept in the home directory: health is remembered per host, over restarts.
HostId = NewType("HostId", bytes)
#: 8 octets that name one version of a task's content.
Generation = NewType("Generation", bytes)
#: Given by the broker, unique within one epoch of it; positive, below 2**63.
LeaseId = NewType("LeaseId", int)
#: Given by the broker: leave to read the source; positive.
PermitId = NewType("PermitId", int)

TASK_ID_BYTES = 16
PEER_ID_BYTES = 16
HOST_ID_BYTES = 16
GENERATION_BYTES = 8


def short(identifier: bytes) -> str:
    """The first 8 hex digits, as ids are printed everywhere."""
    return identifier[:4].hex()
