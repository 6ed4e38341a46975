"""Who is here: peers, when each was last heard, and a dense index for each. What they hold is in catalog."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from dfmq.errors import InvariantViolated
from dfmq.machines.deadlines import Deadlines
from dfmq.model.host import HostSample
from dfmq.model.ids import HostId, PeerId
from dfmq.wire.messages import Hello

#: a peer not heard for so many beats is lost
SILENT_BEATS = 3
UNSAMPLED = HostSample()


@dataclass(slots=True, eq=False)
class Peer:
    """One peer that is here."""

    id: PeerId
    #: small and reused: sets of peers are Python ints with this bit
    index: int
    host: HostId
    exchange: str
    hints: str
    name: str
    zone: str
    software: str
    is_seed: bool
    heard_at: float
    sample: HostSample = UNSAMPLED


class Roster:
    """Law: ids, indices and places (host, endpoint) name the same peers; an index is given to one peer at a time and
    free indices are the gaps; `seeds` are the peers that are seeds; every peer has a deadline by which it is heard."""

    def __init__(self, beat_seconds: float) -> None:
        self._silence = SILENT_BEATS * beat_seconds
        self._by_id: dict[PeerId, Peer] = {}
        self._by_index: list[Peer | None] = []
        self._free: list[int] = []
        self._by_place: dict[tuple[HostId, str], Peer] = {}
        self.seeds: dict[int, Peer] = {}
        #: peers that are no seeds, the most there were at once
        self.most_hosts = 0
        self.deadlines: Deadlines[PeerId] = Deadlines()

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, peer: PeerId) -> Peer | None:
        """The peer of this id, if it is here."""
        return self._by_id.get(peer)

    def at(self, index: int) -> Peer:
        """The peer with this index."""
        peer = self._by_index[index]
        if peer is None:
            raise InvariantViolated(f"no peer has the index {index}")
        return peer

    def everyone(self) -> list[Peer]:
        """Every peer."""
        return list(self._by_id.values())

    def predecessor(self, hello: Hello) -> Peer | None:
        """Another peer of the same host at the same exchange endpoint: an earlier life of the process that says Hello.
        The host counts, for behind address translation two hosts may well name the same endpoint; whoever is here is on
        the host of its first Hello."""
        known = self._by_id.get(PeerId(hello.peer))
        other = self._by_place.get((known.host if known is not None else HostId(hello.host), hello.exchange))
        return other if other is not None and other.id != hello.peer else None

    def join(self, hello: Hello, now: float) -> Peer:
        """A new peer."""
        index = heapq.heappop(self._free) if self._free else len(self._by_index)
        if index == len(self._by_index):
            self._by_index.append(None)
        peer = Peer(
            PeerId(hello.peer), index, HostId(hello.host), hello.exchange, hello.hints, hello.name, hello.zone,
            hello.software, hello.seed, now,
        )  # fmt: skip
        self._by_id[peer.id] = peer
        self._by_index[index] = peer
        self._by_place[peer.host, peer.exchange] = peer
        if peer.is_seed:
            self.seeds[index] = peer
        self.most_hosts = max(self.most_hosts, len(self._by_id) - len(self.seeds))
        self.deadlines.set(peer.id, now + self._silence)
        return peer

    def rejoin(self, peer: Peer, hello: Hello, now: float) -> None:
        """A peer that is here says Hello again: it keeps its index, its addresses may be new. Host and seedship are
        those of its first Hello, for they belong to the process."""
        del self._by_place[peer.host, peer.exchange]
        peer.exchange, peer.hints, peer.name = hello.exchange, hello.hints, hello.name
        self._by_place[peer.host, peer.exchange] = peer
        peer.heard_at = now

    def leave(self, peer: Peer) -> None:
        """The peer is gone, and in no other book any more."""
        del self._by_id[peer.id]
        self._by_index[peer.index] = None
        heapq.heappush(self._free, peer.index)
        del self._by_place[peer.host, peer.exchange]
        self.seeds.pop(peer.index, None)
        self.deadlines.clear(peer.id)

    def silent(self, now: float) -> list[Peer]:
        """The peers not heard for three beats. The deadline of one heard since is moved here, not at each message."""
        lost = []
        for peer_id in self.deadlines.due(now):
            peer = self._by_id[peer_id]
            if peer.heard_at + self._silence <= now:
                lost.append(peer)
                self.deadlines.set(peer_id, now)
            else:
                self.deadlines.set(peer_id, peer.heard_at + self._silence)
        return lost

    def check(self) -> None:
        """See the class's law."""
        present = {peer.index: peer for peer in self._by_id.values()}
        if len(present) != len(self._by_id):
            raise InvariantViolated("two peers have one index")
        for index, peer in enumerate(self._by_index):
            if present.get(index) is not peer:
                raise InvariantViolated(f"index {index} names another peer than it should")
        if sorted(self._free) != [i for i, peer in enumerate(self._by_index) if peer is None]:
            raise InvariantViolated("the free indices are not the gaps")
        if self.seeds != {i: p for i, p in present.items() if p.is_seed}:
            raise InvariantViolated("the seeds are not the peers that are seeds")
        for peer in present.values():
            if self._by_place.get((peer.host, peer.exchange)) is not peer or self.deadlines.at(peer.id) is None:
                raise InvariantViolated(f"peer {peer.index} is not at its place or has no deadline")
        if len(self._by_place) != len(present) or len(self.deadlines) != len(present):
            raise InvariantViolated("a place or a deadline is left of a peer that went")
