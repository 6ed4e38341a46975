"""What children want, who is parked and what is to be looked at next: the book alone."""

from __future__ import annotations

import pytest

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.rates import MOST_IN_FLIGHT
from dfmq.machines.broker.wants import Wants
from dfmq.model.ids import TaskId

ONE, TWO = TaskId(b"1" * 16), TaskId(b"2" * 16)


def test_wants_add_up_to_a_bound_in_which_what_is_being_taken_counts() -> None:
    wants = Wants()
    wants.add(ONE, 5, 3, 0)
    wants.add(ONE, 5, 2, 0)
    assert wants.count(ONE, 5) == 5
    wants.add(ONE, 5, 1000, 10)
    assert wants.count(ONE, 5) == MOST_IN_FLIGHT - 10
    wants.add(ONE, 6, 1, MOST_IN_FLIGHT)
    wants.add(TWO, 6, 0, 0)
    assert (wants.count(ONE, 6), wants.count(TWO, 6), wants.total(ONE)) == (0, 0, MOST_IN_FLIGHT - 10)
    wants.check()


def test_each_grant_answers_one_want_and_the_last_leaves_nothing_behind() -> None:
    wants = Wants()
    wants.add(ONE, 5, 2, 0)
    wants.park(ONE, 5, 0b11)
    wants.granted(ONE, 5)
    assert (wants.count(ONE, 5), set(wants.parked)) == (1, {ONE})
    wants.granted(ONE, 5)
    wants.check()
    assert (wants.queues, wants.parked) == ({}, {})


def test_who_wants_nothing_any_more_does_not_rest_nor_stand_parked() -> None:
    wants = Wants()
    for child in (5, 6):
        wants.add(ONE, child, 2, 0)
        wants.park(ONE, child, 0b1)
    wants.resting.set((ONE, 5), 9.0)
    wants.forget(ONE, 5)
    wants.forget(TWO, 5)
    wants.check()
    assert (list(wants.parked[ONE].parked), wants.parked[ONE].parked_bits, wants.resting.next()) == ([6], 1 << 6, None)


def test_the_parked_stand_in_the_order_they_came_and_who_got_something_goes_to_the_end() -> None:
    wants = Wants()
    for child in (5, 6, 7):
        wants.add(ONE, child, 2, 0)
        assert wants.park(ONE, child, 1 << child)
    assert not wants.park(ONE, 5, 0b1), "it stands there already"
    assert list(wants.parked[ONE].parked) == [5, 6, 7]
    assert wants.parked[ONE].unmet == 0b11100001
    wants.to_the_end(ONE, 5)
    wants.check()
    assert list(wants.parked[ONE].parked) == [6, 7, 5]
    for child in (5, 6, 7):
        wants.unpark(ONE, child)
        wants.unpark(ONE, child)
    assert (wants.parked, wants.queues[ONE].unmet, wants.total(ONE)) == ({}, 0, 6)


def test_a_duty_is_listed_once_and_done_in_order() -> None:
    wants = Wants()
    wants.list(("serve", ONE, 5))
    wants.list(("give", ONE, 5))
    wants.list(("serve", ONE, 5))
    assert wants.is_listed(("give", ONE, 5))
    assert [wants.next_duty() for _ in range(3)] == [("serve", ONE, 5), ("give", ONE, 5), None]
    assert not wants.has_duties
    wants.list(("serve", ONE, 5))
    assert wants.next_duty() == ("serve", ONE, 5), "it may be listed again"


def test_a_parked_child_that_wants_nothing_is_noticed() -> None:
    wants = Wants()
    wants.add(ONE, 5, 1, 0)
    wants.park(ONE, 5, 0b1)
    wants.queues[ONE].want = {6: 1}
    with pytest.raises(InvariantViolated, match="parked"):
        wants.check()
