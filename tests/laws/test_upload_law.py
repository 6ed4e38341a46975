"""Upload under any order of children, chunks and clocks: never beyond credit, never twice, turns that differ by one."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dfmq.machines.effects import ForgetInbox, SendChunk, TellChild
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.upload import Upload
from dfmq.model import bitfield
from dfmq.model.ids import Generation, LeaseId, TaskId
from dfmq.model.pieces import KIB, PieceMap
from dfmq.model.task import Content, Request
from dfmq.wire.messages import Credit, Fetch, Stop

TASK = TaskId(b"t" * 16)
CHUNK = 64 * KIB
CUT = PieceMap(3 * 256 * KIB + CHUNK // 2, 256 * KIB, CHUNK)

Key = tuple[bytes, int]

children = st.sampled_from([b"ann", b"bob"])
leases = st.integers(1, 3)
pieces = st.sampled_from([0, 1, 2, 3])


class Serving(RuleBasedStateMachine):
    """Children that say anything at any time, a clock, and pieces that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.holdings = Holdings()
        self.generation = 0
        self.now = 0.0
        #: (child, lease) → credit left, chunks wanted and not sent, piece
        self.books: dict[Key, tuple[int, int, int]] = {}
        #: two that both could send all the time since → how often the first was served more than the second
        self.ahead: dict[tuple[Key, Key], int] = {}

    @initialize(rate=st.sampled_from([0, 16 * CHUNK, 64 * CHUNK]))
    def begin(self, rate: int) -> None:
        self.rate = rate
        self.upload = Upload(self.holdings, rate)
        self.renew()

    # ── the books a child could keep ──────────────────────────────────────────────────────────────────────────

    @property
    def holding(self) -> Holding:
        return self.holdings[TASK]

    def can_be_served(self, key: Key) -> bool:
        credit, wanted, piece = self.books[key]
        here = [chunk for chunk in bitfield.members(wanted) if self.holding.chunk(piece, chunk) is not None]
        return bool(here) and CUT.chunk_span(piece, here[0])[1] <= credit

    def compare(self) -> None:
        """Count on for pairs that both still wait for their turn, begin to for those that do now."""
        ready = sorted(key for key in self.books if self.can_be_served(key))
        pairs = [(one, other) for one in ready for other in ready if one != other]
        self.ahead = {pair: self.ahead.get(pair, 0) for pair in pairs}

    def forget(self, key: Key) -> None:
        self.books.pop(key, None)
        self.ahead = {pair: ahead for pair, ahead in self.ahead.items() if key not in pair}

    def hear(self, effects: list[Any]) -> None:
        """Hold every chunk sent against the books; streams that are stopped leave them."""
        self.compare()
        for effect in effects:
            if isinstance(effect, SendChunk):
                self.was_sent((effect.inbox.encode(), effect.lease), effect.piece, effect.chunk)
            elif isinstance(effect, TellChild):
                self.forget((effect.child, effect.message.lease))
            elif isinstance(effect, ForgetInbox):
                assert not any(child == effect.inbox.encode() for child, _ in self.books)
        for key in [key for key, (_, wanted, _) in self.books.items() if not wanted]:
            self.forget(key)

    def was_sent(self, key: Key, piece: int, chunk: int) -> None:
        credit, wanted, wanted_piece = self.books[key]
        size = CUT.chunk_span(piece, chunk)[1]
        assert piece == wanted_piece
        assert size <= credit, "beyond the credit"
        assert wanted >> chunk & 1, "twice, or never asked for"
        self.books[key] = credit - size, wanted & ~(1 << chunk), piece
        for one, other in self.ahead:
            self.ahead[one, other] += (one == key) - (other == key)
            assert abs(self.ahead[one, other]) <= 1, f"{key} out of turn"
        self.compare()

    def renew(self) -> None:
        self.generation += 1
        content = Content(Generation(self.generation.to_bytes(8, "big")), CUT)
        holding = self.holdings[TASK] = Holding(TASK, content, Request(url="http://source/x"))
        holding.is_open = True

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(child=children, lease=leases, piece=pieces, chunks=st.integers(1, 31), credit=st.integers(0, 5 * CHUNK))
    def fetch(self, child: bytes, lease: int, piece: int, chunks: int, credit: int) -> None:
        message = Fetch(
            lease=lease,
            task=TASK,
            generation=self.generation.to_bytes(8, "big"),
            piece=piece,
            chunks=bitfield.to_bytes(chunks),
            credit=credit,
            inbox=child.decode(),
        )
        self.forget((child, lease))
        self.books[child, lease] = credit, chunks & bitfield.full(CUT.chunks_in(piece)), piece
        self.hear(self.upload.child_said(child, message, self.now))

    @rule(child=children, lease=leases, credit=st.integers(0, 3 * CHUNK))
    def credit(self, child: bytes, lease: int, credit: int) -> None:
        if (child, lease) in self.books:
            left, wanted, piece = self.books[child, lease]
            self.books[child, lease] = left + credit, wanted, piece
        self.hear(self.upload.child_said(child, Credit(lease=lease, credit=credit), self.now))

    @rule(child=children, lease=leases)
    def stop(self, child: bytes, lease: int) -> None:
        self.forget((child, lease))
        self.hear(self.upload.child_said(child, Stop(lease=lease), self.now))

    @rule(piece=pieces, chunk=st.integers(0, 3), is_stored=st.booleans())
    def prove(self, piece: int, chunk: int, is_stored: bool) -> None:
        holding = self.holding
        if holding.held >> piece & 1 or chunk >= CUT.chunks_in(piece):
            return
        assembly = holding.gather(piece, None)
        if not assembly.proven >> chunk & 1:
            assembly.add(chunk, "payload")
            self.hear(self.upload.chunk_proven(TASK, piece, chunk, self.now))
        if is_stored and assembly.mark_stored(chunk):
            holding.keep(piece)

    @rule(piece=pieces)
    def prove_all(self, piece: int) -> None:
        for chunk in range(CUT.chunks_in(piece)):
            self.prove(piece, chunk, True)

    @rule(lease=leases)
    def unsent(self, lease: int) -> None:
        self.hear(self.upload.unsent(LeaseId(lease), self.now))

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 2.0, 61.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.hear(self.upload.deadline(self.now))

    @rule(level=st.sampled_from(["calm", "busy", "full"]))
    def press(self, level: Any) -> None:
        self.upload.pressure(level)
        self.rate = self.rate or (1 if level == "full" else 0)

    @rule()
    def change(self) -> None:
        self.renew()
        self.hear(self.upload.task_changed(TASK, self.now))
        assert self.books == {}

    @invariant()
    def nobody_is_left_waiting(self) -> None:
        self.upload.check()
        assert self.upload.active == len(self.books)
        if any(self.can_be_served(key) for key in self.books):
            assert self.rate, "no limit, and yet not sent"
            assert self.upload.next_deadline() is not None


TestServing = Serving.TestCase
