"""Books that contradict each other are noticed: one lie in each, put in by hand. That they agree is in the laws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.broker_talk import BrokerTalk, with_content
from support.talk import REQUEST, TASK

from dfmq.errors import InvariantViolated
from dfmq.machines.broker import agreement
from dfmq.machines.broker.desk import Desk
from dfmq.model.ids import HostId, TaskId
from dfmq.wire import messages as said


def a_desk() -> Desk:
    """The desk of a broker with a seed (0), a child that takes two pieces (1) and one that does nothing (2)."""
    broker = with_content("one")
    broker.hello("two")
    broker.hears("one", said.Want(task=TASK, count=2))
    desk = broker.machine._desk
    agreement.check(desk)
    return desk


def takes_what_is_not_leased(desk: Desk) -> None:
    desk.catalog.tasks[TASK].take(2, 0)


def has_a_lease_and_does_not_want(desk: Desk) -> None:
    del desk.catalog.tasks[TASK].members[1]


def has_slots_and_is_gone(desk: Desk) -> None:
    desk.slots.join(9, 1000)


def holds_and_is_gone(desk: Desk) -> None:
    desk.catalog.tasks[TASK].hold(9, 1)


def is_in_quarantine_here_only(desk: Desk) -> None:
    desk.catalog.tasks[TASK].bar(0)


def is_not_with_its_host(desk: Desk) -> None:
    desk.health.leave(HostId(b"two".rjust(16, b"-")), 2, 100.0)


def waits_for_no_permit(desk: Desk) -> None:
    desk.catalog.tasks[TASK].members[1].is_open = False


def lacks_what_nobody_reads(desk: Desk) -> None:
    desk.catalog.tasks[TASK].unhold(0, 1)


def has_a_permit_on_nothing(desk: Desk) -> None:
    desk.backsource.give(TaskId(b"?" * 16), 2, REQUEST, b"", False, 0, 100.0)


def has_a_permit_and_is_gone(desk: Desk) -> None:
    desk.backsource.give(TASK, 9, REQUEST, b"", False, 0, 100.0)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (takes_what_is_not_leased, "taken but not leased"),
        (has_a_lease_and_does_not_want, "of a task it does not want"),
        (has_slots_and_is_gone, "with slots"),
        (holds_and_is_gone, "names a peer that is gone"),
        (is_in_quarantine_here_only, "here or there only"),
        (is_not_with_its_host, "not with its host"),
        (waits_for_no_permit, "a permit that nobody has"),
        (lacks_what_nobody_reads, "is not asked for"),
        (has_a_permit_on_nothing, "on a task nobody knows"),
        (has_a_permit_and_is_gone, "that is gone has a permit"),
    ],
)
def test_a_lie_in_one_book_is_noticed(lie: Callable[[Desk], None], words: str) -> None:
    desk = a_desk()
    lie(desk)
    with pytest.raises(InvariantViolated, match=words):
        agreement.check(desk)


@pytest.mark.parametrize("book", ["roster", "catalog", "slots", "rates", "health", "leases", "backsource"])
def test_the_check_of_the_machine_asks_every_book(book: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = BrokerTalk()

    def refuse() -> None:
        raise InvariantViolated(book)

    monkeypatch.setattr(getattr(broker.machine._desk, book), "check", refuse)
    with pytest.raises(InvariantViolated, match=book):
        broker.machine.check()
