"""The talk with the broker: Hello until welcomed, beats, silence. What is said anew on a welcome is the machine's."""

from __future__ import annotations

import random
from typing import Literal

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import NextBroker, PeerEffect, Record, TellBroker
from dfmq.machines.peer.alarm import Alarm
from dfmq.model.host import HostSample
from dfmq.wire.messages import Beat, BeatSeen, Hello, Message, Welcome

State = Literal["fresh", "greeting", "welcomed", "silent"]
Kind = Literal["bound", "due", "welcome", "quiet", "stranger"]

#: (state, what happened) → state. What is not here is no news.
TABLE: dict[tuple[State, Kind], State] = {
    # the sockets are there: the first Hello
    ("fresh", "bound"): "greeting",
    # no Welcome came in time: the next broker, the same Hello
    ("greeting", "due"): "greeting",
    ("greeting", "welcome"): "welcomed",
    # a new epoch, told without our asking
    ("welcomed", "welcome"): "welcomed",
    # three beats without an answer
    ("welcomed", "quiet"): "silent",
    # the broker says it does not know us, or speaks another version: Hello at once
    ("welcomed", "stranger"): "greeting",
    ("silent", "due"): "silent",
    ("silent", "welcome"): "welcomed",
}

#: Seconds until Hello is said again: doubling from the first to the last, ± a quarter so that many peers do not come
#: at once. A LAN answers in a millisecond; a WAN connection with its handshakes may take a second.
FIRST_BACKOFF = 0.25
LAST_BACKOFF = 5.0
#: Beats without an answer after which the broker is silent (design, section 5: "a peer not heard for three beats").
QUIET_BEATS = 3
#: Seconds between beats while downloads are under way: the control round trip is measured with them.
ACTIVE_BEAT_SECONDS = 1.0
#: After a download's first, the next comes so soon, then each after twice the time: the first meets an idle uplink and
#: says nothing of the queue there will be. 0.1 instead of 0.25: 20 peers, 5 MB at 20 Mbit/s with 150 ms of queue 1.35
#: times size/rate instead of 1.40, 40 peers and 20 MB 1.075 instead of 1.077.
FIRST_ACTIVE_SECONDS = 0.1
#: How much a new sample of the round trip counts when it is longer than what is known, and when it is shorter. Too few
#: leases in flight cost more than too many: 40 peers, 20 MB at 20 Mbit/s with 150 ms of queue, mean completion in
#: multiples of size/rate 1.09, with a share of 0.3 and beats a second apart 1.12.
RISING_SHARE = 0.7
FALLING_SHARE = 0.3
#: A round trip that has grown by so much is a queue that was not there, not the noise of a LAN.
NOTABLE_SECONDS = 0.02
#: Seconds a get waits for a broker: one that never had a word from it, and one that was opened and goes on with
#: what it knows, counted from the last byte that came.
FIRST_PATIENCE_SECONDS = 10.0
LATER_PATIENCE_SECONDS = 60.0
#: Beats whose answers are still waited for.
MOST_STAMPS = 8


class Session:
    """One peer's standing with its broker.

    Law: the state changes only along TABLE; at most one Hello is unanswered, and just in greeting and silent; nothing
    but Hello is said to a broker that has not welcomed us.
    """

    def __init__(self, rng: random.Random, alarm: Alarm) -> None:
        self.state: State = "fresh"
        self.epoch = 0
        #: since when no broker has us; None: one has
        self.unwelcome_since: float | None = None
        #: smoothed control round trip, seconds; 0.0 unknown
        self.round_trip = 0.0
        #: when the broker last said to all that it is behind with reading
        self.behind_at = float("-inf")
        #: what its last answer to a Beat says of that
        self.is_broker_behind = False
        self.sample = HostSample()
        #: the version that a broker spoke since the last Welcome, where it was another than ours; 0 none did
        self.other_version = 0
        #: Hellos in a row that were answered in another version
        self.misunderstandings = 0
        self._is_misunderstood = False
        self._rng = rng
        self._hello: Hello | None = None
        self._hellos_unanswered = 0
        self._tries = 0
        self._beat_seconds = 2.0
        #: seconds until the next beat while downloads are under way
        self._active_seconds = ACTIVE_BEAT_SECONDS
        self._alarm = alarm
        self._due_at: float | None = None
        self._heard_at = 0.0
        #: when the last beat was said
        self._beat_at = float("-inf")
        self._beats_unanswered = 0
        self._stamp = 0
        self._sent_at_by_stamp: dict[int, float] = {}

    @property
    def is_welcomed(self) -> bool:
        """A broker has us."""
        return self.state == "welcomed"

    def is_doubtful(self, now: float) -> bool:
        """No broker has us; or the one that has was not heard for half the time after which it counts as silent."""
        return self.state != "welcomed" or now - self._heard_at >= QUIET_BEATS * self._beat_seconds / 2

    def tell(self, message: Message) -> list[PeerEffect]:
        """Say it, if there is a broker to say it to; whoever welcomes us later is told everything anew."""
        return [TellBroker(message)] if self.state == "welcomed" else []

    def bound(self, hello: Hello, now: float) -> list[PeerEffect]:
        """Our addresses are known: say Hello."""
        self._hello = hello
        self.unwelcome_since = now
        return self._go("bound", now)

    def welcomed(self, message: Welcome, now: float) -> tuple[list[PeerEffect], bool]:
        """The broker has us. (effects, whether everything is to be said anew)"""
        is_news = self.state != "welcomed" or message.epoch != self.epoch
        self.heard(now)
        self.epoch = message.epoch
        self._beat_seconds = max(0.05, message.beat_seconds)
        effects = self._go("welcome", now) if is_news else []
        return effects, bool(effects)

    def heard(self, now: float) -> None:
        """Anything from the broker proves that it lives."""
        self._heard_at = now
        self._beats_unanswered = 0

    def lives(self, epoch: int, now: float) -> None:
        """A notice says that the broker with this epoch lives, and has much to read before it can answer."""
        if self.state == "welcomed" and epoch == self.epoch:
            self.behind_at = now
            self.heard(now)

    def unknown(self, now: float) -> list[PeerEffect]:
        """The broker says it does not know us."""
        return self._go("stranger", now)

    def misunderstood(self, version: int, now: float) -> list[PeerEffect]:
        """The broker speaks another version. One that had us, and was replaced at its address, has us no more."""
        self.other_version = version
        if self.state != "welcomed" and not self._is_misunderstood:
            self._is_misunderstood = True
            self.misunderstandings += 1
        return self._go("stranger", now)

    def beat_seen(self, message: BeatSeen, now: float) -> bool:
        """The echo of a Beat: the control round trip. Whether that is notably longer than was known."""
        self.is_broker_behind = message.behind
        sent_at = self._sent_at_by_stamp.pop(message.stamp, None)
        if sent_at is None:
            return False
        taken = now - sent_at
        known = self.round_trip
        share = RISING_SHARE if taken > known else FALLING_SHARE
        self.round_trip = taken if known == 0.0 else known + share * (taken - known)
        return self.round_trip > known + NOTABLE_SECONDS

    def hasten(self, now: float) -> None:
        """A download begins: beat at once, so that the round trip is known soon. Where small ones begin one after the
        other, not for each of them."""
        self._active_seconds = FIRST_ACTIVE_SECONDS
        at = max(now, self._beat_at + FIRST_ACTIVE_SECONDS)
        is_soon = self._due_at is not None and now <= self._due_at <= at
        if self.state == "welcomed" and not is_soon:
            self._due_at = self._alarm.by(at)

    def next_deadline(self) -> float | None:
        """When a beat or the next Hello is due."""
        return self._due_at

    def deadline(self, now: float, *, is_active: bool, down_rate: int, up_rate: int) -> list[PeerEffect]:
        """Beat, or say Hello again. `is_active`: downloads are under way."""
        if self._due_at is None or now < self._due_at:
            return []
        if self.state != "welcomed":
            return self._go("due", now)
        # Counted in beats as well, so that a peer that slept itself does not take its own silence for the broker's.
        if self._beats_unanswered >= QUIET_BEATS and now - self._heard_at >= QUIET_BEATS * self._beat_seconds:
            return self._go("quiet", now)
        wait = self._beat_seconds
        if is_active and self.round_trip < ACTIVE_BEAT_SECONDS:
            # A broker that takes longer to answer has enough to read.
            wait = min(self._active_seconds, wait)
        self._due_at = self._alarm.by(now + wait)
        self._active_seconds = min(2 * self._active_seconds, ACTIVE_BEAT_SECONDS)
        self._beats_unanswered += 1
        self._beat_at = now
        self._stamp += 1
        if len(self._sent_at_by_stamp) >= MOST_STAMPS:
            del self._sent_at_by_stamp[next(iter(self._sent_at_by_stamp))]
        self._sent_at_by_stamp[self._stamp] = now
        return [TellBroker(Beat(stamp=self._stamp, sample=self.sample, down_rate=down_rate, up_rate=up_rate))]

    def _go(self, kind: Kind, now: float) -> list[PeerEffect]:
        """Take one step of the table, with what belongs to the new state."""
        before, after = self.state, TABLE.get((self.state, kind))
        if after is None or self._hello is None:
            return []
        self.state = after
        if after == "welcomed":
            self.unwelcome_since = None
            self._tries = self._hellos_unanswered = self._beats_unanswered = 0
            self.other_version = self.misunderstandings = 0
            self._is_misunderstood = self.is_broker_behind = False
            self._sent_at_by_stamp.clear()
            self._due_at = self._alarm.by(now)
            return [Record("session.welcomed", {"epoch": self.epoch})]
        effects: list[PeerEffect] = []
        if before == "welcomed":
            self.unwelcome_since = now
            self._tries = 0
            if after == "silent":
                effects.append(Record("session.silent", {"seconds": round(now - self._heard_at, 3)}))
        if kind in ("due", "quiet"):
            # The connection made anew takes an unanswered Hello with it.
            self._hellos_unanswered = 0
            effects.append(NextBroker())
        self._hellos_unanswered += 1
        if not self._is_misunderstood:
            self.misunderstandings = 0
        self._is_misunderstood = False
        effects.append(TellBroker(self._hello))
        wait = min(LAST_BACKOFF, FIRST_BACKOFF * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        self._due_at = self._alarm.by(now + wait * (0.75 + 0.5 * self._rng.random()))
        return effects

    def check(self) -> None:
        """See the class's law."""
        awaits = self.state in ("greeting", "silent")
        if self._hellos_unanswered != int(awaits):
            raise InvariantViolated(f"session {self.state}: {self._hellos_unanswered} Hellos are unanswered")
        if (self.unwelcome_since is None) != (self.state in ("fresh", "welcomed")):
            raise InvariantViolated(f"session {self.state}: unwelcome since {self.unwelcome_since}")
        if awaits and self._due_at is None:
            raise InvariantViolated(f"session {self.state}: nothing is due, it would wait for ever")
