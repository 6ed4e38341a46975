"""Topics of PUB/SUB: what a subscriber asks for by prefix. Pure."""

from __future__ import annotations

from dfmq.model.ids import TASK_ID_BYTES, TaskId

#: notices for everybody
ALL = b"dfmq.all"
#: hints on one task: prefix and the 16 octets of the TaskId
TASK_PREFIX = b"dfmq.task."


def of_task(task: TaskId) -> bytes:
    """The topic of one task's hints and notices."""
    return TASK_PREFIX + task


def subscribed(frame: bytes) -> TaskId | None:
    """The task that a subscription, as an XPUB hears it (a byte 1 and the topic), is for; None: it is for none, or is
    no subscription."""
    begin = len(TASK_PREFIX) + 1
    is_one = frame[:begin] == b"\x01" + TASK_PREFIX and len(frame) == begin + TASK_ID_BYTES
    return TaskId(frame[begin:]) if is_one else None
