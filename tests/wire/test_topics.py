"""Topics: what a subscription is for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfmq.model.ids import TASK_ID_BYTES, TaskId
from dfmq.wire import topics

TASK = TaskId(bytes(range(TASK_ID_BYTES)))


def test_a_subscription_to_a_tasks_topic_names_the_task() -> None:
    assert topics.subscribed(b"\x01" + topics.of_task(TASK)) == TASK


def test_its_end_and_subscriptions_to_anything_else_name_none() -> None:
    whole = topics.of_task(TASK)
    others = b"\x00" + whole, whole, b"\x01" + whole + b"x", b"\x01" + whole[:-1], b"\x01" + topics.ALL, b"\x01", b""
    assert [topics.subscribed(frame) for frame in others] == [None] * len(others)


@given(st.binary(max_size=64))
def test_garbage_is_no_subscription(frame: bytes) -> None:
    task = topics.subscribed(frame)
    assert task is None or b"\x01" + topics.of_task(task) == frame
