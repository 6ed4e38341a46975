"""Hints between neighbours, so that peers carry on while no broker answers. Hints only: while a broker answers, nothing
here decides anything, and nobody is listened to."""

from __future__ import annotations

import random

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import Listen, PeerEffect, Publish
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.model import bitfield
from dfmq.model.ids import Generation, LeaseId, PeerId, TaskId
from dfmq.model.pieces import DIGEST_BYTES
from dfmq.wire import topics
from dfmq.wire.messages import Hint, Lease

#: Leases we take ourselves are numbered from here, with a start by chance: a parent must not meet two children's alike.
OWN_LEASES_FROM = 2**62
#: Neighbours remembered for each piece.
MOST_HOLDERS = 4
#: Bytes of proofs remembered for each task: a gibibyte in chunks of 1 MiB needs 16 KiB.
MOST_PROOF_BYTES = 4 << 20
#: Hints gathered before they are said: at 40 peers and 10 pieces a second each, waking every neighbour for every piece
#: was most of a peer's CPU time, and a tenth of its turns with a second between. Whoever has no broker waits longer
#: than this to notice it, and is then reminded anyway.
GATHER_SECONDS = 3.0
#: Hints said anew when the broker falls silent, and while it is: whoever had no luck with us, or came to listen later,
#: hears nothing else. Seconds, hints.
REMIND_SECONDS = 5.0
MOST_REMINDERS = 4096
#: Whoever begins to listen has lost the broker, or fears it, and may be alone with that: all we hold of the task is
#: said again so soon, to others who come meanwhile as well; and not sooner than this after we last said anything,
#: however many come. Seconds.
ANSWER_SECONDS = 0.25
MOST_OFTEN_SECONDS = 1.0


class Rumour:
    """What neighbours say of one piece: proofs, and who has it (peer, endpoint)."""

    __slots__ = ("generation", "holders", "proofs")

    def __init__(self, generation: Generation, proofs: bytes) -> None:
        self.generation = generation
        self.proofs = proofs
        self.holders: dict[str, PeerId] = {}


class Neighbours:
    """What is heard from neighbours and said to them.

    Law: only tasks listened to are remembered, at most MOST_HOLDERS holders a piece, MOST_PROOF_BYTES a task; a piece
    that is to be told is told within GATHER_SECONDS; while no broker answers, everybody who was named is listened to.
    Whoever begins to listen is told all that is held.
    """

    def __init__(self, me: PeerId, rng: random.Random, alarm: Alarm) -> None:
        self._alarm = alarm
        self._me = me
        self._rng = rng
        self.exchange = ""
        #: where our own hints are heard; "": nowhere
        self.hints = ""
        self._rumours: dict[TaskId, dict[int, Rumour]] = {}
        #: whom the broker has named for each task
        self._listened: dict[TaskId, list[str]] = {}
        #: the broker answers, and has not been quiet for long
        self._is_needless = False
        #: named, and not listened to yet
        self._unheard: set[TaskId] = set()
        self._remind_at: float | None = None
        #: pieces that are to be told, bit sets, and when
        self._untold: dict[TaskId, int] = {}
        self._tell_at: float | None = None
        self._told_at = float("-inf")
        self._next_lease = OWN_LEASES_FROM + rng.getrandbits(61)

    def listen(self, task: TaskId, endpoints: list[str]) -> list[PeerEffect]:
        """Hear these on a task, when that is of use; [] ends it and forgets what was heard."""
        wanted = [endpoint for endpoint in endpoints if endpoint != self.hints]
        before = self._listened.get(task, [])
        is_heard = bool(before) and task not in self._unheard
        if endpoints:
            self._listened[task] = wanted
            self._rumours.setdefault(task, {})
        else:
            self._listened.pop(task, None)
            self._rumours.pop(task, None)
        if is_heard:
            return [] if wanted == before else [Listen(task, wanted)]
        self._unheard.discard(task)
        if wanted:
            self._unheard.add(task)
        return self._hear()

    def heed(self, *, is_of_use: bool) -> list[PeerEffect]:
        """Whether the broker is lost, or has been quiet for so long that it may be: then it is of use to hear who has
        what. Connections to sixteen neighbours a host, and their hints, took a twelfth of a peer's CPU time while a
        broker answered. Those who are heard already stay so."""
        self._is_needless = not is_of_use
        return self._hear()

    def _hear(self) -> list[PeerEffect]:
        if self._is_needless:
            return []
        effects: list[PeerEffect] = [Listen(task, self._listened[task]) for task in sorted(self._unheard)]
        self._unheard.clear()
        return effects

    def heard(self, hint: Hint, holding: Holding | None) -> bool:
        """Remember it. Whether it tells of a piece that is not held here."""
        table = self._rumours.get(TaskId(hint.task))
        if table is None or hint.peer == self._me or not hint.endpoint or holding is None:
            return False
        piece, content = hint.piece, holding.content
        if hint.generation != content.generation or holding.held >> piece & 1:
            return False
        rumour = table.get(piece)
        if rumour is None or rumour.generation != hint.generation:
            cut = content.cut
            if piece >= cut.limit or len(hint.proofs) != cut.chunks_in(piece) * DIGEST_BYTES:
                return False
            if (len(table) + 1) * len(hint.proofs) > MOST_PROOF_BYTES:
                return False
            rumour = table[piece] = Rumour(Generation(hint.generation), hint.proofs)
        # The first word on a piece stays: a later one cannot unsay it.
        if rumour.proofs == hint.proofs:
            rumour.holders.pop(hint.endpoint, None)
            if len(rumour.holders) >= MOST_HOLDERS:
                del rumour.holders[next(iter(rumour.holders))]
            rumour.holders[hint.endpoint] = PeerId(hint.peer)
        return True

    def discredit(self, task: TaskId, piece: int, endpoint: str) -> None:
        """The neighbour did not give the piece."""
        rumour = self._rumours.get(task, {}).get(piece)
        if rumour is not None:
            rumour.holders.pop(endpoint, None)
            if not rumour.holders:
                del self._rumours[task][piece]

    def lease(self, holding: Holding, taken: int) -> Lease | None:
        """Leave to take a piece that is neither held nor among `taken` (a bit set), from a neighbour that told of it.
        Any such piece by chance: with everybody doing so, rare pieces spread as well as common ones."""
        table = self._rumours.get(holding.task, {})
        out_of_reach = holding.held | taken
        generation = holding.content.generation
        pieces = [p for p, r in table.items() if not out_of_reach >> p & 1 and r.generation == generation and r.holders]
        if not pieces:
            return None
        piece = self._rng.choice(pieces)
        rumour = table[piece]
        endpoint = self._rng.choice(list(rumour.holders))
        self._next_lease += 1
        return Lease(
            lease=LeaseId(self._next_lease),
            piece=piece,
            parent=rumour.holders[endpoint],
            endpoint=endpoint,
            proofs=rumour.proofs,
        )

    def tell(self, task: TaskId, piece: int, now: float) -> None:
        """We hold the piece now: to be said soon, with others."""
        if not self.hints:
            return
        self._untold[task] = self._untold.get(task, 0) | 1 << piece
        if self._tell_at is None:
            self._tell_at = self._alarm.by(now + GATHER_SECONDS)

    def asked(self, holding: Holding, now: float) -> None:
        """Somebody begins to listen on the task, to whom nothing was said yet."""
        if not self.hints or not holding.held:
            return
        self._untold[holding.task] = holding.held
        at = max(now + ANSWER_SECONDS, self._told_at + MOST_OFTEN_SECONDS)
        if self._tell_at is None or at < self._tell_at:
            self._tell_at = self._alarm.by(at)

    def _tell_all(self, holdings: Holdings, now: float) -> list[PeerEffect]:
        effects: list[PeerEffect] = []
        self._told_at = now
        untold, self._untold, self._tell_at = self._untold, {}, None
        for task, pieces in untold.items():
            if (holding := holdings.get(task)) is None:
                continue
            for piece in bitfield.members(pieces & holding.held):
                if len(effects) < MOST_REMINDERS:
                    effects += self._hint(holding, piece)
                else:
                    self._untold[task] = self._untold.get(task, 0) | 1 << piece
        if self._untold:
            self._tell_at = self._alarm.by(now + MOST_OFTEN_SECONDS)
        return effects

    def _hint(self, holding: Holding, piece: int) -> list[PeerEffect]:
        """Say that we hold the piece; with the broker's word on it, or not at all."""
        proofs = holding.proofs.get(piece)
        if not self.hints or proofs is None:
            return []
        hint = Hint(
            task=holding.task,
            generation=holding.content.generation,
            piece=piece,
            peer=self._me,
            endpoint=self.exchange,
            proofs=proofs,
        )
        return [Publish(topics.of_task(holding.task), hint)]

    def next_deadline(self) -> float | None:
        """When to tell or to remind."""
        instants = [at for at in (self._remind_at, self._tell_at) if at is not None]
        return min(instants, default=None)

    def deadline(self, holdings: Holdings, now: float) -> list[PeerEffect]:
        """The time has come, maybe."""
        effects = self._tell_all(holdings, now) if self._tell_at is not None and now >= self._tell_at else []
        if self._remind_at is not None and now >= self._remind_at:
            effects += self.remind(holdings, now)
        return effects

    def welcomed(self) -> None:
        """A broker answers: it tells who has what."""
        self._remind_at = None
        self._is_needless = True

    def remind(self, holdings: Holdings, now: float) -> list[PeerEffect]:
        """The broker is silent: say again what we hold, the tasks we fetch ourselves first."""
        self._remind_at = self._alarm.by(now + REMIND_SECONDS)
        self._told_at = now
        if self._tell_at is not None:
            self._tell_at = self._alarm.by(max(self._tell_at, now + MOST_OFTEN_SECONDS))
        effects: list[PeerEffect] = []
        for holding in sorted(holdings.values(), key=lambda holding: holding.task not in self._listened):
            for piece in bitfield.members(holding.held):
                if len(effects) >= MOST_REMINDERS:
                    return effects
                effects += self._hint(holding, piece)
        return effects

    def check(self) -> None:
        """See the class's law."""
        if bool(self._untold) != (self._tell_at is not None):
            raise InvariantViolated("pieces are to be told, and nobody knows when")
        if self._unheard - set(self._listened) or (self._unheard and not self._is_needless):
            raise InvariantViolated("neighbours were named, are of use, and nobody listens to them")
        for task, table in self._rumours.items():
            if task not in self._listened:
                raise InvariantViolated(f"task {task.hex()}: rumours of a task nobody listens for")
            if sum(len(rumour.proofs) for rumour in table.values()) > 2 * MOST_PROOF_BYTES:
                raise InvariantViolated(f"task {task.hex()}: too many rumours")
            if any(len(rumour.holders) > MOST_HOLDERS for rumour in table.values()):
                raise InvariantViolated(f"task {task.hex()}: too many holders of a piece")
