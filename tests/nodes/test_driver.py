"""The driver: one machine, one timer, and who stood still."""

from __future__ import annotations

import asyncio
from typing import Any

from dfmq.machines.events import DeadlineReached
from dfmq.nodes.driver import STOOD_STILL_SECONDS, Driver


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is what the test says."""

    at = 100.0

    def time(self) -> float:
        return self.at


class Machine:
    """Wants to be called at an instant, and keeps what it hears."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.heard: list[Any] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        self.heard.append(event)
        if isinstance(event, DeadlineReached):
            self.at = now + 1.0
        return []

    def next_deadline(self) -> float | None:
        return self.at


class World:
    """A driver whose machine is due in a second."""

    def __init__(self) -> None:
        self.loop = Clock()
        self.machine = Machine(self.loop.at + 1.0)
        self.driver = Driver(self.machine, self.loop, {}, lambda: None, self.fail, self.stood_still)
        self.told("first")

    def fail(self, error: BaseException) -> None:
        raise error

    def stood_still(self, since: float) -> None:
        self.driver.feed(("since", since))

    def told(self, event: Any) -> list[Any]:
        """A row of one event; what the machine heard in it."""
        self.machine.heard.clear()
        self.driver.begin()
        self.driver.feed(event)
        self.driver.end()
        return list(self.machine.heard)

    def passes(self, seconds: float) -> list[Any]:
        """So much later the loop goes on; what the machine heard."""
        self.machine.heard.clear()
        self.loop.at += seconds
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        return list(self.machine.heard)


def test_a_timer_that_rings_in_time_is_nothing_else() -> None:
    world = World()
    assert world.passes(1.0 + STOOD_STILL_SECONDS / 2) == [DeadlineReached()]
    world.loop.close()


def test_who_stood_still_hears_of_it_before_the_deadline() -> None:
    world = World()
    assert world.passes(7.0) == [("since", 101.0), DeadlineReached()]
    assert world.passes(1.1) == [DeadlineReached()], "once"
    world.loop.close()


def test_who_stood_still_hears_of_it_before_what_came_in_meanwhile() -> None:
    world = World()
    world.loop.at += 7.0
    assert world.told("a beat") == [("since", 101.0), "a beat"]
    world.loop.close()
