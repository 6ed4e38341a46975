"""Topics of PUB/SUB: what a subscriber asks for by prefix. Pure."""

from __future__ import annotations

from dfmq.model.ids import TaskId

#: notices for everybody
ALL = b"dfmq.all"
#: hints on one task: prefix and the 16 octets of the TaskId
TASK_PREFIX = b"dfmq.task."


def of_task(task: TaskId) -> bytes:
    """The topic of one task's hints and notices."""
    return TASK_PREFIX + task
