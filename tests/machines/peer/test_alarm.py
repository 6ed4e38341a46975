"""The peer's one alarm."""

from __future__ import annotations

import pytest
from support.peer_talk import PeerTalk

from dfmq.errors import InvariantViolated
from dfmq.machines.events import DeadlineReached
from dfmq.machines.peer.alarm import NEVER, Alarm, AlarmedDeadlines


def test_it_rings_at_the_soonest_instant_that_was_asked_for() -> None:
    alarm = Alarm()
    assert alarm.at == NEVER
    assert [alarm.by(at) for at in (5.0, 3.0, 9.0)] == [5.0, 3.0, 9.0]
    assert alarm.at == 3.0


def test_deadlines_set_it_and_taking_one_away_leaves_it_too_early() -> None:
    alarm = Alarm()
    deadlines = AlarmedDeadlines[str](alarm)
    deadlines.set("one", 2.0)
    deadlines.set("two", 4.0)
    deadlines.clear("one")
    assert (alarm.at, deadlines.next()) == (2.0, 4.0)
    alarm.check(4.0)


def test_later_than_the_truth_is_a_fault() -> None:
    alarm = Alarm()
    alarm.by(7.0)
    with pytest.raises(InvariantViolated, match="the alarm is set for"):
        alarm.check(6.0)


def test_a_peer_called_too_early_does_nothing_and_says_when_to_come_again() -> None:
    talk = PeerTalk()
    at = talk.machine.next_deadline()
    assert at is not None
    talk.machine._alarm.by(at - 0.1)
    talk.now = at - 0.05
    assert talk.told(DeadlineReached()) == []
    assert talk.machine.next_deadline() == at
