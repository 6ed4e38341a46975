"""The book of wants, against the broker's."""

from __future__ import annotations

from dfmq.machines.peer.wants import Wants
from dfmq.machines.peer.window import MOST_IN_FLIGHT


def test_open_states_grants_take_off_and_failures_count_again_unless_cancelled() -> None:
    wants = Wants()
    wants.state(3)
    for lease in (1, 2, 3):
        wants.granted(lease)
    wants.ended(1, counts_again=True)
    wants.ended(2, counts_again=False)
    assert wants.owed == 1


def test_a_lease_both_sides_end_at_once_counts_again_once() -> None:
    wants = Wants()
    wants.state(2)
    wants.granted(1)
    wants.granted(2)
    wants.ended(1, counts_again=True)
    wants.revoked(1, was_live=False)
    assert wants.owed == 1
    wants.ended(2, counts_again=False)
    wants.revoked(2, was_live=False)
    wants.revoked(2, was_live=False)
    assert wants.owed == 2, "the broker revoked what we had: its want counts there"


def test_a_lease_from_before_the_last_welcome_puts_the_count_in_doubt() -> None:
    wants = Wants()
    wants.state(2)
    wants.granted(1)
    wants.welcomed([1])
    assert wants.ended(1, counts_again=True)
    wants.granted(1)
    assert not wants.ended(1, counts_again=True), "the number was given again by the one who knows it"


def test_no_more_is_wanted_than_the_broker_remembers() -> None:
    wants = Wants()
    wants.state(5)
    assert wants.room(MOST_IN_FLIGHT, [], 4, None) == MOST_IN_FLIGHT - 9
    assert wants.room(3, [], 4, None) == 0
