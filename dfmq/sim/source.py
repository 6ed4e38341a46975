"""The source of a simulated world: an HTTP server's manners, its faults, and what it counts. No real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dfmq.machines.effects import AskSource, ReadSource
from dfmq.machines.events import PeerEvent, SourceAnswered, SourceBroke, SourceChunk, SourceEnded
from dfmq.model.ids import PermitId, TaskId
from dfmq.sim.truth import truth_of

if TYPE_CHECKING:
    from dfmq.sim.agenda import Agenda


class SourceFile:
    """One file at the source, and how the source treats requests for it."""

    def __init__(self, url: str, length: int) -> None:
        self.url = url
        self.length = length
        self.version = 1
        #: the answer names its length
        self.tells_length = True
        self.takes_ranges = True
        self.has_validators = True
        #: so many requests are refused before one is answered: (how many, code, permanent, retry_after)
        self.refusals: list[tuple[str, bool, float]] = []
        #: positions in the count of bytes served at which the connection breaks; ascending
        self.breaks_at: list[int] = []
        #: positions at which the source falls silent for so many seconds: (bytes served, seconds); ascending
        self.stalls_at: list[tuple[int, float]] = []
        #: bytes of bodies that were handed out, thrown away ones too
        self.served_bytes = 0
        self.requests = 0

    @property
    def etag(self) -> str:
        return f'"v{self.version}"' if self.has_validators else ""


class Reader:
    """One connection to the source."""

    def __init__(self, file: SourceFile, hear: Callable[[PeerEvent], None], permit: PermitId, start: int) -> None:
        self.file = file
        self.hear = hear
        self.permit = permit
        #: the version this answer is of: what changes at the source later does not change it
        self.version = file.version
        self.length = file.length
        self.position = start
        self.wish: ReadSource | None = None
        self.unwritten = 0
        #: a call to `_send` is entered
        self.sending = False
        self.closed = False


class Source:
    """All files of the world. One link, shared by all readers, of `rate` bytes per second."""

    def __init__(self, agenda: Agenda, *, rate: float, latency: float, stall_seconds: float) -> None:
        """`latency`: seconds from a request to its answer. `stall_seconds`: silence the node takes for a stall."""
        self.agenda = agenda
        self.rate = rate
        self.latency = latency
        self.stall_seconds = stall_seconds
        self.files: dict[str, SourceFile] = {}
        self._readers: dict[tuple[object, PermitId], Reader] = {}
        self._free = 0.0

    # ── what a node's hands do ────────────────────────────────────────────────────────────────────────────────

    def ask(self, who: object, hear: Callable[[PeerEvent], None], wish: AskSource) -> None:
        """Performs AskSource for the process `who`, which hears the answer."""
        self.close(who, wish.permit)
        self.agenda.after(self.latency, self._answer, who, hear, wish)

    def read(self, who: object, wish: ReadSource) -> None:
        """Performs ReadSource."""
        reader = self._readers.get((who, wish.permit))
        if reader is None:
            return
        reader.wish = wish
        reader.file.served_bytes += wish.skip
        reader.position += wish.skip
        if reader.position != wish.offset:
            raise AssertionError(f"{wish}: the body stands at {reader.position}")
        self._free = max(self._free, self.agenda.now) + wish.skip / self.rate
        self._go_on(reader)

    def wrote(self, who: object, task: TaskId, size: int) -> None:
        """The process has written so much of the task: its readers may send on."""
        for (reading, _), reader in list(self._readers.items()):
            if reading is who and reader.wish is not None and reader.wish.task == task:
                reader.unwritten = max(0, reader.unwritten - size)
                self._go_on(reader)

    def close(self, who: object, permit: PermitId) -> None:
        """Performs DropSource."""
        reader = self._readers.pop((who, permit), None)
        if reader is not None:
            reader.closed = True

    def close_all(self, who: object) -> None:
        """The process is gone."""
        for reading, permit in [key for key in self._readers if key[0] is who]:
            self.close(reading, permit)

    # ── how it answers ────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, who: object, hear: Callable[[PeerEvent], None], wish: AskSource) -> None:
        file = self.files.get(wish.request.url)
        if file is None:
            hear(SourceBroke(wish.permit, "source_refused", "404 Not Found", True, 0.0))
            return
        file.requests += 1
        if file.refusals:
            code, permanent, retry_after = file.refusals.pop(0)
            hear(SourceBroke(wish.permit, code, "refused", permanent, retry_after))
            return
        same = file.has_validators and wish.etag == file.etag
        start, kind = 0, "full"
        if same and wish.unchanged_will_do:
            kind = "unchanged"
        elif wish.offset and same and file.takes_ranges:
            start, kind = wish.offset, "partial"
        if kind != "unchanged":
            self._readers[who, wish.permit] = Reader(file, hear, wish.permit, start)
        length = file.length if file.tells_length else None
        hear(SourceAnswered(wish.permit, kind, start, length, file.etag, "", None, file.takes_ranges))

    def _go_on(self, reader: Reader) -> None:
        wish = reader.wish
        if wish is None or reader.sending or reader.closed or reader.unwritten >= wish.window:
            return
        file = reader.file
        reader.sending = True
        if file.breaks_at and file.served_bytes >= file.breaks_at[0]:
            file.breaks_at.pop(0)
            self.agenda.after(0.0, self._break, reader, "the connection broke")
            return
        if file.stalls_at and file.served_bytes >= file.stalls_at[0][0]:
            seconds = file.stalls_at.pop(0)[1]
            if seconds >= self.stall_seconds:
                self.agenda.after(self.stall_seconds, self._break, reader, "stalled")
                return
            self._free = max(self._free, self.agenda.now) + seconds
        size = min(wish.cut.chunk_length, reader.length - reader.position)
        if size <= 0:
            self.agenda.after(0.0, self._end, reader)
            return
        self._free = max(self._free, self.agenda.now) + size / self.rate
        self.agenda.at(self._free, self._send, reader, size)

    def _send(self, reader: Reader, size: int) -> None:
        reader.sending = False
        wish = reader.wish
        if reader.closed or wish is None:
            return
        truth = truth_of(reader.file.url, reader.version, reader.position, size)
        piece, inside = divmod(reader.position, wish.cut.piece_length)
        reader.position += size
        reader.unwritten += size
        reader.file.served_bytes += size
        chunk = inside // wish.cut.chunk_length
        reader.hear(SourceChunk(reader.permit, piece, chunk, size, truth.digest, truth))
        self._go_on(reader)

    def _end(self, reader: Reader) -> None:
        if not reader.closed:
            self._forget(reader)
            reader.hear(SourceEnded(reader.permit, reader.length))

    def _break(self, reader: Reader, text: str) -> None:
        if not reader.closed:
            self._forget(reader)
            reader.hear(SourceBroke(reader.permit, "source_failed", text, False, 0.0))

    def _forget(self, reader: Reader) -> None:
        reader.closed = True
        for key in [key for key, known in self._readers.items() if known is reader]:
            del self._readers[key]
