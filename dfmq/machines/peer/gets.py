"""What clients asked for and the downloads that are begun for it: joined, limited, ended, answered. Who said what to
whom is in clients, how a task comes in is in download."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial

import msgspec

from dfmq.errors import (
    InvariantViolated,
    NotAuthorised,
    SettingsError,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    TransferError,
)
from dfmq.machines.effects import (
    DropTask,
    FinishStore,
    LendTask,
    NoteLink,
    OpenStore,
    PeerEffect,
    PinTask,
    Record,
    TellClient,
)
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.clients import Clients, Wish
from dfmq.machines.peer.download import Download
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.intake import Intake
from dfmq.machines.peer.limits import TokenBucket
from dfmq.machines.peer.neighbours import Neighbours
from dfmq.machines.peer.outcome import Outcome
from dfmq.machines.peer.session import FIRST_PATIENCE_SECONDS, LATER_PATIENCE_SECONDS, Session
from dfmq.model.ids import Generation, TaskId
from dfmq.model.settings import PeerSettings
from dfmq.model.task import mirror, shown, task_id, validate
from dfmq.wire.messages import Get, Lost, Receipt, Release, Sorry

#: How often it is looked at whether a get has waited too long; seconds.
TICK_SECONDS = 0.5
#: A get whose broker answers is given up when so many leases came to nothing and nothing was stored for so long. A link
#: that was cut, or a seed that begins anew, is back by then; a host that nobody can reach waits for ever otherwise.
FRUITLESS_LEASES, FRUITLESS_SECONDS = 6, 120.0
#: how a download fails when its source gives nothing, for whatever reason
MIRRORS_WORD = frozenset({SourceError.code, SourceUnreachable.code, SourceRefused.code, NotAuthorised.code})


class Gets:
    """All gets of this host, and their downloads. Of every get there is one record at its start and one at its end.

    Law: a task has a download exactly while a get has joined it; while a client is at content that it was told is done,
    nothing drops it.
    """

    def __init__(
        self,
        settings: PeerSettings,
        holdings: Holdings,
        session: Session,
        intake: Intake,
        neighbours: Neighbours,
        alarm: Alarm,
    ) -> None:
        self.clients = Clients(alarm)
        self.downloads: dict[TaskId, Download] = {}
        self._settings = settings
        self._holdings = holdings
        self._session = session
        self._intake = intake
        self._neighbours = neighbours
        #: effects that would drop content a client is still at, until it is released
        self._held_back: dict[TaskId, list[PeerEffect]] = {}
        self._alarm = alarm
        self._tick_at: float | None = None

    # ── what clients say ──────────────────────────────────────────────────────────────────────────────────────

    def get(self, client: bytes, message: Get, now: float) -> list[PeerEffect]:
        """A client wants content."""
        try:
            task = task_id(validate(message.request))
        except SettingsError as error:
            return [TellClient(client, Sorry(get=message.get, code=error.code, text=str(error)[:2048]))]
        if self.clients.find(client, message.get) is not None:
            # The client says it again: one answer will come.
            return []
        wish = self.clients.add(client, message, task, now)
        fields = {"task": task, "get": wish.get, "url": shown(message.request.url), "tag": message.request.tag}
        return [Record("get.started", fields), *self._seat(wish, now)]

    def release(self, client: bytes, message: Release, now: float) -> list[PeerEffect]:
        """The client has what it wants, or wants it no more."""
        wish = self.clients.find(client, message.get)
        if wish is None:
            return []
        effects: list[PeerEffect] = []
        if message.linked and wish.standing == "kept":
            effects.append(NoteLink(wish.task, Generation(wish.generation), message.ctime_before, message.ctime_after))
        return effects + self._release(wish, now)

    def lost(self, client: bytes, now: float) -> list[PeerEffect]:
        """The client is gone, and so are its gets."""
        effects: list[PeerEffect] = []
        for wish in self.clients.of_client(client):
            effects += self._release(wish, now)
        return effects

    def _seat(self, wish: Wish, now: float) -> list[PeerEffect]:
        """Let the wish join the download of its task, begin one, or wait until another request's is over."""
        task = wish.task
        download = self.downloads.get(task)
        if download is not None:
            # Before its first answer, which may be a no that is none for this one, nobody joins who may do more.
            if wish.may_join(download.request, download.no_source and not download.was_opened):
                self.clients.join(wish, now)
                self._set_limit(download, now)
                return self._intake.purse.serve(now) + self._set_leave(download, now)
            return []
        download = Download(
            task,
            wish.request,
            wish.no_source,
            self._holdings,
            self._session,
            self._intake,
            self._neighbours,
            now,
        )
        self.downloads[task] = download
        self._intake.downloads = len(self.downloads)
        self.clients.join(wish, now)
        self._set_limit(download, now)
        self._session.hasten(now)
        if self._tick_at is None:
            self._tick_at = self._alarm.by(now + TICK_SECONDS)
        # Also where it is pinned already: the store looks whether the file was touched since.
        return [PinTask(task, True), *download.begin(now)]

    def _set_limit(self, download: Download, now: float) -> None:
        limit, leases = self.clients.limit_of(download.task), download.leases
        if limit and leases.bucket is not None:
            leases.bucket.set_rate(limit, now)
        else:
            leases.bucket = TokenBucket(limit) if limit else None

    def _set_leave(self, download: Download, now: float) -> list[PeerEffect]:
        """It may go to the source while one of those who joined it may."""
        joined = self.clients.of_task(download.task, "joined")
        return download.set_no_source(all(wish.no_source for wish in joined), now)

    def _release(self, wish: Wish, now: float) -> list[PeerEffect]:
        task = wish.task
        self.clients.leave(wish, now)
        effects = self._free(task)
        if wish.standing != "kept":
            effects.append(_failed(wish, "interrupted", "its client wants it no more"))
        download = self.downloads.get(task)
        if wish.standing == "joined" and download is not None:
            if self.clients.of_task(task, "joined"):
                self._set_limit(download, now)
                effects += self._intake.purse.serve(now) + self._set_leave(download, now)
            else:
                effects += self._part(download, now) + self._seat_next(task, now)
        return effects if self.clients.wants(task) else [*effects, PinTask(task, False)]

    # ── what becomes of downloads ─────────────────────────────────────────────────────────────────────────────

    def of(self, task: bytes, now: float, say: Callable[[Download], list[PeerEffect]]) -> list[PeerEffect]:
        """Tell the task's download something, if there is one."""
        download = self.downloads.get(TaskId(task))
        return self.settle(download, say(download), now) if download is not None else []

    def settle(self, download: Download, effects: list[PeerEffect], now: float) -> list[PeerEffect]:
        """After anything that may have ended the download: answer its clients, begin what waited for its end."""
        outcome, task = download.outcome, download.task
        if outcome is None or self.downloads.get(task) is not download:
            return effects
        holding = self._holdings.get(task)
        if not outcome.code and holding is not None:
            effects += self.finish(holding)
            effects += self._done(download, holding, now)
        else:
            joined = self._told_of(download, outcome)
            effects += [_failed(wish, outcome.code, outcome.text) for wish in joined]
            effects += self._part(download, now)
            if outcome.code == "digest_mismatch" and holding is not None:
                effects += self.drop(task)
            effects += self.clients.sorry(joined, outcome.code, outcome.text, outcome.retry_after)
        effects += self._seat_next(task, now)
        return effects if self.clients.wants(task) else [*effects, PinTask(task, False)]

    def _told_of(self, download: Download, outcome: Outcome) -> list[Wish]:
        """Who joined and is to hear how it failed. What one mirror said is not for those who name another of the same
        content: they wait for theirs to be asked."""
        joined = self.clients.of_task(download.task, "joined")
        if outcome.code not in MIRRORS_WORD:
            return joined
        asked = mirror(download.request)
        for wish in [wish for wish in joined if mirror(wish.request) != asked]:
            self.clients.unseat(wish)
        return self.clients.of_task(download.task, "joined")

    def _done(self, download: Download, holding: Holding, now: float) -> list[PeerEffect]:
        task, length = download.task, holding.cut.length or 0
        receipt = download.tally.receipt()
        records = [_done(wish, length, receipt, now) for wish in self.clients.of_task(task, "joined")]
        # The store's layout is said in design, section 6: tasks/<id>/{data,journal}.
        path = f"{self._settings.home}/tasks/{task.hex()}/data"
        effects = [*self._part(download, now), LendTask(task)]
        effects += self.clients.done(task, path, length, holding.content.generation, receipt)
        return [*effects, *records]

    def finish(self, holding: Holding) -> list[PeerEffect]:
        """If everything is held: the store may put things in order."""
        if holding.is_finished or not holding.is_open or not holding.is_complete:
            return []
        holding.is_finished = True
        return [FinishStore(holding.task, holding.content.generation)]

    def _part(self, download: Download, now: float) -> list[PeerEffect]:
        """Out of the books; what is stored stays."""
        effects = download.close(now)
        del self.downloads[download.task]
        self._intake.downloads = len(self.downloads)
        return effects + self._intake.purse.serve(now)

    def _seat_next(self, task: TaskId, now: float) -> list[PeerEffect]:
        """The next request for this task is asked now."""
        effects: list[PeerEffect] = []
        for wish in self.clients.of_task(task, "waiting"):
            effects += self._seat(wish, now)
        return effects

    def drop(self, task: TaskId) -> list[PeerEffect]:
        """The content is no good: out of the store, the children's reach and the broker's books."""
        if task not in self._holdings:
            return []
        del self._holdings[task]
        effects = self._session.tell(Lost(task=task, all_pieces=True))
        return effects + self.guard([DropTask(task)])

    def fail(self, is_meant: Callable[[Download], bool], code: str, text: str, now: float) -> list[PeerEffect]:
        """These downloads will come to nothing."""
        effects: list[PeerEffect] = []
        for download in [download for download in self.downloads.values() if is_meant(download)]:
            download.fail(code, text)
            effects += self.settle(download, [], now)
        return effects

    # ── effects that must wait for a client ───────────────────────────────────────────────────────────────────

    def guard(self, effects: list[PeerEffect]) -> list[PeerEffect]:
        """Hold back what would drop content under a client that was told it is done and has not released it."""
        passed: list[PeerEffect] = []
        for effect in effects:
            if isinstance(effect, OpenStore):
                kept = {wish.generation for wish in self.clients.of_task(effect.task, "kept")}
                is_harm = bool(kept - {effect.content.generation})
            else:
                is_harm = isinstance(effect, DropTask) and bool(self.clients.of_task(effect.task, "kept"))
            if is_harm and isinstance(effect, OpenStore | DropTask):
                self._held_back.setdefault(effect.task, []).append(effect)
            else:
                passed.append(effect)
        return passed

    def _free(self, task: TaskId) -> list[PeerEffect]:
        return [] if self.clients.of_task(task, "kept") else self._held_back.pop(task, [])

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def next_deadline(self) -> float | None:
        """When progress is due, or patience is to be looked at."""
        due_at = self.clients.next_deadline()
        if due_at is None or self._tick_at is None:
            return self._tick_at if due_at is None else due_at
        return min(due_at, self._tick_at)

    def deadline(self, now: float) -> list[PeerEffect]:
        """What has become due."""
        effects: list[PeerEffect] = []
        if self._tick_at is not None and now >= self._tick_at:
            effects += self._look_for_patience(now) + self._look_for_fruits(now) + self._look_for_doubts(now)
            self._tick_at = self._alarm.by(now + TICK_SECONDS) if self.downloads else None
        for task in self.clients.due(now):
            holding, download = self._holdings.get(task), self.downloads[task]
            length = holding.cut.length if holding is not None else None
            held = holding.held_bytes() if holding is not None else 0
            receipt = download.tally.receipt()
            effects += self.clients.progress(task, length, held, download.leases.parents, receipt, now)
        return effects

    def _look_for_patience(self, now: float) -> list[PeerEffect]:
        """Gets do not wait for ever for a broker that does not answer."""
        since = self._session.unwelcome_since
        if since is None:
            return []

        def is_over(download: Download) -> bool:
            patience = LATER_PATIENCE_SECONDS if download.was_opened else FIRST_PATIENCE_SECONDS
            return now >= max(since, download.progressed_at) + patience

        where = ", ".join(self._settings.brokers) or "(this process)"
        text = f"no broker has answered at {where} for {now - since:.0f} s; does dfmq-broker run there, in reach?"
        if self._session.other_version:
            text += f" One speaks protocol version {self._session.other_version}, this peer another"
        return self.fail(is_over, "broker_unreachable", text, now)

    def _look_for_fruits(self, now: float) -> list[PeerEffect]:
        """Nor for parents none of whom sends anything that comes here."""
        effects: list[PeerEffect] = []
        for download in list(self.downloads.values()):
            leases = download.leases
            waited = now - leases.fruitless_since
            if leases.fruitless >= FRUITLESS_LEASES and waited >= FRUITLESS_SECONDS:
                text = (
                    f"{leases.fruitless} times in {waited:.0f} s nothing came, the last time from "
                    f"{leases.last_failed}; can it reach this host at {self._intake.purse.inbox}? See --advertise"
                )
                effects += self.fail(partial(operator.is_, download), TransferError.code, text, now)
        return effects

    def _look_for_doubts(self, now: float) -> list[PeerEffect]:
        """A download that is owed leases for long, and has none, asks again."""
        effects: list[PeerEffect] = []
        for download in self.downloads.values():
            at = download.doubts_at()
            if at is not None and now >= at:
                effects += download.ask(now)
        return effects

    def check(self) -> None:
        """See the class's law."""
        self.clients.check()
        joined = {task for task in self.downloads if self.clients.of_task(task, "joined")}
        if joined != set(self.downloads):
            raise InvariantViolated("a download goes on that nobody wants")
        for task, download in self.downloads.items():
            if task != download.task or download.outcome is not None:
                raise InvariantViolated(f"task {task.hex()}: its download is over, or another's")
            download.check()
        for task in self._held_back:
            if not self.clients.of_task(task, "kept"):
                raise InvariantViolated(f"task {task.hex()}: effects are held back for nobody")
        if self.downloads and self._tick_at is None:
            raise InvariantViolated("nobody looks after the downloads")


def _done(wish: Wish, length: int, receipt: Receipt, now: float) -> Record:
    """The get's last record. Gets that shared one download each have all of its receipt, as their clients are told."""
    fields = {"task": wish.task, "get": wish.get, "bytes": length, "seconds": round(now - wish.since, 3)}
    return Record("get.done", fields | msgspec.structs.asdict(receipt))


def _failed(wish: Wish, code: str, text: str) -> Record:
    return Record("get.failed", {"task": wish.task, "get": wish.get, "code": code, "text": text})
