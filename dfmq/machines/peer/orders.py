"""What the broker says, and who of the peer has to hear of it: downloads, gets, the read under way, the session. How
each of them takes it is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dfmq import __version__
from dfmq.machines import events as told
from dfmq.machines.effects import DropTask, PeerEffect, Record
from dfmq.machines.peer.fetching import Fetching
from dfmq.machines.peer.gets import Gets
from dfmq.machines.peer.holding import Holdings
from dfmq.machines.peer.keeping import Keeping
from dfmq.machines.peer.neighbours import Neighbours
from dfmq.machines.peer.session import Session
from dfmq.model.ids import TaskId
from dfmq.model.pieces import PieceMap, flaw
from dfmq.model.settings import PeerSettings
from dfmq.wire.messages import (
    BeatSeen,
    Close,
    Error,
    Grant,
    Notice,
    Opened,
    Permit,
    Quit,
    Refused,
    Revoke,
    Sealed,
    Welcome,
)

Effects = list[PeerEffect]


class Orders:
    """The broker's word, by what it is about.

    Law: a broker that is new to us, or to which we are, is told everything anew; when none has us, no permit stands and
    nobody owes us leases.
    """

    def __init__(
        self,
        settings: PeerSettings,
        algorithm: str,
        holdings: Holdings,
        session: Session,
        gets: Gets,
        fetching: Fetching,
        neighbours: Neighbours,
        keeping: Keeping,
    ) -> None:
        """`algorithm`: of the chunk digests this node computes."""
        self._brokers = settings.brokers
        self._algorithm = algorithm
        self._holdings = holdings
        self._session = session
        self._gets = gets
        self._fetching = fetching
        self._neighbours = neighbours
        self._keeping = keeping
        self._doors: dict[type, Callable[[Any, float], Effects]] = {
            Welcome: self._welcomed,
            Opened: self._opened,
            Refused: self._refused,
            Grant: self._granted,
            Revoke: lambda m, now: self._gets.of(m.task, now, lambda d: d.leases.revoked(m, now)),
            Permit: lambda m, now: self._keeping.fetched(self._fetching.permitted, m, now, TaskId(m.task)),
            Quit: lambda m, now: self._keeping.fetched(self._fetching.quit, m, now, TaskId(m.task)),
            BeatSeen: self._beat_seen,
            Sealed: lambda m, now: self._keeping.sealed(TaskId(m.task), m.generation, m.length, now),
            Error: self._broker_erred,
        }

    def heard(self, event: told.BrokerSaid, now: float) -> Effects:
        """The broker said something: it lives."""
        self._session.heard(now)
        door = self._doors.get(type(event.message))
        return door(event.message, now) if door is not None else []

    def _welcomed(self, message: Welcome, now: float) -> Effects:
        effects, is_news = self._session.welcomed(message, now)
        self._neighbours.welcomed()
        if not is_news:
            return effects
        effects += self._fetching.forget_broker(now)
        for download in self._gets.downloads.values():
            effects += download.welcomed(now)
        for task, holding in self._holdings.items():
            if holding.held and task not in self._gets.downloads:
                effects += self._keeping.say_held(holding)
        return effects

    def lost_broker(self, now: float) -> Effects:
        """No broker has us any more: permits are void, neighbours are all there is."""
        effects = self._neighbours.heed(is_of_use=True)
        effects += self._fetching.forget_broker(now) + self._neighbours.remind(self._holdings, now)
        for download in self._gets.downloads.values():
            effects += download.broker_silent(now)
        return effects

    def _opened(self, message: Opened, now: float) -> Effects:
        task = TaskId(message.task)
        holding, download = self._holdings.get(task), self._gets.downloads.get(task)
        if flaw(PieceMap(message.length, message.piece_length, message.chunk_length)):
            return [Record("message.refused", {"code": "malformed", "op": "opened", "task": task})]
        if download is None:
            if holding is None or holding.content.generation == message.generation or self._fetching.reads(task):
                return []
            # What we hold is out of date, and nobody here wants what there is now.
            del self._holdings[task]
            return self._gets.guard([DropTask(task)])
        if message.algorithm != self._algorithm:
            text = f"the broker's content is proven by {message.algorithm}, this peer computes {self._algorithm}"
            download.fail("transfer", text)
            return self._gets.settle(download, [], now)
        if (
            holding is not None
            and holding.content.generation == message.generation
            and holding.cut.length is None
            and message.length is not None
            and not holding.may_end_at(message.length)
        ):
            # We ask again, with nothing; what follows is begun by the answer to that.
            return self._keeping.contradicted(task, now)
        return self._gets.guard(self._gets.settle(download, download.opened(message, now), now))

    def _granted(self, message: Grant, now: float) -> Effects:
        if TaskId(message.task) not in self._gets.downloads:
            # It crossed our Close, or that was lost.
            return self._session.tell(Close(task=message.task))
        return self._gets.of(message.task, now, lambda download: download.granted(message, now))

    def _refused(self, message: Refused, now: float) -> Effects:
        download = self._gets.downloads.get(TaskId(message.task))
        if download is None:
            return []
        download.refused(message)
        return self._gets.settle(download, [], now)

    def _beat_seen(self, message: BeatSeen, now: float) -> Effects:
        effects: Effects = []
        if not self._session.beat_seen(message, now):
            return effects
        # A longer round trip wants more leases, and not only when the next piece has come. (With a look after each
        # echo 200 peers on a LAN took 1.041 times size/rate instead of 1.023.)
        for download in list(self._gets.downloads.values()):
            effects += self._gets.settle(download, download.look(now), now)
        return effects

    def _broker_erred(self, message: Error, now: float) -> Effects:
        if message.code == "unknown_peer":
            effects = self._session.unknown(now)
            return effects + self.lost_broker(now) if effects else []
        if message.code == "version":
            if effects := self._session.misunderstood(message.version, now):
                return effects + self.lost_broker(now)
            if self._session.misunderstandings < len(self._brokers):
                # Others may understand us.
                return []
            text = (
                f"the broker at {', '.join(self._brokers) or 'this process'} speaks protocol version"
                f" {message.version}, this peer (dfmq {__version__}) another; bring both to the same release"
            )
            return self._gets.fail(lambda _: True, "broker_unreachable", text, now)
        effects = []
        if message.code == "unknown_task":
            for download in self._gets.downloads.values():
                effects += download.unknown(now)
        return effects

    def noticed(self, event: told.NoticeHeard, now: float) -> Effects:
        """A broker published something: that it lives and is behind, or what the control socket brings as well."""
        message = event.message
        if isinstance(message, Notice) and message.kind == "behind":
            self._session.lives(message.epoch, now)
        return []
