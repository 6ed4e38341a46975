"""Upload under any order of children, chunks and clocks: never beyond credit, never twice, turns that differ by one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dfmq.machines.effects import ForgetInbox, SendChunk, TellChild
from dfmq.machines.peer.alarm import Alarm
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
pieces = st.integers(0, 3)
chunk_sets = st.sampled_from([0b1111, 0b1111, 0b1010, 0b0001, 0b11110])
amounts = st.sampled_from([0, 0, CHUNK, CHUNK + CHUNK // 2, 4 * CHUNK, 4 * CHUNK])

rates = st.sampled_from([0, 0, 6 * CHUNK, 24 * CHUNK])

#: What may happen, the usual things more often: drawing rules evenly hardly ever has two streams under way.
happenings = st.sampled_from([*["fetch"] * 6, *["credit"] * 5, *["prove"] * 4, *["time"] * 4, "rare"]).flatmap(
    {
        "fetch": st.tuples(st.just("fetch"), children, leases, pieces, chunk_sets, amounts),
        "credit": st.tuples(st.just("credit"), children, leases, amounts),
        "prove": st.tuples(st.just("prove"), pieces, st.integers(0, 3), st.booleans()),
        "time": st.tuples(st.just("time"), st.sampled_from([0.01, 0.05, 0.3, 0.3, 2.0])),
        "rare": st.one_of(
            st.tuples(st.just("stop"), children, leases),
            st.tuples(st.just("unsent"), leases),
            st.tuples(st.just("press"), st.sampled_from(["calm", "busy", "full"])),
            st.tuples(st.just("change")),
            st.tuples(st.just("time"), st.just(61.0)),
        ),
    }.__getitem__
)


class Serving:
    """Children that say anything at any time, a clock, and pieces that come and go."""

    def __init__(self, rate: int, held: int) -> None:
        self.holdings = Holdings()
        self.rate = rate
        self.upload = Upload(self.holdings, rate, Alarm())
        self.generation = 0
        self.now = 0.0
        #: (child, lease) → credit left, chunks wanted and not sent, piece
        self.books: dict[Key, tuple[int, int, int]] = {}
        #: two that both could send all the time since → how often the first was served more than the second
        self.ahead: dict[tuple[Key, Key], int] = {}
        self.renew(held)

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

    def renew(self, held: int = 0) -> None:
        self.generation += 1
        content = Content(Generation(self.generation.to_bytes(8, "big")), CUT)
        holding = self.holdings[TASK] = Holding(TASK, content, Request(url="http://source/x"))
        holding.is_open = True
        holding.held = held
        for piece in range(CUT.count):
            if not held >> piece & 1:
                holding.gather(piece, None)

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

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

    def credit(self, child: bytes, lease: int, credit: int) -> None:
        if (child, lease) in self.books:
            left, wanted, piece = self.books[child, lease]
            self.books[child, lease] = left + credit, wanted, piece
        self.hear(self.upload.child_said(child, Credit(lease=lease, credit=credit), self.now))

    def stop(self, child: bytes, lease: int) -> None:
        self.forget((child, lease))
        self.hear(self.upload.child_said(child, Stop(lease=lease), self.now))

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

    def unsent(self, lease: int) -> None:
        self.hear(self.upload.unsent(LeaseId(lease), self.now))

    def time(self, seconds: float) -> None:
        self.now += seconds
        self.hear(self.upload.deadline(self.now))

    def press(self, level: Any) -> None:
        self.upload.pressure(level)
        self.rate = self.rate or (1 if level == "full" else 0)

    def change(self) -> None:
        self.renew()
        self.hear(self.upload.task_changed(TASK, self.now))
        assert self.books == {}

    def check(self) -> None:
        """The upload's books and the children's agree, and nobody who could be served is forgotten."""
        self.upload.check()
        assert self.upload.active == len(self.books)
        if any(self.can_be_served(key) for key in self.books):
            assert self.rate, "no limit, and yet not sent"
            assert self.upload.next_deadline() is not None


@given(
    st.sampled_from([0, 0, 6 * CHUNK, 24 * CHUNK]), st.integers(0, 15), st.lists(happenings, min_size=40, max_size=80)
)
@settings(max_examples=3 * settings().max_examples)
def test_children_get_what_they_may_and_in_turns(rate: int, held: int, story: list[tuple[Any, ...]]) -> None:
    serving = Serving(rate, held)
    for name, *arguments in story:
        getattr(serving, name)(*arguments)
        serving.check()
