"""Reading a source that breaks, changes and forgets: never a mix of two versions, and always whole in the end."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.reader import PIECE, Reader, a_content, digest_of

from dfmq.machines import effects as want
from dfmq.machines import events as told
from dfmq.model.task import Request
from dfmq.wire import messages as say

SIZES = (3 * PIECE + 5, 3 * PIECE + 5, 4 * PIECE)
CONTENTS = [a_content(size, seed) for seed, size in enumerate(SIZES)]
OTHER = Request(url="http://source/file", headers=(("Authorization", "Bearer other"),))

happenings = st.sampled_from([*["answer"] * 6, *["read"] * 8, *["write"] * 4, *["later"] * 4, "rare", "rare"]).flatmap(
    {
        "answer": st.tuples(st.just("answer"), st.booleans()),
        "read": st.tuples(st.just("read"), st.integers(1, 9)),
        "write": st.tuples(st.just("write")),
        "later": st.tuples(st.just("later")),
        "rare": st.one_of(
            st.tuples(st.just("permit"), st.booleans(), st.booleans()),
            st.tuples(st.just("quit")),
            st.tuples(st.just("break_off"), st.booleans()),
            st.tuples(st.just("change")),
            st.tuples(st.just("lose_broker")),
            st.tuples(st.just("lose_content")),
            st.tuples(st.just("restart")),
        ),
    }.__getitem__
)


class World:
    """One reader and an honest source: a body is of one version, and a strong validator names one. All versions came
    within one second: they have the same date."""

    def __init__(self, names: str, tells_length: bool, takes_ranges: bool) -> None:
        self.reader = Reader()
        self.names = names
        self.tells_length = tells_length
        self.takes_ranges = takes_ranges
        self.version = 0
        self.permits: list[int] = []
        self.count = 0
        #: open question → what was asked; the version its body is of and where that stands; its read
        self.asked: dict[int, want.AskSource] = {}
        self.bodies: dict[int, tuple[int, int]] = {}
        self.reads: dict[int, want.ReadSource] = {}
        #: generation → the version its bytes are of
        self.versions: dict[bytes, int] = {}
        #: (generation, offset) → bytes on disk
        self.unstored: list[want.StoreChunk] = []

    def feed(self, effects: list[Any]) -> None:
        """Perform them; a store answers at once."""
        reader = self.reader
        reader.fetching.check()
        reader.holdings.check()
        for effect in effects:
            if isinstance(effect, want.AskSource):
                self.asked[effect.permit] = effect
            elif isinstance(effect, want.DropSource):
                for book in (self.asked, self.bodies, self.reads):
                    book.pop(effect.permit, None)
            elif isinstance(effect, want.ReadSource):
                version, position = self.bodies[effect.permit]
                assert position + effect.skip == effect.offset
                self.bodies[effect.permit] = version, effect.offset
                self.reads[effect.permit] = effect
            elif isinstance(effect, want.StoreChunk):
                self.hold(effect.generation, effect.offset, effect.payload)
                self.unstored.append(effect)
            elif isinstance(effect, want.TellBroker):
                self.hear(effect.message)
        for effect in effects:
            if isinstance(effect, want.LoadTask):
                loaded = told.StoreLoaded(effect.task, reader.disk.get(effect.task))
                self.feed(reader.fetching.loaded(loaded, reader.now))
            elif isinstance(effect, want.OpenStore):
                shelved = reader.disk.get(effect.task)
                held, partial, proofs = 0, {}, {}
                if shelved is not None and shelved.content.generation == effect.content.generation:
                    held, partial, proofs = shelved.held, shelved.partial, shelved.proofs
                opened = told.StoreOpened(effect.task, effect.content.generation, held, partial, proofs)
                self.feed(reader.fetching.opened(opened, reader.now))

    def hold(self, generation: bytes, offset: int, payload: bytes) -> None:
        """Bytes of a generation are all of one version."""
        candidates = [v for v, content in enumerate(CONTENTS) if content[offset : offset + len(payload)] == payload]
        assert len(candidates) == 1
        assert self.versions.setdefault(generation, candidates[0]) == candidates[0], "a mix of two versions"

    def hear(self, message: Any) -> None:
        if isinstance(message, say.Proven):
            content = CONTENTS[self.versions[message.generation]]
            cut = self.reader.holding.cut
            data = content[message.piece * cut.piece_length : (message.piece + 1) * cut.piece_length]
            chunks = [data[i : i + cut.chunk_length] for i in range(0, len(data), cut.chunk_length)]
            assert message.proofs == b"".join(map(digest_of, chunks))
        if isinstance(message, say.SourceFailed):
            self.permits.remove(message.permit)

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

    def permit(self, is_check: bool, is_other: bool) -> None:
        self.count += 1
        self.permits.append(self.count)
        reader = self.reader
        request = OTHER if is_other else reader.request
        message = say.Permit(permit=self.count, task=reader.task, request=request, check_only=is_check)
        self.feed(reader.fetching.permitted(message, reader.now))

    def quit(self) -> None:
        if self.permits:
            message = say.Quit(permit=self.permits.pop(), task=self.reader.task)
            self.feed(self.reader.fetching.quit(message, self.reader.now))

    def answer(self, breaks: bool) -> None:
        """The oldest question that has no answer yet gets one; now and then a refusal."""
        open_questions = [number for number in self.asked if number not in self.bodies]
        if not open_questions:
            return
        number = open_questions[0]
        asked, reader = self.asked[number], self.reader
        content, etag = CONTENTS[self.version], f'"{self.version}"' if self.names == "etag" else ""
        date = "now" if self.names == "date" else ""
        same = bool(etag or date) and (asked.etag, asked.last_modified) == (etag, date)
        if breaks and number % 3 == 0:
            self.break_off(False)
            return
        kind, start = "full", 0
        if asked.unchanged_will_do and same:
            kind = "unchanged"
            del self.asked[number]
        elif asked.offset and same and self.takes_ranges:
            kind, start = "partial", asked.offset
        if kind != "unchanged":
            self.bodies[number] = self.version, start
        length = len(content) if self.tells_length else None
        event = told.SourceAnswered(asked.permit, kind, start, length, etag, date, None, self.takes_ranges)
        self.feed(reader.fetching.answered(event, reader.now))

    def read(self, count: int) -> None:
        """Chunks of a body, and its end."""
        for number in list(self.reads)[:1]:
            for _ in range(count):
                if number not in self.reads:
                    return
                read, (version, position) = self.reads[number], self.bodies[number]
                content = CONTENTS[version]
                payload = content[position : position + read.cut.chunk_length]
                if not payload:
                    for book in (self.asked, self.bodies, self.reads):
                        book.pop(number, None)  # type: ignore[attr-defined]
                    event = told.SourceEnded(read.permit, len(content))
                    self.feed(self.reader.fetching.ended(event, self.reader.now))
                    return
                piece, inside = divmod(position, read.cut.piece_length)
                chunk = inside // read.cut.chunk_length
                self.bodies[number] = version, position + len(payload)
                came = told.SourceChunk(read.permit, piece, chunk, len(payload), digest_of(payload), payload)
                self.feed(self.reader.fetching.chunk(came, self.reader.now))

    def break_off(self, permanent: bool) -> None:
        """A question or a body comes to nothing."""
        if not self.asked:
            return
        number = next(iter(self.asked))
        permit = self.asked[number].permit
        for book in (self.asked, self.bodies, self.reads):
            book.pop(number, None)  # type: ignore[attr-defined]
        event = told.SourceBroke(permit, "source_failed", "broke", permanent, 0.0)
        self.feed(self.reader.fetching.broke(event, self.reader.now))

    def write(self) -> None:
        """The disk catches up."""
        reader = self.reader
        unstored, self.unstored = self.unstored, []
        for effect in unstored:
            holding = reader.holdings.get(effect.task)
            if holding is None or holding.content.generation != effect.generation:
                continue
            assembly = holding.assemblies.get(effect.piece)
            if assembly is not None and assembly.mark_stored(effect.chunk):
                holding.keep(effect.piece)
                self.feed(reader.fetching.piece_whole(effect.task, effect.piece, reader.now))

    def later(self) -> None:
        """Time goes by: the next try comes."""
        at = self.reader.fetching.next_deadline()
        if at is not None:
            self.reader.now = max(self.reader.now, at)
            self.feed(self.reader.fetching.deadline(self.reader.now))

    def change(self) -> None:
        self.version = (self.version + 1) % len(CONTENTS)

    def lose_broker(self) -> None:
        self.permits.clear()
        self.feed(self.reader.fetching.forget_broker(self.reader.now))

    def lose_content(self) -> None:
        """The store has dropped the content."""
        self.unstored.clear()
        self.reader.disk.clear()
        self.reader.holdings.pop(self.reader.task, None)
        self.feed(self.reader.fetching.task_changed(self.reader.task, self.reader.now))

    def restart(self) -> None:
        """Another process finds what was written."""
        if self.reader.task in self.reader.holdings:
            self.reader.shelve()
        self.permits.clear()
        for book in (self.asked, self.bodies, self.reads):
            book.clear()  # type: ignore[attr-defined]
        self.unstored.clear()
        self.reader.start()


@given(
    st.sampled_from(["etag", "date", ""]), st.booleans(), st.booleans(), st.lists(happenings, min_size=20, max_size=60)
)
@settings(max_examples=2 * settings().max_examples)
def test_whatever_the_source_does_versions_are_not_mixed_and_a_permit_is_fulfilled_in_the_end(
    names: str, tells_length: bool, takes_ranges: bool, story: list[tuple[Any, ...]]
) -> None:
    world = World(names, tells_length, takes_ranges)
    world.permit(False, False)
    for name, *arguments in story:
        getattr(world, name)(*arguments)
    # and now everything goes well: what is under way is read to its end, and then what there is now
    for _ in range(2):
        world.permit(False, False)
        for _ in range(60):
            world.answer(False)
            world.read(100)
            world.write()
            world.later()
        reader = world.reader
        assert not reader.fetching.reads(reader.task)
        assert reader.fetching.next_deadline() is None
        assert reader.holding.is_complete
        assert len(reader.holding.proofs) == reader.holding.cut.count
    if names == "etag":
        assert world.versions[reader.holding.content.generation] == world.version
