"""Who may read the source, and what the source said: permits, refusals, freshness, credentials. Who is told is in
admission; reading is in machines/peer/fetching."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from dfmq.errors import InvariantViolated, NotAuthorised, SourceRefused, SourceUnreachable
from dfmq.machines.deadlines import Deadlines
from dfmq.model.ids import PermitId, TaskId
from dfmq.model.task import Request

#: credentials remembered as good for one task; the least recently used goes
MOST_ACCEPTED = 1024
#: refusals remembered; the oldest goes
MOST_REFUSALS = 4096
#: a source that asks to be left alone for longer is asked again all the same when somebody wants it: what it said may
#: have been meant for one reader, one address or one moment
MOST_HEEDED_SECONDS = 30.0
#: an answer is never used longer than this without asking, whatever the source says: a day
MOST_FRESH_SECONDS = 86_400.0
#: permits on a task that nobody wants any more who may go to the source stand so long: who comes back meanwhile goes on
#: without a new request
UNWANTED_SECONDS = 5.0

Verdict = Literal["open", "wait", "fetch", "check"]


class Refusal(msgspec.Struct, frozen=True):
    """Why a task cannot be had."""

    code: str
    text: str
    #: so long it is told without asking the source
    until: float = 0.0
    #: before that there is no use in asking, as far as the source has said
    again_at: float = 0.0


@dataclass(slots=True, eq=False)
class LivePermit:
    """Leave to read the source of a task, once."""

    id: PermitId
    task: TaskId
    #: roster index of the one that reads
    holder: int
    request: Request
    credential: bytes
    check_only: bool
    given_at: float
    #: indices that had it before and could not; not asked again
    tried: int = 0
    #: which of several sources of one content the request names
    mirror: bytes = b""
    #: what the broker knew of when it was given; b"" nothing
    generation: bytes = b""


@dataclass(slots=True, eq=False)
class Terms:
    """On what terms a task is served without asking the source."""

    #: the request names a digest: the content cannot change
    is_immutable: bool
    fresh_until: float = 0.0
    #: credentials the source has accepted for it, least recently used first
    accepted: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def admits(self, credential: bytes) -> bool:
        """The source gives the content to this credential, or to anybody."""
        return credential in self.accepted or b"" in self.accepted

    def accept(self, credential: bytes) -> None:
        """The source has said yes to it."""
        self.accepted[credential] = None
        self.accepted.move_to_end(credential)
        if len(self.accepted) > MOST_ACCEPTED:
            self.accepted.popitem(last=False)


class BackSource:
    """Law: a task has at most one permit to fetch, and at most one to check per credential; a permit stands with its
    task and with its holder, or nowhere; the source is never asked but by a live permit. A permit on a task that nobody
    wants who may go to the source has a deadline, one on a task that somebody such wants has none."""

    def __init__(self, negative_seconds: float) -> None:
        self._negative_seconds = negative_seconds
        self._by_id: dict[PermitId, LivePermit] = {}
        self._fetches: dict[TaskId, LivePermit] = {}
        self._checks: dict[TaskId, dict[bytes, LivePermit]] = {}
        self._by_holder: dict[int, dict[PermitId, LivePermit]] = {}
        self._terms: dict[TaskId, Terms] = {}
        #: (task, mirror, credential, None for whoever asks: nobody answered) → refusal
        self._refusals: OrderedDict[tuple[TaskId, bytes, bytes | None], Refusal] = OrderedDict()
        self._next_id = 1
        #: tasks that nobody wants who may go to the source → when their permits end
        self.unwanted: Deadlines[TaskId] = Deadlines()

    def __len__(self) -> int:
        return len(self._by_id)

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(
        self,
        task: TaskId,
        is_known: bool,
        is_here: bool,
        credential: bytes,
        no_source: bool,
        now: float,
        mirror: bytes = b"",
    ) -> Verdict | Refusal:
        """What somebody gets who asks for a task: it is open to them, they wait for a permit under way, a permit must
        be given (to fetch, or to check), or a refusal. `is_known`: the broker knows the content; `is_here`: all of it
        can be had without the source."""
        if no_source:
            return self._judge_no_source(task, is_known, credential)
        is_open = is_known and self._needs_no_question(task, credential, now)
        if is_open and (is_here or task in self._fetches):
            return "open"
        refusal = self.refusal(task, mirror, credential, now)
        if refusal is not None:
            return refusal
        if is_open:
            return "open"
        if not is_known:
            return "wait" if task in self._fetches else "fetch"
        terms = self._terms[task]
        if not terms.admits(credential):
            return "wait" if credential in self._checks.get(task, ()) else "check"
        return "wait" if self._is_being_checked(task, terms) else "check"

    def _needs_no_question(self, task: TaskId, credential: bytes, now: float) -> bool:
        """The source has accepted the credential, and its answer is still good."""
        terms = self._terms[task]
        is_good = terms.is_immutable or now <= terms.fresh_until or task in self._fetches
        return is_good and terms.admits(credential)

    def _judge_no_source(self, task: TaskId, is_known: bool, credential: bytes) -> Verdict | Refusal:
        if is_known:
            if self._terms[task].admits(credential):
                return "open"
            text = "the source has not been asked about these credentials, and must not be; leave out --no-source"
            return Refusal("transfer", text)
        if task in self._fetches:
            return "wait"
        return Refusal("transfer", "no peer has this content, and the source must not be asked; leave out --no-source")

    def _is_being_checked(self, task: TaskId, terms: Terms) -> bool:
        """A check is under way whose answer tells whether the content is still the same."""
        return any(terms.admits(credential) for credential in self._checks.get(task, ()))

    def refusal(self, task: TaskId, mirror: bytes, credential: bytes, now: float) -> Refusal | None:
        """What the source said to this credential just now, if it was no."""
        for key in ((task, mirror, None), (task, mirror, credential)):
            refusal = self._refusals.get(key)
            if refusal is not None:
                if now < refusal.until:
                    return refusal
                del self._refusals[key]
        return None

    @staticmethod
    def is_meant(permit: LivePermit, code: str, mirror: bytes, credential: bytes) -> bool:
        """Whether what became of the permit is an answer for this credential too. A source may hide from one what it
        gives to another, and count each by itself; only where nobody answers, nobody has looked at credentials. Of
        another mirror it says nothing."""
        return mirror == permit.mirror and (code == SourceUnreachable.code or credential == permit.credential)

    # ── permits ──────────────────────────────────────────────────────────────────────────────────────────────────

    def give(
        self,
        task: TaskId,
        holder: int,
        request: Request,
        credential: bytes,
        check_only: bool,
        tried: int,
        now: float,
        mirror: bytes = b"",
    ) -> LivePermit:
        """A new permit. There must be none of its kind on the task."""
        number, tried = PermitId(self._next_id), tried | 1 << holder
        permit = LivePermit(number, task, holder, request, credential, check_only, now, tried, mirror)
        self._next_id += 1
        self._enter(permit)
        self._by_id[permit.id] = permit
        self._by_holder.setdefault(holder, {})[permit.id] = permit
        return permit

    def _enter(self, permit: LivePermit) -> None:
        if permit.check_only:
            is_second = self._checks.setdefault(permit.task, {}).setdefault(permit.credential, permit) is not permit
        else:
            is_second = self._fetches.setdefault(permit.task, permit) is not permit
        if is_second:
            raise InvariantViolated(f"task {permit.task.hex()} would have two permits of one kind")

    def end(self, permit: LivePermit) -> None:
        """The permit is used up or void."""
        del self._by_id[permit.id]
        holding = self._by_holder[permit.holder]
        del holding[permit.id]
        if not holding:
            del self._by_holder[permit.holder]
        self._withdraw(permit)

    def _withdraw(self, permit: LivePermit) -> None:
        if not permit.check_only:
            del self._fetches[permit.task]
            return
        checks = self._checks[permit.task]
        del checks[permit.credential]
        if not checks:
            del self._checks[permit.task]

    def wanted(self, task: TaskId) -> None:
        """Somebody who may go to the source wants the task: its permits stand."""
        self.unwanted.clear(task)

    def left(self, task: TaskId, now: float) -> None:
        """Nobody wants the task any more who may go to the source: its permits, if it has any, end soon. Said again,
        they end no later."""
        if (task in self._fetches or task in self._checks) and self.unwanted.at(task) is None:
            self.unwanted.set(task, now + UNWANTED_SECONDS)

    def promote(self, permit: LivePermit) -> None:
        """The check found another content: its holder fetches that now."""
        self._withdraw(permit)
        permit.check_only = False
        self._enter(permit)

    def get(self, permit: PermitId, holder: int) -> LivePermit | None:
        """The live permit of this id, if this peer has it."""
        return self._by_holder.get(holder, {}).get(permit)

    def fetch_of(self, task: TaskId) -> LivePermit | None:
        """The task's permit to fetch."""
        return self._fetches.get(task)

    def of_holder(self, holder: int) -> list[LivePermit]:
        """The permits a peer has."""
        return list(self._by_holder.get(holder, {}).values())

    def of_task(self, task: TaskId) -> list[LivePermit]:
        """Every permit on a task."""
        fetch = self._fetches.get(task)
        return [*([fetch] if fetch else []), *self._checks.get(task, {}).values()]

    # ── what the source said ─────────────────────────────────────────────────────────────────────────────────────

    def accepted(self, permit: LivePermit, is_immutable: bool, fresh_seconds: float, now: float) -> None:
        """The source said yes to the permit's request."""
        terms = self._terms.setdefault(permit.task, Terms(is_immutable))
        terms.accept(permit.credential)
        terms.fresh_until = max(terms.fresh_until, now + min(fresh_seconds, MOST_FRESH_SECONDS))
        for key in ((permit.task, permit.mirror, None), (permit.task, permit.mirror, permit.credential)):
            self._refusals.pop(key, None)

    def changed(self, permit: LivePermit) -> None:
        """The content is another: nobody but this permit's credential was accepted for it."""
        self._terms.pop(permit.task, None)

    def refused(self, permit: LivePermit, code: str, text: str, retry_after: float, now: float) -> Refusal:
        """The source said no. That is told for some seconds to whoever asks and is meant."""
        wait = max(self._negative_seconds, retry_after)
        until = now + max(self._negative_seconds, min(retry_after, MOST_HEEDED_SECONDS))
        refusal = Refusal(code, text, until, now + wait)
        key = (permit.task, permit.mirror, None if code == SourceUnreachable.code else permit.credential)
        self._refusals[key] = refusal
        self._refusals.move_to_end(key)
        if len(self._refusals) > MOST_REFUSALS:
            self._refusals.popitem(last=False)
        terms = self._terms.get(permit.task)
        if terms is not None:
            # That there is nothing is how some refuse credentials. What a digest names was given to them all the same.
            is_hidden = code == SourceRefused.code and not terms.is_immutable
            if is_hidden or code == NotAuthorised.code:
                terms.accepted.pop(permit.credential, None)
        return refusal

    def forget(self, task: TaskId) -> None:
        """The task is forgotten; it has no permit."""
        self._terms.pop(task, None)

    def check(self) -> None:
        """See the class's law."""
        checks = [permit for table in self._checks.values() for permit in table.values()]
        fetches = list(self._fetches.values())
        if any(not p.check_only for p in checks) or any(p.check_only for p in fetches):
            raise InvariantViolated("a permit to check stands as one to fetch, or the other way round")
        listed = {p.id: p for p in [*checks, *fetches]}
        held = {p.id: p for table in self._by_holder.values() for p in table.values()}
        if listed != self._by_id or held != self._by_id or not all(self._checks.values()):
            raise InvariantViolated("permits by task, by holder and by id differ")
        for holder, table in self._by_holder.items():
            if not table or any(p.holder != holder for p in table.values()):
                raise InvariantViolated(f"permits of {holder} are another's")
