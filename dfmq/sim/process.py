"""A machine with simulated hands: when it lives, hears, and is called again. Its effects are its kind's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import Record
from dfmq.machines.events import DeadlineReached
from dfmq.machines.machine import Machine
from dfmq.sim.network import Card

if TYPE_CHECKING:
    from dfmq.sim.world import World

NEVER = float("inf")
Hands = Mapping[type, Callable[[Any, Any], None]]

#: Calls in a row at one instant because of a deadline that has passed: a machine that never moves it.
MOST_CALLS_AT_ONCE = 1000


def shown(value: Any) -> str:
    """An event or effect on one line: ids as 8 digits, long things cut."""
    if isinstance(value, msgspec.Struct):
        fields = (f"{name}={shown(getattr(value, name))}" for name in value.__struct_fields__)
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, bytes):
        return value.hex()[:8]
    return str(value)[:80]


class Process:
    """One running machine on a host. Law: what it hears while frozen it hears on thawing, in order; dead it is deaf."""

    #: effect → who performs it; one table for all processes of a kind, for it is looked into at every effect
    HANDS: ClassVar[Hands] = {}

    def __init__(self, world: World, card: Card, name: str, machine: Machine[Any, Any]) -> None:
        self.world = world
        self._agenda = world.agenda
        self._check_every = world.plan.check
        self.card = card
        self.name = name
        self.machine = machine
        self._handle = machine.handle
        self._is_traced = name in world.traced
        self.is_alive = True
        self.is_frozen = False
        #: when it was killed
        self.died_at = float("inf")
        #: the last things it recorded: (when, what)
        self.story: deque[tuple[float, Record]] = deque(maxlen=40)
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._timer_at = NEVER
        self._rang_at = 0.0
        self._calls_at_once = 0

    # ── one turn ──────────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, event: Any) -> None:
        """Tell the machine a fact, perform what it wants done."""
        if self.is_frozen or not self.is_alive:
            if self.is_alive:
                self._backlog.append((self.hear, (event,)))
            return
        effects = self._handle(event, self._agenda.now)
        if self._is_traced:
            self._trace(event, effects)
        self.perform(effects)

    def perform(self, effects: Sequence[Any]) -> None:
        """Perform the effects of one event in order. The turn ends when nothing more happens at this instant."""
        hands = self.HANDS
        for effect in effects:
            hands[type(effect)](self, effect)
        self._agenda.unsettled[self] = None
        if self._check_every:
            self._check_sometimes()

    def settle(self) -> None:
        """The instant is over: send what it gathered, arm the timer."""
        if self.is_alive:
            self.end_turn()
            deadline = self.machine.next_deadline()
            if deadline is not None and deadline < self._timer_at:
                self._arm(deadline)

    def end_turn(self) -> None:
        """Send what the turn gathered."""

    def _check_sometimes(self) -> None:
        world = self.world
        world.machine_turns += 1
        if world.machine_turns % self._check_every == 0:
            self.check()

    def check(self) -> None:
        """The machine's books, with its story when they do not balance."""
        try:
            self.machine.check()
        except InvariantViolated as fault:
            raise self.world.failure(f"{self.name}: {fault}") from fault

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _arm(self, deadline: float) -> None:
        self._timer_at = deadline
        self._agenda.enter(deadline, self._ring, (deadline,))

    def _ring(self, at: float) -> None:
        if at != self._timer_at or not self.is_alive:
            return
        if self.is_frozen:
            self._backlog.append((self._ring, (at,)))
            return
        self._timer_at = NEVER
        deadline = self.machine.next_deadline()
        if deadline is None:
            return
        now = self.world.agenda.now
        if deadline > now:
            self._arm(deadline)
            return
        self._calls_at_once = self._calls_at_once + 1 if self._rang_at == now else 0
        self._rang_at = now
        if self._calls_at_once > MOST_CALLS_AT_ONCE:
            raise self.world.failure(f"{self.name}: its deadline {at} never moves")
        self.hear(DeadlineReached())

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def freeze(self) -> None:
        """Stop it; its host's network goes on."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on with what it missed."""
        self.is_frozen = False
        backlog, self._backlog = self._backlog, []
        for call, arguments in backlog:
            call(*arguments)

    def kill(self) -> None:
        """End it at once; what is not on its host's disk is gone."""
        self.is_alive = False
        self.died_at = self.world.agenda.now

    def _trace(self, event: Any, effects: Sequence[Any]) -> None:
        print(f"{self.world.agenda.now:10.4f} {self.name} ← {shown(event)}")
        for effect in effects:
            print(f"{'':10} {self.name} → {shown(effect)}")

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────

    def _record(self, record: Record) -> None:
        self.story.append((self.world.agenda.now, record))
        self.world.counts[record.name] += 1

    def told(self) -> str:
        """Its story, a line a record, the latest last."""
        lines = []
        for at, record in self.story:
            fields = " ".join(
                f"{key}={value.hex()[:8] if isinstance(value, bytes) else value}"
                for key, value in record.fields.items()
            )
            lines.append(f"    {at:10.4f} {record.name} {fields}")
        return "\n".join(lines)
