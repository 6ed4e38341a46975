"""Local clients and what they asked for: gets, their progress, their answers. What is fetched is in download."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import PeerEffect, TellClient
from dfmq.machines.peer.alarm import Alarm, AlarmedDeadlines
from dfmq.model.ids import TaskId
from dfmq.model.task import Request, credential
from dfmq.wire.messages import Done, Get, Progress, Receipt, Sorry

#: More often than an eye needs costs 80 clients on one machine too much: each message wakes two processes.
PROGRESS_SECONDS = 0.5
#: The first one comes so soon: most small contents are here before that, and of these Done says it all.
FIRST_PROGRESS_SECONDS = 0.1
#: Where nobody watches it is only a sign of life: a client asks whether we live after two seconds without one.
UNWATCHED_SECONDS = 1.5
#: Said at least so often, changed or not, so that a displayed rate falls when nothing comes.
LEAST_OFTEN_SECONDS = 1.0
#: How much a new sample of the rate counts.
RATE_SHARE = 0.3
#: The limit of the last get of a task holds so long after its client has left it: longer than a broker lets a read of
#: the source go on that nobody wants (UNWANTED_SECONDS of its backsource), so that it does not end in a burst.
LIMIT_KEPT_SECONDS = 10.0

#: waiting: another request for the same task is asked first · joined: the download is its own · kept: Done is said, the
#: content stays until Release
Standing = Literal["waiting", "joined", "kept"]


@dataclass(slots=True, eq=False)
class Wish:
    """One get of one client."""

    client: bytes
    get: int
    task: TaskId
    request: Request
    credential: bytes
    limit: int
    no_source: bool
    since: float
    is_unwatched: bool = False
    standing: Standing = "waiting"
    #: what it was told is done
    generation: bytes = b""

    def may_join(self, request: Request, no_source: bool) -> bool:
        """Whether what is asked for with this request is leave for us as well: the same credentials, and no less leave
        to go to the source."""
        return credential(request) == self.credential and (self.no_source or not no_source)


@dataclass(slots=True, eq=False)
class _Meter:
    """What was last said of a task's progress."""

    at: float
    said: tuple[int | None, int, int] = (None, -1, 0)
    fetched: int = 0
    bytes_per_second: float = 0.0
    said_at: float = 0.0


class Clients:
    """Every get that was not released.

    Law: a wish stands once under (client, get) and once under its task; a task is pinned exactly while it has a wish;
    progress is due exactly for tasks with a joined wish; a limit is kept only for a task that has none, and not for
    ever.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._wishes: dict[tuple[bytes, int], Wish] = {}
        self._by_task: dict[TaskId, list[Wish]] = {}
        self._meters: dict[TaskId, _Meter] = {}
        self._due: AlarmedDeadlines[TaskId] = AlarmedDeadlines(alarm)
        #: task → the limit of the last get that was left
        self._kept_limits: dict[TaskId, int] = {}
        self._kept_until: AlarmedDeadlines[TaskId] = AlarmedDeadlines(alarm)

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, client: bytes, message: Get, task: TaskId, now: float) -> Wish:
        """A new get; (client, get) must be free."""
        wish = Wish(
            client,
            message.get,
            task,
            message.request,
            credential(message.request),
            message.limit,
            message.no_source,
            now,
            message.unwatched,
        )
        self._wishes[client, message.get] = wish
        self._by_task.setdefault(task, []).append(wish)
        return wish

    def find(self, client: bytes, get: int) -> Wish | None:
        """The get of this client."""
        return self._wishes.get((client, get))

    def of_client(self, client: bytes) -> list[Wish]:
        """All it asked for."""
        return [wish for wish in self._wishes.values() if wish.client == client]

    def of_task(self, task: TaskId, standing: Standing | None = None) -> list[Wish]:
        """Who asked for it; with a standing, only those."""
        return [w for w in self._by_task.get(task, ()) if standing is None or w.standing == standing]

    def wants(self, task: TaskId) -> bool:
        """Anybody at all has this task in use."""
        return task in self._by_task

    def may_read(self, task: TaskId) -> bool:
        """Anybody who asked for it may go to the source for it."""
        return any(not wish.no_source for wish in self._by_task.get(task, ()))

    def join(self, wish: Wish, now: float) -> None:
        """The download under way is this wish's too; progress follows soon."""
        wish.standing = "joined"
        self._kept_limits.pop(wish.task, None)
        self._kept_until.clear(wish.task)
        self._meters.setdefault(wish.task, _Meter(now))
        self._due.set(wish.task, now + self._wait(wish.task, FIRST_PROGRESS_SECONDS))

    def unseat(self, wish: Wish) -> None:
        """The download it had joined is over, and was none for it: it waits for the next."""
        wish.standing = "waiting"
        self._quiet(wish.task)

    def remove(self, wish: Wish) -> None:
        """Released, refused, or its client is lost."""
        del self._wishes[wish.client, wish.get]
        wishes = self._by_task[wish.task]
        wishes.remove(wish)
        if not wishes:
            del self._by_task[wish.task]
        self._quiet(wish.task)

    def leave(self, wish: Wish, now: float) -> None:
        """Its client wants it no more, done or not. What was set going for it may go on for a while, at its limit."""
        self.remove(wish)
        if wish.standing == "joined" and wish.limit and wish.task not in self._meters:
            self._kept_limits[wish.task] = wish.limit
            self._kept_until.set(wish.task, now + LIMIT_KEPT_SECONDS)

    def _quiet(self, task: TaskId) -> None:
        if not self.of_task(task, "joined"):
            self._meters.pop(task, None)
            self._due.clear(task)

    def limit_of(self, task: TaskId) -> int:
        """Bytes per second for the task: the largest of its wishes' limits, or of the last one for a while; 0 none."""
        limits = [wish.limit for wish in self.of_task(task, "joined")] or [self._kept_limits.get(task, 0)]
        return 0 if 0 in limits else max(limits)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    def done(self, task: TaskId, path: str, length: int, generation: bytes, receipt: Receipt) -> list[PeerEffect]:
        """The content stands at `path`: tell those who joined; it is kept for them."""
        effects: list[PeerEffect] = []
        for wish in self.of_task(task, "joined"):
            wish.standing, wish.generation = "kept", generation
            message = Done(get=wish.get, path=path, length=length, task=task, generation=generation, receipt=receipt)
            effects.append(TellClient(wish.client, message))
        self._quiet(task)
        return effects

    def sorry(self, wishes: Iterable[Wish], code: str, text: str, retry_after: float = 0.0) -> list[PeerEffect]:
        """They cannot have it."""
        effects: list[PeerEffect] = []
        for wish in list(wishes):
            self.remove(wish)
            effects.append(
                TellClient(wish.client, Sorry(get=wish.get, code=code, text=text[:2048], retry_after=retry_after))
            )
        return effects

    # ── progress ──────────────────────────────────────────────────────────────────────────────────────────────

    def next_deadline(self) -> float | None:
        """When progress is due, or a kept limit is over."""
        return min((at for at in (self._due.next(), self._kept_until.next()) if at is not None), default=None)

    def _wait(self, task: TaskId, seconds: float) -> float:
        """Until progress is due, `seconds` where somebody watches."""
        return seconds if any(not wish.is_unwatched for wish in self.of_task(task, "joined")) else UNWATCHED_SECONDS

    def due(self, now: float) -> list[TaskId]:
        """Tasks whose progress is due now; `progress` is to be called for each."""
        for task in self._kept_until.due(now):
            del self._kept_limits[task]
        return self._due.due(now)

    def progress(
        self, task: TaskId, length: int | None, held: int, parents: int, receipt: Receipt, now: float
    ) -> list[PeerEffect]:
        """Tell how far it is, if that is news."""
        meter = self._meters[task]
        self._due.set(task, now + self._wait(task, PROGRESS_SECONDS))
        # What an earlier life left was not fetched, however fast it is there.
        fetched = held - receipt.from_store
        if now > meter.at:
            rate = max(0, fetched - meter.fetched) / (now - meter.at)
            known = meter.bytes_per_second
            meter.bytes_per_second = known + RATE_SHARE * (rate - known) if known else rate
        meter.at, meter.fetched = now, fetched
        if (length, held, parents) == meter.said and now - meter.said_at < LEAST_OFTEN_SECONDS:
            return []
        meter.said, meter.said_at = (length, held, parents), now
        return [
            TellClient(
                wish.client,
                Progress(
                    get=wish.get,
                    length=length,
                    held=held,
                    bytes_per_second=int(meter.bytes_per_second),
                    parents=parents,
                    receipt=receipt,
                ),
            )
            for wish in self.of_task(task, "joined")
        ]

    def check(self) -> None:
        """See the class's law."""
        if sorted(map(id, self._wishes.values())) != sorted(id(w) for ws in self._by_task.values() for w in ws):
            raise InvariantViolated("gets by client and by task differ")
        for task, wishes in self._by_task.items():
            if not wishes or any(wish.task != task for wish in wishes):
                raise InvariantViolated(f"task {task.hex()}: a get stands under another task")
        joined = {wish.task for wish in self._wishes.values() if wish.standing == "joined"}
        if joined != set(self._meters) or any(self._due.at(task) is None for task in joined):
            raise InvariantViolated("progress is due for other tasks than those being fetched")
        if joined & set(self._kept_limits) or any(self._kept_until.at(task) is None for task in self._kept_limits):
            raise InvariantViolated("the limit of a get that was left is kept beside others, or for ever")
