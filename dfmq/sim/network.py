"""The wires between hosts on a virtual clock: rates, latencies, turns, cuts. Knows sizes, no messages, no machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from dfmq.sim.agenda import Agenda

#: What TCP, IP and ZMTP add to a message of one or two frames; octets.
ENVELOPE_BYTES = 80
#: A flight shorter than this is booked at the receiver when it starts; a longer one when its first byte comes in.
#: (Booking at once saves one call in three; it is inexact by at most this, when latencies differ.)
BOOKED_AHEAD_SECONDS = 0.005


class Card:
    """A host's way to the network.

    Law: bulk messages occupy the uplink one after the other, destinations in turns; a control message goes between
    the packets of a bulk message and takes its time away from the bulk.
    """

    __slots__ = (
        "bulk_out", "control_down_free", "control_up_free", "cut_until", "down", "down_free", "latency", "loses",
        "name", "queues", "received_bytes", "sent_bytes", "turning", "turns", "up", "up_free", "zone",
    )  # fmt: skip

    def __init__(self, name: str, up: float, down: float, latency: float, zone: str = "") -> None:
        """`up`, `down`: bytes per second; `latency`: seconds from this card to the middle of the network."""
        self.name = name
        self.up = up
        self.down = down
        self.latency = latency
        self.zone = zone
        self.up_free = 0.0
        self.down_free = 0.0
        #: when the bulk that was begun is all out
        self.bulk_out = 0.0
        self.control_up_free = 0.0
        self.control_down_free = 0.0
        #: destination key → messages that wait for the uplink
        self.queues: dict[Any, list[Bulk]] = {}
        #: the destinations that wait, in turn
        self.turns: deque[Any] = deque()
        #: a call to `_turn` is entered
        self.turning = False
        #: no byte passes before this instant
        self.cut_until = 0.0
        #: while cut, messages are lost (the connection breaks) instead of held (TCP sends them again)
        self.loses = False
        self.sent_bytes = 0
        self.received_bytes = 0


#: A message: to whom, how long, and what to call at its arrival with which arguments.
Bulk = tuple[Card, int, Callable[..., None], tuple[Any, ...]]


class Pipe:
    """The thin way between two zones, both directions together. Law: it carries one message after the other, of those
    that wait each pair of hosts in turn, as TCP connections share a link."""

    def __init__(self, agenda: Agenda, rate: float) -> None:
        """`rate`: bytes per second."""
        self._agenda = agenda
        self._rate = rate
        self._busy = False
        #: (from, to) → (octets, what to call when the first is let in), in order
        self._queues: dict[tuple[Card, Card], deque[tuple[int, Callable[[float], None]]]] = {}

    def enter(self, sender: Card, receiver: Card, size: int, through: Callable[[float], None]) -> None:
        """A message comes. `through` is called when its first octet is let in, with the seconds it takes."""
        self._queues.setdefault((sender, receiver), deque()).append((size, through))
        if not self._busy:
            self._turn()

    def _turn(self) -> None:
        self._busy = bool(self._queues)
        if not self._busy:
            return
        pair = next(iter(self._queues))
        queue = self._queues.pop(pair)
        size, through = queue.popleft()
        if queue:
            self._queues[pair] = queue
        self._agenda.after(size / self._rate, self._turn)
        through(size / self._rate)


class Network:
    """All cards, and thin pipes between zones where there are any."""

    def __init__(self, agenda: Agenda, rng: Random, *, jitter: float = 0.0, uplink_queue: float = 0.0) -> None:
        """`jitter`: seconds, at most this is added to a control message's flight. `uplink_queue`: seconds that a
        control message of a peer waits in its own host's queue while that host sends bulk (a shaped or WAN uplink)."""
        self.agenda = agenda
        self.rng = rng
        self.jitter = jitter
        self.uplink_queue = uplink_queue
        #: (zone, zone), the lesser name first
        self.pipes: dict[tuple[str, str], Pipe] = {}
        #: bytes of bulk messages from one zone into another
        self.crossed_bytes = 0
        #: (from, to) → when the last control message arrived: a connection keeps its order
        self._last: dict[tuple[Card, Card], float] = {}

    # ── control ───────────────────────────────────────────────────────────────────────────────────────────────

    def control(self, sender: Card, receiver: Card, size: int, deliver: Callable[..., None], *arguments: Any) -> bool:
        """Send a small message in order; `deliver` is called at its arrival. False: lost, the connection is cut."""
        now = self.agenda.now
        size += ENVELOPE_BYTES
        if sender is receiver:
            self.agenda.at(now, deliver, *arguments)
            return True
        blocked = max(sender.cut_until, receiver.cut_until)
        if blocked > now:
            if sender.loses or receiver.loses:
                return False
        else:
            blocked = now
        seconds = size / sender.up
        out = max(blocked, sender.control_up_free) + seconds
        sender.control_up_free = out
        sender.up_free = max(sender.up_free, now) + seconds
        sender.sent_bytes += size
        if self.uplink_queue and sender.bulk_out > now:
            out += self.uplink_queue * self.rng.uniform(0.8, 1.2)
        arrival = max(out + sender.latency + receiver.latency, receiver.control_down_free) + size / receiver.down
        receiver.control_down_free = arrival
        receiver.down_free = max(receiver.down_free, now) + size / receiver.down
        receiver.received_bytes += size
        if self.jitter or self.uplink_queue:
            way = (sender, receiver)
            arrival = max(arrival + self.rng.random() * self.jitter, self._last.get(way, 0.0))
            self._last[way] = arrival
        self.agenda.enter(arrival, deliver, arguments)
        return True

    # ── bulk ──────────────────────────────────────────────────────────────────────────────────────────────────

    def bulk(
        self, sender: Card, receiver: Card, key: Any, size: int, deliver: Callable[..., None], *arguments: Any
    ) -> None:
        """Send a chunk to the destination `key`, in turns with other destinations. `deliver` gets the instant its
        last byte left and then the arguments."""
        message = (receiver, size + ENVELOPE_BYTES, deliver, arguments)
        now = self.agenda.now
        if not sender.turns and sender.up_free <= now and sender.cut_until <= now:
            self._start(sender, message)
            return
        queue = sender.queues.get(key)
        if queue is None:
            sender.queues[key] = [message]
            sender.turns.append(key)
        else:
            queue.append(message)
        if not sender.turning:
            sender.turning = True
            self.agenda.at(max(sender.up_free, sender.cut_until), self._turn, sender)

    def forget(self, sender: Card, key: Any) -> None:
        """Drop what waits for this destination: its connection is gone."""
        if sender.queues.pop(key, None) is not None:
            sender.turns.remove(key)

    def silence(self, sender: Card) -> None:
        """Drop everything that waits to be sent: the process is gone."""
        sender.queues.clear()
        sender.turns.clear()

    def waiting(self, sender: Card) -> int:
        """How many chunks wait for the uplink."""
        return sum(len(queue) for queue in sender.queues.values())

    def _turn(self, sender: Card) -> None:
        turns = sender.turns
        free = max(sender.up_free, sender.cut_until)
        if turns and free <= self.agenda.now:
            key = turns.popleft()
            queue = sender.queues[key]
            message = queue.pop(0)
            if queue:
                turns.append(key)
            else:
                del sender.queues[key]
            self._start(sender, message)
            free = sender.up_free
        if turns:
            self.agenda.enter(free, self._turn, (sender,))
        else:
            sender.turning = False

    def _start(self, sender: Card, message: Bulk) -> None:
        now = self.agenda.now
        receiver, size, _, _ = message
        sender.sent_bytes += size
        if sender.zone != receiver.zone:
            self.crossed_bytes += size
        sent_at = sender.up_free = sender.bulk_out = now + size / sender.up
        if (receiver.cut_until > now and receiver.loses) or (sender.cut_until > now and sender.loses):
            return
        flight = sender.latency + receiver.latency
        if flight <= BOOKED_AHEAD_SECONDS and not self.pipes:
            self._land(message, sent_at, now + flight, sent_at + flight)
        else:
            self.agenda.at(now + flight, self._reach, sender, message, sent_at, sent_at + flight)

    def _reach(self, sender: Card, message: Bulk, sent_at: float, last: float) -> None:
        """The first byte is there, or at the thin pipe between two zones."""
        first = self.agenda.now
        receiver, size, _, _ = message
        pipe = self.pipes.get((min(sender.zone, receiver.zone), max(sender.zone, receiver.zone)))
        if pipe is None:
            self._land(message, sent_at, first, last)
            return

        def through(seconds: float) -> None:
            now = self.agenda.now
            self._land(message, sent_at, now, max(last, now + seconds))

        pipe.enter(sender, receiver, size, through)

    def _land(self, message: Bulk, sent_at: float, first: float, last: float) -> None:
        """Book the receiver's downlink: the end there is the later of both ends."""
        receiver, size, deliver, arguments = message
        end = max(first, receiver.down_free, receiver.cut_until) + size / receiver.down
        receiver.down_free = end
        receiver.received_bytes += size
        self.agenda.enter(end if end > last else last, deliver, (sent_at, *arguments))

    # ── faults ────────────────────────────────────────────────────────────────────────────────────────────────

    def cut(self, card: Card, seconds: float, *, loses: bool) -> None:
        """Nothing passes the card for so long. `loses`: what is sent meanwhile is lost, else it is held back."""
        card.cut_until = max(card.cut_until, self.agenda.now + seconds)
        card.loses = loses
