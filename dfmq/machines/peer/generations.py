"""Which generation of a content a source's answer is of. Comparison and derivation; nothing is asked or read here."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from dfmq.machines.events import SourceAnswered
from dfmq.machines.peer.holding import Holding
from dfmq.machines.peer.reading import Reading
from dfmq.model.ids import GENERATION_BYTES, Generation, TaskId
from dfmq.model.pieces import MANY_HOSTS, PieceMap
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Content

#: Content that nothing names is new whenever it is asked for again: that is not to be done all the time.
NAMELESS_SECONDS = 60.0


#: numbers of hosts that make every cut there may be: the piece doubles with them (model/pieces)
HOSTS = (0, *(MANY_HOSTS << doublings for doublings in range(7)))


def is_named(answer: SourceAnswered) -> bool:
    """Whether the source names this version of the content."""
    return bool(answer.etag or answer.last_modified)


def _is_known_again(answer: SourceAnswered) -> bool:
    """Whether another reader would know this version by its name. By a date as young as the answer it would not: the
    content may have changed within that second."""
    return bool(answer.etag) or answer.strong_date


class Generations:
    """The rules by which answers are taken for the same content, or for another."""

    def __init__(
        self, settings: SourceSettings, algorithm: str, rng: random.Random, cut: Callable[[int | None, int], PieceMap]
    ) -> None:
        self._revalidate_seconds = settings.revalidate_seconds
        self._algorithm = algorithm
        self._rng = rng
        self._cut = cut

    def cut(self, reading: Reading, answer: SourceAnswered) -> PieceMap:
        """How a content that is not here is cut: as the broker or somebody else knows it already, where it is the same
        version; else for as many hosts as there are."""
        known = {reading.checked, reading.claimed} - {b""}
        for cut in self._cuts(answer.length) if known else ():
            if self.content(reading.task, answer, cut).generation in known:
                return cut
        return self._cut(answer.length, reading.hosts)

    def _cuts(self, length: int | None) -> list[PieceMap]:
        """Every cut a reader may give a content of this length."""
        return list(dict.fromkeys(self._cut(length, hosts) for hosts in HOSTS))

    def content(self, task: TaskId, answer: SourceAnswered, cut: PieceMap) -> Content:
        """The content of an answer, under the name every reader gives to this version: whoever reads it again finds it
        again. The cut and the algorithm of the proofs are in the name, for other pieces are not the same pieces."""
        words = (answer.etag, answer.last_modified, answer.length, cut.piece_length, cut.chunk_length, self._algorithm)
        text = task + "\n".join(map(str, words)).encode()
        name = hashlib.blake2b(text, digest_size=GENERATION_BYTES, person=b"dfmq.generation").digest()
        return Content(Generation(name), cut, self._algorithm)

    def begin(self, reading: Reading, answer: SourceAnswered) -> Holding:
        """The holding of a generation that was not here before."""
        content = self.content(reading.task, answer, self.cut(reading, answer))
        if reading.is_doubtful or not (reading.request.digest or _is_known_again(answer)):
            content = Content(Generation(self._rng.randbytes(GENERATION_BYTES)), content.cut, content.algorithm)
        holding = Holding(reading.task, content, reading.request)
        holding.learn_validators(answer)
        return holding

    def is_same(self, reading: Reading, holding: Holding | None, answer: SourceAnswered) -> bool:
        """Whether the answer is of the generation we hold; holding nothing: of the one the broker wants checked."""
        request = reading.request
        if holding is None:
            named = bool(request.digest) or is_named(answer)
            cut = self.cut(reading, answer)
            return named and self.content(reading.task, answer, cut).generation == reading.checked
        length = holding.cut.length
        fits = length is None or answer.length is None or answer.length == length
        if request.digest:
            # A digest pins the content: a mirror with other validators gives the same, which is proven at the end.
            return fits and not (answer.kind == "partial" and self.is_renamed(reading, holding, answer))
        if answer.kind == "unchanged":
            return True
        if answer.kind == "partial":
            return fits and _agrees(holding, answer)
        if fits and _has_its_date(holding, answer):
            return True
        again = self.content(holding.task, answer, holding.cut)
        return is_named(answer) and holding.content.generation == again.generation

    def may_differ(self, reading: Reading, holding: Holding, answer: SourceAnswered) -> bool:
        """What is held is of an answer before this one, and may be other octets: under the same weak name, or without
        one where a digest has named both."""
        if not holding.is_from(reading.request):
            return False
        if reading.request.digest:
            return not holding.is_pinned or self.is_renamed(reading, holding, answer)
        return holding.is_named and not holding.is_pinned

    def is_renamed(self, reading: Reading, holding: Holding, answer: SourceAnswered) -> bool:
        """The URL it came from has another name for what it has now. It may still be the same: one of several servers
        behind it may call it otherwise."""
        if not holding.is_from(reading.request):
            return False
        if holding.etag and answer.etag:
            return holding.etag.removeprefix("W/") != answer.etag.removeprefix("W/")
        dates = holding.last_modified, answer.last_modified
        return all(dates) and dates[0] != dates[1]

    def goes_on(self, holding: Holding | None, answer: SourceAnswered) -> bool:
        """Nothing names the version, but it is being read here and the answer is as long: it is taken for the same
        until its bytes say otherwise."""
        if holding is None or holding.etag or holding.last_modified or is_named(answer):
            return False
        return answer.kind == "full" and answer.length == holding.cut.length

    def fresh_seconds(self, answer: SourceAnswered) -> float:
        """How long the answer may be used without asking again."""
        if answer.fresh_seconds is not None:
            return min(answer.fresh_seconds, 1e9)
        return self._revalidate_seconds if is_named(answer) else max(self._revalidate_seconds, NAMELESS_SECONDS)


def _has_its_date(holding: Holding, answer: SourceAnswered) -> bool:
    """What we read ourselves under a young date has no name but this date: while that stands it is taken for the same,
    and what is missing of it is read with all the rest and compared."""
    is_dated = bool(holding.last_modified) and not holding.etag and not answer.etag
    return is_dated and not holding.strong_date and holding.last_modified == answer.last_modified


def _agrees(holding: Holding, answer: SourceAnswered) -> bool:
    """The question was conditional: what a 206 leaves out has not changed (RFC 9110, section 15.3.7). A server may call
    its ETag weak at one time and strong at another."""
    if not (holding.etag or holding.last_modified):
        return False
    same_etag = answer.etag.removeprefix("W/") in ("", holding.etag.removeprefix("W/"))
    return same_etag and answer.last_modified in ("", holding.last_modified)
