"""Whom a peer's subscriber is connected to, and what it subscribes."""

from __future__ import annotations

from typing import Any

import zmq

from dfmq.model.ids import TaskId
from dfmq.nodes.hearing import MOST_IDLE, Hearing
from dfmq.wire import topics

TASK, OTHER = TaskId(b"t" * 16), TaskId(b"o" * 16)


class FakeListener:
    """A drained subscriber that keeps count."""

    def __init__(self) -> None:
        self.socket = self
        self.connected: list[str] = []
        self.topics: list[bytes] = []

    def setsockopt(self, option: int, topic: bytes) -> None:
        if option == zmq.SUBSCRIBE:
            self.topics.append(topic)
        else:
            self.topics.remove(topic)

    def reach(self, endpoint: str) -> bool:
        if endpoint == "nowhere":
            return False
        assert endpoint not in self.connected, "connected twice"
        self.connected.append(endpoint)
        return True

    def disconnect(self, endpoint: str) -> None:
        self.connected.remove(endpoint)

    def look(self) -> None: ...


def hearing() -> tuple[Hearing, Any]:
    listener = FakeListener()
    return Hearing(listener, listener.reach), listener  # type: ignore[arg-type]


def test_a_neighbour_stays_connected_from_one_task_to_the_next() -> None:
    ears, listener = hearing()
    for task in (TASK, OTHER, TASK):
        ears.listen(task, ["a"])
        assert listener.topics == [topics.of_task(task)]
        ears.listen(task, [])
        assert listener.topics == []
    assert listener.connected == ["a"]


def test_of_those_that_nobody_needs_the_first_goes() -> None:
    ears, listener = hearing()
    names = [f"n{number}" for number in range(MOST_IDLE + 2)]
    ears.listen(OTHER, [names[0]])
    for name in names:
        ears.listen(TASK, [name])
    ears.listen(TASK, [])
    assert listener.connected == [names[0], *names[2:]], "n0 is needed for the other task"
    ears.listen(OTHER, [])
    assert listener.connected == [names[0], *names[3:]]


def test_who_is_nowhere_is_not_heard() -> None:
    ears, listener = hearing()
    ears.listen(TASK, ["nowhere"])
    assert (listener.connected, listener.topics) == ([], [])
    ears.listen(TASK, ["nowhere", "a", "a"])
    assert (listener.connected, listener.topics) == (["a"], [topics.of_task(TASK)])
