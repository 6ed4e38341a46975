"""How far each host can be trusted as a parent: probation, quarantine. Per host, so that a restart changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from dfmq.errors import InvariantViolated
from dfmq.machines.deadlines import Deadlines
from dfmq.model.ids import HostId

#: a complaint counts half after so long
HALF_LIFE_SECONDS = 60.0
#: first probation; each complaint on top doubles it
PROBATION_SECONDS = 2.0
MOST_PROBATION_SECONDS = 300.0
#: a quarantined host may try again after so long: somebody has had time to look at it
QUARANTINE_SECONDS = 3600.0
#: distinct hosts that must have had corrupt chunks from a seed before it is quarantined
ACCUSERS_OF_A_SEED = 2
MOST_HOSTS = 65_536
#: a score below this is as good as none
FORGETTABLE = 0.1


@dataclass(slots=True, eq=False)
class Standing:
    """What is held against one host."""

    #: peers of this host that are here, a bit set of roster indices
    peers: int = 0
    #: complaints about it as a parent, decaying
    score: float = 0.0
    #: complaints it has made as a child without a success since: whoever finds fault with everybody counts little
    complaints: int = 0
    #: pieces come through to it; None: it is not known
    is_reached: bool | None = None
    touched_at: float = 0.0
    probation_until: float = 0.0
    quarantined_until: float = 0.0
    #: hosts that had corrupt chunks from it
    accusers: set[HostId] = field(default_factory=set)
    #: a host quarantined on this one's word alone; the word of one host is good for one quarantine
    accused: HostId | None = None


class Health:
    """Law: `suspected` and `barred` are the peers of hosts on probation and in quarantine; such a host has a deadline
    at which that ends; `unreached` are the peers of hosts that waited in vain and had no piece from anybody
    yet; hosts with no peer here and nothing held against them are forgotten."""

    def __init__(self) -> None:
        self._hosts: dict[HostId, Standing] = {}
        self.deadlines: Deadlines[HostId] = Deadlines()
        #: bit sets of roster indices
        self.suspected = 0
        self.barred = 0
        self.unreached = 0

    def join(self, host: HostId, index: int) -> bool:
        """A peer of this host is here; True when the host is in quarantine."""
        standing = self._hosts.setdefault(host, Standing())
        standing.peers |= 1 << index
        if standing.probation_until:
            self.suspected |= 1 << index
        if standing.quarantined_until:
            self.barred |= 1 << index
        if standing.is_reached is False:
            self.unreached |= 1 << index
        return bool(standing.quarantined_until)

    def leave(self, host: HostId, index: int, now: float) -> None:
        """The peer is gone; what is held against its host stays."""
        standing = self._hosts[host]
        standing.peers &= ~(1 << index)
        self.suspected &= ~(1 << index)
        self.barred &= ~(1 << index)
        self.unreached &= ~(1 << index)
        self._forget_if_clean(host, standing, now)
        if len(self._hosts) > MOST_HOSTS:
            self._forget_one()

    def blame(self, host: HostId, child: HostId, now: float) -> bool:
        """A child got nothing from a parent on this host. True when the host is on probation now and was not."""
        complainer = self._hosts[child]
        complainer.complaints += 1
        standing = self._hosts[host]
        self._decay(standing, now)
        standing.score += 1 / complainer.complaints
        seconds = min(MOST_PROBATION_SECONDS, PROBATION_SECONDS * 2 ** (min(standing.score, 16) - 1))
        was_suspected = bool(standing.probation_until)
        standing.probation_until = max(standing.probation_until, now + seconds)
        self.suspected |= standing.peers
        self._arm(host, standing)
        return not was_suspected

    def missed(self, child: HostId) -> None:
        """Nothing came to a child from a parent that had it. If nothing ever came, the way to it may be closed."""
        standing = self._hosts[child]
        if standing.is_reached is None:
            standing.is_reached = False
            self.unreached |= standing.peers

    def praise(self, host: HostId, child: HostId, now: float) -> bool:
        """A child got a piece from a parent on this host. True when that ends the host's probation."""
        served = self._hosts[child]
        served.complaints, served.is_reached = 0, True
        self.unreached &= ~served.peers
        standing = self._hosts[host]
        if not standing.score:
            return False
        self._decay(standing, now)
        standing.score /= 2
        if standing.score >= 0.5 or not standing.probation_until:
            return False
        self._clear_probation(standing)
        self._arm(host, standing)
        return True

    def accuse(self, host: HostId, child: HostId, is_seed: bool, now: float, *, is_needed: bool = False) -> bool:
        """A child got a corrupt chunk from a parent on this host. True when the host is in quarantine now and was not;
        otherwise it is on probation. `is_needed`: nobody could stand in for it."""
        standing, accuser = self._hosts[host], self._hosts[child]
        standing.accusers.add(child)
        alone = len(standing.accusers) < ACCUSERS_OF_A_SEED
        has_spoken = accuser.accused is not None and accuser.accused != host
        if standing.quarantined_until or is_needed or (alone and (is_seed or has_spoken)):
            self.blame(host, child, now)
            return False
        accuser.accused = host
        standing.quarantined_until = now + QUARANTINE_SECONDS
        self.barred |= standing.peers
        self._arm(host, standing)
        return True

    def due(self, now: float) -> tuple[int, int]:
        """Probations and quarantines that end: (peers suspected no more, peers barred no more), bit sets."""
        cleared = released = 0
        for host in self.deadlines.due(now):
            standing = self._hosts[host]
            if standing.probation_until and standing.probation_until <= now:
                cleared |= standing.peers
                self._clear_probation(standing)
            if standing.quarantined_until and standing.quarantined_until <= now:
                released |= standing.peers
                self.barred &= ~standing.peers
                standing.quarantined_until = 0.0
                standing.accusers.clear()
            self._arm(host, standing)
            self._forget_if_clean(host, standing, now)
        return cleared, released

    def peers_of(self, host: HostId) -> int:
        """The host's peers that are here, a bit set."""
        standing = self._hosts.get(host)
        return standing.peers if standing else 0

    def state(self, host: HostId) -> str:
        """One word for people: good, suspected, quarantined."""
        standing = self._hosts.get(host)
        if standing is None:
            return "good"
        return "quarantined" if standing.quarantined_until else "suspected" if standing.probation_until else "good"

    def _clear_probation(self, standing: Standing) -> None:
        standing.probation_until = 0.0
        self.suspected &= ~standing.peers

    @staticmethod
    def _decay(standing: Standing, now: float) -> None:
        standing.score *= 0.5 ** ((now - standing.touched_at) / HALF_LIFE_SECONDS)
        standing.touched_at = now

    def _arm(self, host: HostId, standing: Standing) -> None:
        ends = [at for at in (standing.probation_until, standing.quarantined_until) if at]
        if ends:
            self.deadlines.set(host, min(ends))
        else:
            self.deadlines.clear(host)

    def _forget_if_clean(self, host: HostId, standing: Standing, now: float) -> None:
        self._decay(standing, now)
        if standing.peers or standing.probation_until or standing.quarantined_until or standing.accusers:
            return
        if standing.score < FORGETTABLE and standing.accused is None:
            del self._hosts[host]

    def _forget_one(self) -> None:
        """Full: the first host that has no peer here and is not in quarantine goes."""
        for host, standing in self._hosts.items():
            if not standing.peers and not standing.quarantined_until:
                self.deadlines.clear(host)
                del self._hosts[host]
                return

    def check(self) -> None:
        """See the class's law."""
        suspected = barred = unreached = 0
        for host, standing in self._hosts.items():
            if standing.probation_until:
                suspected |= standing.peers
            if standing.quarantined_until:
                barred |= standing.peers
            if standing.is_reached is False:
                unreached |= standing.peers
            if bool(standing.probation_until or standing.quarantined_until) != (self.deadlines.at(host) is not None):
                raise InvariantViolated(f"host {host.hex()}: its deadline does not follow from its standing")
        if (suspected, barred, unreached) != (self.suspected, self.barred, self.unreached):
            raise InvariantViolated("suspected, barred or unreached peers are not those of the hosts")
