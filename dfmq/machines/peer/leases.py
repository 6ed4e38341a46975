"""The leases of one download: early, at work, in reserve, and how each of them ends. When more are wanted is in
download, how many the broker owes us in wants, what comes in under one in intake and inflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import PeerEffect, Record
from dfmq.machines.peer.holding import Holdings
from dfmq.machines.peer.inflow import Inflow, Tally
from dfmq.machines.peer.intake import Intake
from dfmq.machines.peer.limits import TokenBucket
from dfmq.machines.peer.neighbours import Neighbours
from dfmq.machines.peer.session import Session
from dfmq.machines.peer.wants import Wants
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.model.pieces import DIGEST_BYTES
from dfmq.wire.messages import Failed, Have, Lease, Revoke

Say = Callable[[float], list[PeerEffect]]


class Leases:
    """Whoever owns the inflows of one task.

    Law: each piece is in exactly one of absent, leased, held, and what is leased and not all stored is gathered; a
    leased piece has one inflow, which stands in the intake under its own lease.
    """

    def __init__(
        self,
        task: TaskId,
        tally: Tally,
        wants: Wants,
        holdings: Holdings,
        session: Session,
        intake: Intake,
        neighbours: Neighbours,
        ask: Say,
        more: Say,
    ) -> None:
        """`ask`: the broker may count otherwise than we do, say all anew. `more`: there may be room for another."""
        self.task = task
        self.tally = tally
        #: the task's own limit
        self.bucket: TokenBucket | None = None
        #: at work, by piece
        self.inflows: dict[int, Inflow] = {}
        #: granted before the store was ready, by lease
        self.early: dict[int, Lease] = {}
        #: those that failed since something was last stored, when the first of them did, and the last one's parent
        self.fruitless = 0
        self.fruitless_since = 0.0
        self.last_failed = ""
        self._wants = wants
        self._holdings = holdings
        self._session = session
        self._intake = intake
        self._neighbours = neighbours
        self._ask = ask
        self._more = more

    # ── their beginning ───────────────────────────────────────────────────────────────────────────────────────

    def keep_early(self, lease: Lease) -> None:
        """The store is not ready yet."""
        self.early[lease.lease] = lease

    def take_early(self, now: float) -> list[PeerEffect]:
        """The store is ready: use them."""
        early, self.early = list(self.early.values()), {}
        effects: list[PeerEffect] = []
        for lease in early:
            effects += self.take(lease, now)
        return effects

    def take(self, lease: Lease, now: float, *, is_own: bool = False) -> list[PeerEffect]:
        """Use a lease, keep it in reserve, or say why not."""
        holding, piece = self._holdings[self.task], lease.piece
        cut = holding.cut
        if holding.held >> piece & 1:
            return self._session.tell(Have(task=self.task, generation=holding.content.generation, pieces=[piece]))
        if piece >= cut.limit or len(lease.proofs) != cut.chunks_in(piece) * DIGEST_BYTES:
            text = f"{len(lease.proofs)} octets of proofs do not fit the cut"
            return self._say_failed(lease, "refused", text, now)
        effects: list[PeerEffect] = []
        namesake = self._intake.inflows.get(lease.lease)
        if namesake is not None:
            # A broker that began anew numbers from the start again; the older of the two gives way.
            owner = namesake.owner
            effects += self.displaced(namesake, now) if owner is self else owner.gives_way(namesake, now)
        running = self.inflows.get(piece)
        if running is not None:
            running.spare = lease
            if not running.is_silent(now):
                return effects
            # The broker gives a piece once: it knows nothing of the running one any more, or did not give it.
            # Told in case it does: there the piece would stay taken, and a Revoke's want be counted that is not here.
            return effects + self.failed(running, "cancelled", "there is another for the piece", now)
        effects += self._intake.begin(lease, self, holding, now, is_own=is_own)
        self.inflows[piece] = self._intake.inflows[lease.lease]
        return effects

    # ── at work ───────────────────────────────────────────────────────────────────────────────────────────────

    def inflow_of(self, piece: int) -> Inflow | None:
        """The live inflow of a piece."""
        return self.inflows.get(piece)

    @property
    def numbers(self) -> list[int]:
        """Every lease there is."""
        spares = [inflow.spare.lease for inflow in self.inflows.values() if inflow.spare is not None]
        return [*self.early, *spares, *(inflow.lease.lease for inflow in self.inflows.values())]

    @property
    def parents(self) -> int:
        """Parents at work."""
        return len({inflow.lease.endpoint for inflow in self.inflows.values() if inflow.is_asked})

    def landed(self, inflow: Inflow, now: float) -> list[PeerEffect]:
        """A piece is all here, if not stored: ask for the next one now."""
        return self._more(now)

    # ── their end ─────────────────────────────────────────────────────────────────────────────────────────────

    def held(self, pieces: Iterable[int], now: float) -> list[PeerEffect]:
        """Pieces have become whole and stored, through us or another way; the broker has been told."""
        effects: list[PeerEffect] = []
        for piece in pieces:
            inflow = self.inflows.pop(piece, None)
            if inflow is not None:
                effects += self._intake.end(inflow, "done", now)
                if not inflow.is_own:
                    self._wants.ended(inflow.lease.lease, counts_again=False)
        return effects

    def failed(self, inflow: Inflow, code: str, text: str, now: float, *, is_told: bool = False) -> list[PeerEffect]:
        """A lease came to nothing: what came of it is kept, another lease fetches the rest."""
        lease = inflow.lease
        if not self.fruitless:
            self.fruitless_since = now
        self.fruitless, self.last_failed = self.fruitless + 1, lease.endpoint
        del self.inflows[inflow.piece]
        stop = "" if is_told else "cancelled" if code == "refused" else code
        effects = self._intake.end(inflow, stop, now)
        if code == "stalled":
            inflow.assembly.stalls += 1
            fields = {"task": self.task, "lease": lease.lease, "piece": inflow.piece, "parent": lease.parent}
            effects.append(Record("stream.stalled", fields))
        if inflow.is_own:
            self._neighbours.discredit(self.task, inflow.piece, lease.endpoint)
        else:
            effects += self._say_failed(lease, code, text, now)
        if inflow.spare is not None:
            effects += self.take(inflow.spare, now)
        return effects + self._more(now)

    def _say_failed(self, lease: Lease, code: str, text: str, now: float) -> list[PeerEffect]:
        """Tell that a lease came to nothing, and count its want as the broker does."""
        is_doubtful = self._wants.ended(lease.lease, counts_again=code != "cancelled")
        failed = Failed(task=self.task, lease=lease.lease, piece=lease.piece, code=code, text=text)
        effects = self._session.tell(failed)
        return effects + self._ask(now) if is_doubtful else effects

    def gives_way(self, inflow: Inflow, now: float) -> list[PeerEffect]:
        """A lease of another task has got the number of this one: another is wanted for it."""
        return self.displaced(inflow, now) + self._more(now)

    def displaced(self, inflow: Inflow, now: float) -> list[PeerEffect]:
        """Another lease has got the number of this one, which no broker knows any more; or it is revoked."""
        del self.inflows[inflow.piece]
        effects = self._intake.end(inflow, "cancelled", now)
        return effects + self.take(inflow.spare, now) if inflow.spare is not None else effects

    def revoked(self, message: Revoke, now: float) -> list[PeerEffect]:
        """The broker takes leases back; the wants they answered count again, and it knows."""
        effects: list[PeerEffect] = []
        for lease in message.leases:
            inflow = self._intake.inflows.get(lease)
            was_live = True
            if inflow is not None and inflow.owner is self:
                effects += self.displaced(inflow, now)
            elif (holder := self._with_spare(lease)) is not None:
                holder.spare = None
            else:
                was_live = self.early.pop(lease, None) is not None
            self._wants.revoked(lease, was_live=was_live)
        return effects + self._more(now)

    def _with_spare(self, lease: int) -> Inflow | None:
        return next((s for s in self.inflows.values() if s.spare is not None and s.spare.lease == lease), None)

    def lost_parent(self, endpoint: str, lease: int | None, text: str, now: float) -> list[PeerEffect]:
        """A parent will send no more: on one lease, or (None) on any."""
        effects: list[PeerEffect] = []
        for inflow in list(self.inflows.values()):
            is_meant = lease is None or inflow.lease.lease == lease
            if is_meant and inflow.lease.endpoint == endpoint and not inflow.has_landed:
                effects += self.failed(inflow, "refused", text, now, is_told=True)
        return effects

    def drop_all(self, now: float) -> list[PeerEffect]:
        """No lease of ours is of use any more; the broker knows, or is told by Close."""
        effects: list[PeerEffect] = []
        for inflow in list(self.inflows.values()):
            effects += self._intake.end(inflow, "cancelled", now)
        self.inflows.clear()
        self.early.clear()
        self._wants.forget_leases()
        return effects

    def close(self, now: float) -> list[PeerEffect]:
        """There will be no other."""
        # Whoever gave us these has us: a circle, which only the garbage collector would find, after thousands of gets.
        self._ask = self._more = _nothing
        return self.drop_all(now)

    def check(self) -> None:
        """See the class's law."""
        holding = self._holdings.get(self.task)
        if self.inflows and (holding is None or holding.held & bitfield.of(self.inflows)):
            raise InvariantViolated(f"task {self.task.hex()}: a piece is leased and held, or of no content")
        for piece, inflow in self.inflows.items():
            if inflow.piece != piece or self._intake.inflows.get(inflow.lease.lease) is not inflow:
                raise InvariantViolated(f"task {self.task.hex()}: piece {piece} stands under another's lease")


def _nothing(now: float) -> list[PeerEffect]:
    return []
