"""Whose hints a peer hears on which task: the connections of its subscriber. What hints say is the machine's."""

from __future__ import annotations

from collections.abc import Callable

import zmq

from dfmq.edges.bus.loop import Drain
from dfmq.model.ids import TaskId
from dfmq.wire import topics

#: Neighbours that no task needs any more and that stay connected: mostly the next one needs them again. Small contents
#: got one after the other paid for a TCP connection each.
MOST_IDLE = 8


class Hearing:
    """Law: connected is who is heard on a task, and at most MOST_IDLE others."""

    def __init__(self, listener: Drain, reach: Callable[[str], bool]) -> None:
        """`reach` connects the listener; False when there is no such place."""
        self._listener = listener
        self._reach = reach
        self._by_task: dict[TaskId, list[str]] = {}
        #: the one that was needed last comes last
        self._idle: dict[str, None] = {}

    def listen(self, task: TaskId, endpoints: list[str]) -> None:
        """Hear exactly these neighbours on the task."""
        socket, before = self._listener.socket, self._by_task.pop(task, [])
        others = {endpoint for needed in self._by_task.values() for endpoint in needed}
        known = others.union(before, self._idle)
        wanted = [e for e in dict.fromkeys(endpoints) if e in known or self._reach(e)]
        if wanted:
            self._by_task[task] = wanted
            if not before:
                socket.setsockopt(zmq.SUBSCRIBE, topics.of_task(task))
        elif before:
            socket.setsockopt(zmq.UNSUBSCRIBE, topics.of_task(task))
        for endpoint in wanted:
            self._idle.pop(endpoint, None)
        for endpoint in before:
            if endpoint not in others and endpoint not in wanted:
                self._idle[endpoint] = None
        while len(self._idle) > MOST_IDLE:
            endpoint = next(iter(self._idle))
            del self._idle[endpoint]
            self._listener.disconnect(endpoint)
        self._listener.look()
