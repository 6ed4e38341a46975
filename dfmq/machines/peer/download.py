"""One task on its way into this host: its content, what is wanted of it, its outcome. Its leases are in leases, chunks
in intake, clients in clients, the source in fetching."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from dfmq.errors import InvariantViolated, TransferError
from dfmq.machines.effects import LoadTask, PeerEffect, ProveContent, SealStore, TellBroker
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.inflow import Tally
from dfmq.machines.peer.intake import Intake
from dfmq.machines.peer.leases import Leases
from dfmq.machines.peer.neighbours import Neighbours
from dfmq.machines.peer.outcome import Outcome
from dfmq.machines.peer.session import Session
from dfmq.machines.peer.wants import Wants
from dfmq.model import bitfield
from dfmq.model.digest import parse_digest
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Content, Request
from dfmq.wire.messages import Close, Grant, Have, Open, Opened, Refused, Want

#: loading: what an earlier life left · asking: Open is said · preparing: the store makes ready · running · proving: the
#: whole content's digest is computed · over: see `outcome`
Phase = Literal["loading", "asking", "preparing", "running", "proving", "over"]

#: Seconds between two Opens because the broker says it does not know the task.
REOPEN_SECONDS = 1.0
#: Seconds without anything coming or on its way after which Open is said again: what was said may be lost with a
#: connection, and nobody tells. Saying it once too often costs a message; most sources answer sooner.
DOUBT_SECONDS = 8.0
#: What is whole at the start is given away so long without a second look at its file. The broker mostly answers within
#: milliseconds, but not while it asks the source whether the content has changed.
TRUSTED_SECONDS = 0.5
#: Of what is in flight this share is wanted at a time while the broker is behind. Simulated with a broker of 95 µs a
#: message and 57 µs a piece wanted, 300 peers of 1 Gbit/s, 200 MiB, mean in size/rate: pieces of 2 MiB 2.04 (3.94
#: without), 4 MiB 1.35 (1.83), 8 MiB 1.16 (1.15). All of it at a time: 1.57, 1.26, 1.23 (decision 22).
AT_A_TIME = 2
#: But no more than this share of the content: where it has few pieces, others wait too long for the news of each. 1000
#: peers, pieces of 16 MiB, half of what is in flight: 200 Mbit/s 1.199 (1.154 without), 1 Gbit/s 1.83 (1.72).
OF_ALL = 8


class Download:
    """One task being fetched.

    Law: it runs only where there is a content, and the tally adds up to that content's proven bytes. Pieces that the
    broker was not told of are there only while others are on their way.
    """

    def __init__(
        self,
        task: TaskId,
        request: Request,
        no_source: bool,
        holdings: Holdings,
        session: Session,
        intake: Intake,
        neighbours: Neighbours,
        now: float,
    ) -> None:
        self.task = task
        self.request = request
        self.no_source = no_source
        #: until then what was whole at the start is not looked at again
        self._trusted_until = now + TRUSTED_SECONDS
        #: when a chunk was last stored, or the start
        self.progressed_at = now
        self.phase: Phase = "loading"
        self.outcome: Outcome | None = None
        #: the broker has answered Open once
        self.was_opened = False
        #: it may go to the source since just now; the broker may have said no before it heard of that
        self._has_new_leave = False
        #: the content our streams and our tally are of
        self._known = holding = holdings.get(task)
        self.tally = Tally(holding.proven_bytes() if holding is not None else 0)
        self.wants = Wants()
        self._holdings = holdings
        self._session = session
        self._intake = intake
        self._neighbours = neighbours
        self._asked_at = 0.0
        #: pieces that are held since the broker was last told, a bit set
        self._unsaid = 0
        self.leases = Leases(
            task, self.tally, self.wants, holdings, session, intake, neighbours, ask=self.ask, more=self._more
        )

    # ── the way to running ────────────────────────────────────────────────────────────────────────────────────

    def begin(self, now: float) -> list[PeerEffect]:
        """Start: see what is here already, then ask the broker."""
        return self.ask(now) if self.task in self._holdings else [LoadTask(self.task)]

    def ask(self, now: float) -> list[PeerEffect]:
        """Say Open, with what is held and what is wanted; said again whenever the broker may not know."""
        if self.phase == "loading":
            self.phase = "asking"
        self.wants.owed = 0
        if not self._session.is_welcomed:
            return self._more(now)
        holding = self._holdings.get(self.task)
        has_any = holding is not None and holding.held != 0
        self.wants.state(self._room(self._in_flight(now)))
        self._asked_at, self._unsaid = now, 0
        message = Open(
            task=self.task,
            request=self.request,
            generation=holding.content.generation if holding is not None and has_any else b"",
            held=bitfield.to_bytes(holding.held) if holding is not None else b"",
            want=self.wants.owed,
            no_source=self.no_source,
        )
        return [TellBroker(message)]

    def set_no_source(self, no_source: bool, now: float) -> list[PeerEffect]:
        """Those who want it may go to the source now where they might not, or the other way round: the broker is told
        by another Open."""
        if no_source == self.no_source:
            return []
        self.no_source, self._has_new_leave = no_source, not no_source
        return self.ask(now) if self.phase != "loading" else []

    def anew(self, now: float) -> list[PeerEffect]:
        """What was here is gone, and every lease with it: the broker learns that by Close."""
        closed = self._session.tell(Close(task=self.task)) if self.was_opened else []
        return closed + (self.ask(now) if self.phase != "loading" else [])

    def welcomed(self, now: float) -> list[PeerEffect]:
        """A broker has us, maybe one that knows nothing: say all anew."""
        self.wants.welcomed(self.leases.numbers)
        return self.ask(now) if self.phase != "loading" else []

    def unknown(self, now: float) -> list[PeerEffect]:
        """The broker knows nothing of us and some task, maybe this one, or we nothing of what it knows."""
        if self.phase == "loading" or now - self._asked_at < REOPEN_SECONDS:
            return []
        return self.ask(now)

    def opened(self, message: Opened, now: float) -> list[PeerEffect]:
        """The broker says what the content is now."""
        self.was_opened = True
        self._has_new_leave = False
        self.progressed_at = now
        cut = PieceMap(message.length, message.piece_length, message.chunk_length)
        holding = self._holdings.get(self.task)
        effects: list[PeerEffect] = []
        if holding is not None and _is_same(holding.content, message):
            if holding.cut.length is None and message.length is not None:
                effects += self.sealed(message.length, now)
        else:
            self.wants.is_unsure |= holding is not None
            effects += self.leases.drop_all(now)
            content = Content(Generation(message.generation), cut, message.algorithm)
            holding = self._known = self._holdings[self.task] = Holding(self.task, content, self.request)
            self.tally.restart()
            self.phase = "asking"
        if self.wants.is_unsure:
            effects += self.ask(now)
        effects += self._neighbours.listen(self.task, message.neighbours)
        if holding.is_open and holding.is_complete and self.phase == "asking" and now > self._trusted_until:
            # The answer has taken its time, in which somebody may have written to the file: the store looks again.
            holding.is_open = False
        if holding.is_open:
            return effects + (self._run(now) if self.phase == "asking" else self._more(now))
        if self.phase != "preparing":
            self.phase = "preparing"
            effects.append(holding.to_open(self.request))
        return effects

    def replaced(self, now: float) -> list[PeerEffect]:
        """Another content, or none, stands in the place of ours. Unless we put it there, the broker says Opened."""
        if self._holdings.get(self.task) is self._known:
            return []
        self.wants.is_unsure |= self._known is not None
        self._known = self._holdings.get(self.task)
        effects = self.leases.drop_all(now)
        self.tally.restart()
        if self.phase not in ("loading", "over"):
            self.phase = "asking"
        return effects

    def prepared(self, now: float) -> list[PeerEffect]:
        """The store is ready."""
        return self._run(now) if self.phase == "preparing" else []

    def _run(self, now: float) -> list[PeerEffect]:
        self.phase = "running"
        return self.leases.take_early(now) + self.look(now)

    # ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────

    def progressed(self, now: float) -> None:
        """Chunks of it were stored."""
        self.progressed_at, self.leases.fruitless = now, 0

    def held(self, pieces: Iterable[int], now: float) -> list[PeerEffect]:
        """Pieces have become whole and stored, through us or another way; they were noted."""
        return self.leases.held(pieces, now) + self.look(now)

    def sealed(self, length: int, now: float) -> list[PeerEffect]:
        """A growing content has ended."""
        holding = self._holdings[self.task]
        holding.seal(length)
        return [SealStore(self.task, holding.content.generation, length), *self.look(now)]

    def look(self, now: float) -> list[PeerEffect]:
        """Is it all here? Else ask for more."""
        holding = self._holdings.get(self.task)
        if self.phase != "running" or holding is None or not holding.is_complete:
            return self._more(now)
        effects = self.say_held()
        if not self.request.digest:
            self.phase, self.outcome = "over", Outcome()
            return effects
        algorithm = parse_digest(self.request.digest).algorithm
        self.phase = "proving"
        if holding.proved.get(algorithm):
            return effects + self.proved(algorithm, holding.proved[algorithm])
        if holding.ask_proof(algorithm):
            effects.append(ProveContent(self.task, holding.content.generation, algorithm))
        return effects

    def proved(self, algorithm: str, hexadecimal: str) -> list[PeerEffect]:
        """The digest of the whole content is known."""
        wanted = parse_digest(self.request.digest) if self.request.digest else None
        if self.phase != "proving" or wanted is None or wanted.algorithm != algorithm:
            return []
        self.phase, self.outcome = "over", Outcome.of_digest(wanted, hexadecimal)
        return []

    def note_held(self, pieces: Iterable[int]) -> list[PeerEffect]:
        """The broker is to be told of these: with the next Want, for it follows at once, or they can wait for it."""
        self._unsaid |= bitfield.of(pieces)
        return self.say_held() if self.phase != "running" else []

    def say_held(self) -> list[PeerEffect]:
        """Tell the broker of what it was not told of."""
        holding = self._holdings.get(self.task)
        unsaid, self._unsaid = self._unsaid, 0
        if holding is None or not (unsaid := unsaid & holding.held):
            return []
        pieces = list(bitfield.members(unsaid))
        return self._session.tell(Have(task=self.task, generation=holding.content.generation, pieces=pieces))

    # ── wants and grants ──────────────────────────────────────────────────────────────────────────────────────

    def granted(self, message: Grant, now: float) -> list[PeerEffect]:
        """The broker gives leases."""
        holding = self._holdings.get(self.task)
        if holding is None or message.generation != holding.content.generation:
            # An Opened was lost on its way.
            return self.unknown(now)
        effects: list[PeerEffect] = []
        for lease in message.leases:
            self.wants.granted(lease.lease)
            if self.phase in ("running", "proving"):
                effects += self.leases.take(lease, now)
            else:
                self.leases.keep_early(lease)
        return effects

    def _room(self, in_flight: int) -> int:
        holding = self._holdings.get(self.task)
        return self.wants.room(in_flight, self.leases.inflows.values(), len(self.leases.early), holding)

    def _in_flight(self, now: float) -> int:
        holding = self._holdings.get(self.task)
        piece_length = holding.cut.piece_length if holding is not None else 1 << 30
        return self._intake.window.in_flight(self._intake.rate_each(now), self._session.round_trip, piece_length)

    def _more(self, now: float) -> list[PeerEffect]:
        """Say what is held, and want what there is room for: from the broker, or, while none answers, from neighbours.

        A broker that is behind is asked for half of what is in flight at a time, which is more by as much: a Have and
        a Want take it about as long as three pieces in them."""
        if self.phase != "running":
            return self.say_held()
        if not self._session.is_welcomed:
            return self.say_held() + self._carry_on(now)
        in_flight = self._in_flight(now)
        least = self._at_a_time(in_flight) if self._session.is_broker_behind else 1
        in_flight += least - 1
        room = self._room(in_flight)
        if room < least and self.leases.inflows and least > 1 and not self._is_all(room):
            return []
        effects = self.say_held()
        if room == 0:
            return effects
        self.wants.owed += room
        return effects + self._session.tell(
            Want(
                task=self.task,
                count=room,
                in_flight=in_flight,
                down_rate=self._intake.meter.expected(now),
                up_rate=self._intake.up_rate,
            )
        )

    def _is_all(self, room: int) -> bool:
        """There is something left to want, and no more than this."""
        holding = self._holdings.get(self.task)
        return 0 < room == self.wants.left(len(self.leases.inflows), len(self.leases.early), holding)

    def _at_a_time(self, in_flight: int) -> int:
        holding = self._holdings.get(self.task)
        count = holding.cut.count if holding is not None else 0
        least = in_flight // AT_A_TIME
        return max(1, min(least, count // OF_ALL) if count else least)

    def _carry_on(self, now: float) -> list[PeerEffect]:
        """Take leave ourselves, as neighbours' hints allow."""
        # Leases of the broker's that fail now have nobody to give others for them.
        self.wants.owed = 0
        effects: list[PeerEffect] = []
        holding = self._holdings[self.task]
        for _ in range(self._room(self._in_flight(now))):
            lease = self._neighbours.lease(holding, bitfield.of(self.leases.inflows))
            if lease is None:
                break
            effects += self.leases.take(lease, now, is_own=True)
        return effects

    def broker_silent(self, now: float) -> list[PeerEffect]:
        """Nobody owes us leases any more; those under way go on."""
        self.wants.owed = 0
        return self._more(now)

    def doubts_at(self) -> float | None:
        """When to wonder whether the broker knows what we want; not while it says that it has yet to read."""
        if self.phase not in ("asking", "running") or self.leases.inflows:
            return None
        return max(self.progressed_at, self._asked_at, self._session.behind_at) + DOUBT_SECONDS

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def refused(self, message: Refused) -> None:
        """The broker says no. One that crossed our word that we may go to the source now is of no account: Open asked
        again. If it did not cross, we soon doubt, and ask."""
        if self._has_new_leave and message.code == TransferError.code:
            self._has_new_leave = False
            return
        self.fail(message.code, message.text, message.retry_after)

    def fail(self, code: str, text: str, retry_after: float = 0.0) -> None:
        """It will not be had; the machine ends it in this same turn."""
        if self.outcome is None:
            self.phase, self.outcome = "over", Outcome(code, text, retry_after)

    def close(self, now: float) -> list[PeerEffect]:
        """End everything; what is stored stays, for the next try."""
        self.phase = "over"
        self.wants.owed = 0
        effects = self.say_held() + self.leases.close(now)
        self._intake.forget(self.task)
        effects += self._neighbours.listen(self.task, [])
        if self._asked_at or self.was_opened:
            effects += self._session.tell(Close(task=self.task))
        return effects

    def check(self) -> None:
        """See the class's law."""
        self.leases.check()
        self.wants.check()
        if self._unsaid and not self.leases.inflows:
            raise InvariantViolated(f"task {self.task.hex()}: the broker was not told of {self._unsaid:b}")
        holding = self._holdings.get(self.task)
        if holding is None:
            if self.phase in ("running", "proving"):
                raise InvariantViolated(f"task {self.task.hex()}: runs without a holding")
        elif self.phase != "loading" and self.tally.total != holding.proven_bytes():
            raise InvariantViolated(
                f"task {self.task.hex()}: {self.tally.total} bytes accounted for, {holding.proven_bytes()} are here"
            )


def _is_same(content: Content, message: Opened) -> bool:
    """Whether what we hold is what the broker speaks of, cut alike."""
    ours = content.cut
    is_cut_alike = (ours.piece_length, ours.chunk_length) == (message.piece_length, message.chunk_length)
    is_as_long = None in (ours.length, message.length) or ours.length == message.length
    return content.generation == message.generation and is_cut_alike and is_as_long
