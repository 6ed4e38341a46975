"""What the broker has decided in this turn, in order. Groups a child's leases into Grants; decides nothing itself."""

from __future__ import annotations

from typing import Any

from dfmq.machines.effects import BrokerEffect, Publish, Record, Send
from dfmq.model.ids import Generation, LeaseId, PeerId, TaskId
from dfmq.wire.messages import Grant, Lease, Message, Revoke

#: bounds of the message types, and room for the rest of a 64 KiB body
MOST_LEASES_IN_GRANT = 64
MOST_BYTES_IN_GRANT = 60 * 1024
#: of a lease's map, besides its proofs and its endpoint
BYTES_OF_LEASE = 128
MOST_LEASES_IN_REVOKE = 256
#: so many of the longest proofs and endpoints there can be
LEASES_THAT_ALWAYS_FIT = 3


class Outbox:
    """Effects of one turn. Law: grants stand behind everything else of the turn that their child must hear first
    (Opened, Revoke), so they are kept apart and put at the end; after `take` nothing is left."""

    def __init__(self) -> None:
        self._effects: list[BrokerEffect] = []
        self._grants: dict[tuple[TaskId, Generation, PeerId], list[Lease]] = {}
        self._revoked: dict[tuple[TaskId, PeerId], list[LeaseId]] = {}

    def send(self, peer: PeerId, message: Message) -> None:
        """Say this to a peer."""
        self._effects.append(Send(peer, message))

    def publish(self, topic: bytes, message: Message) -> None:
        """Say this to whoever listens."""
        self._effects.append(Publish(topic, message))

    def record(self, name: str, /, **fields: Any) -> None:
        """Tell the journal."""
        self._effects.append(Record(name, fields))

    def refuse(self, peer: PeerId, message: Message, why: str) -> None:
        """Tell the journal that the peer said something that changes nothing."""
        self.record("message.refused", peer=peer, op=type(message).__name__.lower(), why=why)

    def grant(self, child: PeerId, task: TaskId, generation: Generation, lease: Lease) -> None:
        """One lease more for this child."""
        self._grants.setdefault((task, generation, child), []).append(lease)

    def revoke(self, child: PeerId, task: TaskId, lease: LeaseId) -> None:
        """One lease of this child is void."""
        self._revoked.setdefault((task, child), []).append(lease)

    def take(self) -> list[BrokerEffect]:
        """Everything of this turn: what was said, then what is revoked, then what is granted."""
        effects, self._effects = self._effects, []
        if self._revoked:
            for (task, child), ids in self._revoked.items():
                for at in range(0, len(ids), MOST_LEASES_IN_REVOKE):
                    batch: list[int] = [*ids[at : at + MOST_LEASES_IN_REVOKE]]
                    effects.append(Send(child, Revoke(task=task, leases=batch)))
            self._revoked = {}
        if self._grants:
            for (task, generation, child), leases in self._grants.items():
                for batch_of in _batches(leases):
                    effects.append(Send(child, Grant(task=task, generation=generation, leases=batch_of)))
            self._grants = {}
        return effects


def _batches(leases: list[Lease]) -> list[list[Lease]]:
    """Cut so that every Grant keeps within its bounds."""
    if len(leases) <= LEASES_THAT_ALWAYS_FIT:
        return [leases]
    batches: list[list[Lease]] = []
    room = 0
    for lease in leases:
        size = BYTES_OF_LEASE + len(lease.proofs) + len(lease.endpoint.encode())
        if not batches or len(batches[-1]) == MOST_LEASES_IN_GRANT or room < size:
            batches.append([])
            room = MOST_BYTES_IN_GRANT
        batches[-1].append(lease)
        room -= size
    return batches
