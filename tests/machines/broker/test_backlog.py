"""A broker that has more to read than it gets through: nobody is lost for words that lie unread."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.broker_talk import BrokerTalk, leases, of, with_content
from support.talk import GENERATION, TASK

from dfmq.machines.broker.backlog import MOST_UNREAD_SECONDS, Backlog
from dfmq.machines.events import CaughtUp, FellBehind
from dfmq.wire import messages as said


def test_everything_is_known_until_now_unless_something_waits() -> None:
    backlog = Backlog(2.0)
    assert backlog.read_until(100.0) == 100.0
    backlog.fell_behind(40.0, 50.0)
    backlog.check()
    assert backlog.read_until(60.0) == 40.0
    backlog.caught_up()
    backlog.check()
    assert backlog.read_until(60.0) == 60.0


def test_a_backlog_is_taken_for_no_older_than_a_minute() -> None:
    backlog = Backlog(2.0)
    backlog.fell_behind(0.0, 0.0)
    assert backlog.read_until(MOST_UNREAD_SECONDS + 5.0) == 5.0


@pytest.mark.parametrize("at", [3.0, 30.0])
def test_what_is_due_can_be_judged_when_it_says_so_and_not_before(at: float) -> None:
    backlog = Backlog(2.0)
    backlog.fell_behind(10.0, 10.0)
    due = backlog.due_at(at)
    assert backlog.read_until(due) >= at > backlog.read_until(due - 0.002)


@given(at=st.floats(1e-3, 1e9))
@example(at=11.504203784)
def test_however_late_it_is_nothing_is_due_again_and_again_at_one_instant(at: float) -> None:
    backlog = Backlog(2.0)
    backlog.fell_behind(0.0, 0.0)
    assert backlog.read_until(backlog.due_at(at)) >= at


def test_it_is_said_each_beat_that_the_broker_lives_while_it_is_behind() -> None:
    backlog = Backlog(2.0)
    backlog.fell_behind(10.0, 10.0)
    said_at = [tenth / 10 for tenth in range(100, 171) if backlog.is_to_say(tenth / 10)]
    assert said_at == [12.0, 14.0, 16.0]
    backlog.caught_up()
    assert not backlog.is_to_say(1000.0)


@pytest.mark.clause("SESS-4")
def test_a_peer_whose_beats_lie_unread_is_not_lost() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    broker.passes(1.0)
    broker.told(FellBehind(broker.now))
    broker.passes(5 * broker.beat)
    assert broker.published == [said.Notice(kind="behind", epoch=7)] * 5
    assert of(said.BeatSeen, broker.hears("a", said.Beat(stamp=3)), "a"), "it is known still"
    broker.told(CaughtUp())
    assert of(said.BeatSeen, broker.hears("a", said.Beat(stamp=4)), "a")


@pytest.mark.clause("SESS-4")
def test_a_peer_that_was_silent_before_the_backlog_began_is_lost_all_the_same() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    broker.hello("b")
    broker.passes(3 * broker.beat - 0.5, living=["b"])
    broker.told(FellBehind(broker.now))
    assert of(said.BeatSeen, broker.hears("a", said.Beat(stamp=1)), "a")
    broker.told(CaughtUp())
    broker.passes(3 * broker.beat - 0.5, living=["b"])
    broker.passes(1.0, living=["b"])
    broker.told(FellBehind(broker.now))
    assert of(said.Error, broker.hears("a", said.Beat(stamp=2)), "a"), "three beats were over when it fell behind"


@pytest.mark.clause("SESS-4")
def test_a_broker_that_is_never_done_loses_the_dead_after_a_minute() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    broker.told(FellBehind(broker.now))
    broker.passes(MOST_UNREAD_SECONDS + 3 * broker.beat + 0.5)
    assert of(said.Error, broker.hears("a", said.Beat()), "a")


def test_no_lease_is_moved_or_expires_for_a_have_that_lies_unread() -> None:
    broker = with_content("parent", "child")
    assert leases(broker.hears("parent", said.Want(task=TASK, count=2)))
    broker.hears("parent", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    assert leases(broker.hears("child", said.Want(task=TASK, count=1)), "child")
    broker.told(FellBehind(broker.now))
    assert not of(said.Revoke, broker.passes(50.0))
    broker.told(CaughtUp())
