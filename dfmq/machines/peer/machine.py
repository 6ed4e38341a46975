"""The peer's one door: which part hears what, in which order, and what follows for the others. The parts decide."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from dfmq import __version__
from dfmq.errors import InvariantViolated
from dfmq.machines import events as told
from dfmq.machines.effects import PeerEffect, Record, StoreChunk, TellBroker
from dfmq.machines.events import PeerEvent
from dfmq.machines.peer import views
from dfmq.machines.peer.alarm import NEVER, Alarm
from dfmq.machines.peer.fetching import Fetching
from dfmq.machines.peer.gets import Gets
from dfmq.machines.peer.holding import Holdings
from dfmq.machines.peer.intake import Intake
from dfmq.machines.peer.keeping import Keeping
from dfmq.machines.peer.neighbours import Neighbours
from dfmq.machines.peer.orders import Orders
from dfmq.machines.peer.pressure import PressureGauge
from dfmq.machines.peer.purse import Purse
from dfmq.machines.peer.session import Session
from dfmq.machines.peer.upload import Upload
from dfmq.machines.peer.window import Window
from dfmq.model import pieces
from dfmq.model.ids import HostId, PeerId, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.settings import PeerSettings
from dfmq.wire.messages import (
    Bye,
    Credit,
    Error,
    Fetch,
    Get,
    Hello,
    Hint,
    Release,
    Stop,
)

Effects = list[PeerEffect]


class PeerMachine:
    """One peer.

    Law: those of its parts, and: whenever one content takes another's place, children and downloads of the old one are
    told in the same turn.
    """

    def __init__(
        self,
        settings: PeerSettings,
        peer: PeerId,
        host: HostId,
        rng: random.Random,
        *,
        is_seed: bool = False,
        seed_slots: int = 4,
        algorithm: str = "xxh3_128",
        name: str = "",
        cut: Callable[[int | None, int], PieceMap] = pieces.cut,
        remembered: int = 0,
    ) -> None:
        """`cut`: how a content of that length is cut for so many hosts, should we be the one who reads it;
        `remembered`: bytes per second, what `lasting_rate` said at the end of an earlier life."""
        self._settings = settings
        self._peer = peer
        self._host = host
        self._is_seed = is_seed
        self._seed_slots = seed_slots
        self._name = name
        alarm = self._alarm = Alarm()
        self._holdings = Holdings()
        self._session = Session(rng, alarm)
        self._window = Window()
        self._purse = Purse(self._window, settings.store.write_behind_bytes, settings.down_limit, alarm)
        self._intake = Intake(self._holdings, self._window, self._purse, alarm, remembered)
        self._neighbours = Neighbours(peer, rng, alarm)
        self._upload = Upload(self._holdings, settings.up_limit, alarm)
        self._gets = Gets(settings, self._holdings, self._session, self._intake, self._neighbours, alarm)
        clients = self._gets.clients
        self._fetching = Fetching(
            self._holdings, settings.source, algorithm, rng, alarm, cut,
            clients.limit_of, clients.wants, clients.may_read,
        )  # fmt: skip
        self._gauge = PressureGauge()
        keeping = self._keeping = Keeping(
            self._holdings, self._session, self._gets, self._intake, self._upload, self._fetching, self._neighbours
        )
        self._orders = Orders(
            settings, algorithm, self._holdings, self._session, self._gets, self._fetching, self._neighbours, keeping
        )
        self._downloads = self._gets.downloads
        #: when something was last asked of us
        self._used_at = 0.0
        self._doors: dict[type, Callable[[Any, float], Effects]] = {
            told.ChunkArrived: self._chunk_arrived,
            told.ChunksStored: keeping.stored,
            told.ChildSaid: self._child_said,
            told.ChunkUnsent: lambda event, now: self._upload.unsent(event.lease, now),
            told.SourceChunk: keeping.source_chunk,
            told.DeadlineReached: self._deadline,
            told.BrokerSaid: self._orders.heard,
            told.ParentSaid: self._parent_said,
            told.NeighbourHinted: self._hinted,
            told.NeighbourListens: self._listened_to,
            told.NoticeHeard: self._orders.noticed,
            told.ClientSaid: self._client_said,
            told.ClientLost: lambda event, now: self._gets.lost(event.client, now) + self._fetching.pace(),
            told.StoreLoaded: keeping.loaded,
            told.StoreOpened: keeping.opened,
            told.StoreFailed: keeping.failed,
            told.ContentProved: keeping.proved,
            told.StoreDoubted: keeping.doubted,
            told.StoreDamaged: keeping.damaged,
            told.SourceAnswered: keeping.answered,
            told.SourceEnded: keeping.answered,
            told.SourceBroke: keeping.answered,
            told.HostSampled: self._sampled,
        }

    # ── the door ──────────────────────────────────────────────────────────────────────────────────────────────

    def bound(self, exchange: str, inbox: str, hints: str, now: float) -> list[PeerEffect]:
        """The sockets are bound: this is where we are reached. To be called once, before any event."""
        settings = self._settings
        self._purse.inbox = inbox
        self._neighbours.exchange, self._neighbours.hints = exchange, hints
        self._used_at = now
        hello = Hello(
            peer=self._peer,
            host=self._host,
            exchange=exchange,
            hints=hints,
            name=self._name,
            seed=self._is_seed,
            slots=self._seed_slots if self._is_seed else settings.slots,
            up_limit=settings.up_limit,
            down_limit=settings.down_limit,
            zone=settings.zone,
            software=f"dfmq {__version__}",
        )
        return self._session.bound(hello, now)

    def handle(self, event: PeerEvent, now: float) -> Sequence[PeerEffect]:
        """Take one fact; answer with what is to be done."""
        effects = self._doors[type(event)](event, now)
        if self._holdings.changed:
            effects += self._keeping.changed(now)
        if effects and self._session.state != "welcomed":
            # Whoever welcomes us is told everything anew; until then nobody would understand.
            return [e for e in effects if type(e) is not TellBroker or type(e.message) is Hello]
        return effects

    def next_deadline(self) -> float | None:
        """When to call with DeadlineReached at the latest."""
        return None if self._alarm.at == NEVER else self._alarm.at

    def _soonest(self) -> float:
        """The soonest instant any part waits for; asked for when the alarm has rung."""
        instants = (
            self._session.next_deadline(),
            self._intake.next_deadline(),
            self._purse.next_deadline(),
            self._gets.next_deadline(),
            self._upload.next_deadline(),
            self._fetching.next_deadline(),
            self._neighbours.next_deadline(),
        )
        return min((at for at in instants if at is not None), default=NEVER)

    def _deadline(self, _: told.DeadlineReached, now: float) -> Effects:
        alarm = self._alarm
        if alarm.at > now:
            return []
        alarm.at = self._soonest()
        if alarm.at > now:
            return []
        effects = self._due(now)
        alarm.at = self._soonest()
        return effects

    def _due(self, now: float) -> Effects:
        """Something is due, or several things."""
        session = self._session
        effects = self._intake.deadline(now) + self._purse.deadline(now) + self._upload.deadline(now)
        effects += self._neighbours.deadline(self._holdings, now)
        fetching_at = self._fetching.next_deadline()
        if fetching_at is not None and fetching_at <= now:
            effects += self._fetching.deadline(now)
        state = session.state
        up_rate = self._intake.up_rate = self._upload.meter.rate(now)
        down_rate = self._intake.meter.expected(now)
        beat = session.deadline(now, is_active=bool(self._downloads), down_rate=down_rate, up_rate=up_rate)
        for download in self._downloads.values() if beat else ():
            # What waited to be said with others waits no longer than this.
            effects += download.say_held()
        effects += beat
        if state == "welcomed" and session.state != "welcomed":
            effects += self._orders.lost_broker(now)
        effects += self._neighbours.heed(is_of_use=session.is_doubtful(now))
        return effects + self._gets.deadline(now) + self._fetching.pace()

    # ── chunks ────────────────────────────────────────────────────────────────────────────────────────────────

    def _chunk_arrived(self, event: told.ChunkArrived, now: float) -> Effects:
        effects = self._intake.arrived(event, now)
        if effects and type(first := effects[0]) is StoreChunk and self._upload.active:
            effects += self._upload.chunk_proven(first.task, first.piece, first.chunk, now)
        return effects

    def _child_said(self, event: told.ChildSaid, now: float) -> Effects:
        self._used_at = now
        message = event.message
        return self._upload.child_said(event.child, message, now) if isinstance(message, Fetch | Credit | Stop) else []

    def _parent_said(self, event: told.ParentSaid, now: float) -> Effects:
        message = event.message
        if isinstance(message, Stop):
            inflow = self._intake.inflows.get(message.lease)
            if inflow is None or inflow.lease.endpoint != event.endpoint:
                return []
            task, lease, text = inflow.owner.task, message.lease, f"the parent says {message.code}"
            return self._gets.of(task, now, lambda d: d.leases.lost_parent(event.endpoint, lease, text, now))
        if not isinstance(message, Error):
            return []
        effects: Effects = []
        for download in list(self._downloads.values()):
            text = f"the parent says {message.code}: {message.text}"
            lost = download.leases.lost_parent(event.endpoint, None, text, now)
            effects += self._gets.settle(download, lost, now)
        return effects

    # ── neighbours ────────────────────────────────────────────────────────────────────────────────────────────

    def _hinted(self, event: told.NeighbourHinted, now: float) -> Effects:
        message = event.message
        if not isinstance(message, Hint):
            return []
        task = TaskId(message.task)
        is_news = self._neighbours.heard(message, self._holdings.get(task))
        if not is_news or self._session.is_welcomed:
            return []
        return self._gets.of(task, now, lambda download: download.look(now))

    def _listened_to(self, event: told.NeighbourListens, now: float) -> Effects:
        holding = self._holdings.get(event.task)
        if holding is not None:
            self._neighbours.asked(holding, now)
        return []

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _client_said(self, event: told.ClientSaid, now: float) -> Effects:
        self._used_at = now
        client, message = event.client, event.message
        if isinstance(message, Get):
            return self._gets.get(client, message, now) + self._fetching.pace()
        if isinstance(message, Release):
            return self._gets.release(client, message, now) + self._fetching.pace()
        return []

    # ── the host ──────────────────────────────────────────────────────────────────────────────────────────────

    def _sampled(self, event: told.HostSampled, now: float) -> Effects:
        self._session.sample = event.sample
        up_rate, down_rate = self._upload.meter.rate(now), self._intake.meter.rate(now)
        level = self._gauge.see(event.sample, now, own_in=down_rate, own_out=up_rate)
        if level is None:
            return []
        self._window.press(level)
        self._upload.pressure(level)
        return [Record("host.pressed", {"level": level}), *self._intake.pressed(now)]

    # ── views ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_welcomed(self) -> bool:
        """A broker has us."""
        return self._session.is_welcomed

    @property
    def lasting_rate(self) -> int:
        """How fast this host has received, for a later life to begin with; bytes per second, 0 not known."""
        return self._intake.meter.lasting

    def is_idle_since(self, now: float) -> float | None:
        """Since when nothing is asked of this peer; None: a client, a download or an upload is at it."""
        if len(self._gets.clients) or self._upload.active or self._fetching.reads_any:
            self._used_at = now
            return None
        return self._used_at

    def status(self, now: float) -> dict[str, Any]:
        """What is going on, in plain values, for people and tests."""
        return {
            "session": self._session.state,
            "pressure": self._gauge.level,
            "tasks": len(self._holdings),
            "gets": len(self._gets.clients),
            "downloads": views.downloads(self._downloads),
            "bytes": views.received(self._downloads),
            "inflows": len(self._intake.inflows),
            "streams": self._upload.active,
            "credit_out": self._purse.out,
            "down_rate": self._intake.meter.rate(now),
            "up_rate": self._upload.meter.rate(now),
        }

    def leave(self, now: float) -> list[PeerEffect]:
        """The peer goes, in order: clients that wait are told, parents stopped, the broker greeted."""
        text = "the host's peer was stopped; get it again to go on from here"
        effects = self._gets.fail(lambda _: True, "interrupted", text, now)
        return effects + self._session.tell(Bye())

    def check(self) -> None:
        """See the class's law."""
        self._session.check()
        self._window.check()
        self._holdings.check()
        self._intake.check()
        self._neighbours.check()
        self._upload.check()
        self._fetching.check()
        self._gauge.check()
        self._gets.check()
        self._alarm.check(self._soonest())
        if self._holdings.changed:
            raise InvariantViolated("a content has changed, and nobody was told")
