"""The talk with the broker: its table, its backoff, its beats."""

from __future__ import annotations

import random
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given
from support.talk import exchange, peer_id

from dfmq.machines.effects import NextBroker, PeerEffect, TellBroker
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.session import FIRST_BACKOFF, LAST_BACKOFF, TABLE, Session
from dfmq.wire.messages import Beat, BeatSeen, Have, Hello, Welcome

HELLO = Hello(peer=peer_id("me"), host=b"h" * 16, exchange=exchange("me"))


def a_session(*, welcomed: bool = False) -> Session:
    session = Session(random.Random(1), Alarm())
    session.bound(HELLO, 0.0)
    if welcomed:
        session.welcomed(Welcome(epoch=7), 0.0)
    return session


def due(session: Session, now: float, *, is_active: bool = False) -> list[PeerEffect]:
    return session.deadline(now, is_active=is_active, down_rate=0, up_rate=0)


def said(effects: list[PeerEffect]) -> list[type]:
    return [type(e.message) if isinstance(e, TellBroker) else type(e) for e in effects]


def test_hello_is_said_again_to_the_next_broker_with_growing_and_bounded_waits() -> None:
    session, now, waits = a_session(), 0.0, []
    for _ in range(9):
        at = session.next_deadline()
        assert at is not None
        waits.append(at - now)
        now = at
        assert said(due(session, now)) == [NextBroker, Hello]
        session.check()
    assert waits[0] <= 1.25 * FIRST_BACKOFF
    assert all(later > 1.1 * sooner for sooner, later in pairwise(waits[:5]))
    assert 0.75 * LAST_BACKOFF <= waits[-1] <= 1.25 * LAST_BACKOFF


def test_two_peers_do_not_come_back_at_the_same_instant() -> None:
    one, other = Session(random.Random(1), Alarm()), Session(random.Random(2), Alarm())
    one.bound(HELLO, 0.0)
    other.bound(HELLO, 0.0)
    assert one.next_deadline() != other.next_deadline()


def test_nothing_but_hello_is_said_to_a_broker_that_has_not_welcomed_us() -> None:
    session = a_session()
    have = Have(task=b"t" * 16, generation=b"g" * 8, pieces=[1])
    assert session.tell(have) == []
    session.welcomed(Welcome(epoch=7), 0.1)
    assert said(session.tell(have)) == [Have]


def test_a_second_welcome_of_the_same_epoch_is_no_news_and_another_epoch_is() -> None:
    session = a_session()
    assert session.welcomed(Welcome(epoch=7), 0.0)[1]
    assert not session.welcomed(Welcome(epoch=7), 0.1)[1]
    assert session.welcomed(Welcome(epoch=8), 0.2)[1]
    assert session.epoch == 8


def test_three_beats_without_an_answer_make_the_broker_silent() -> None:
    session, now = a_session(welcomed=True), 0.0
    while session.state == "welcomed":
        at = session.next_deadline()
        assert at is not None
        now = at
        effects = due(session, now)
    assert said(effects)[1:] == [NextBroker, Hello]
    assert 6.0 <= now <= 8.0
    session.check()


def test_anything_the_broker_says_proves_that_it_lives() -> None:
    session = a_session(welcomed=True)
    for second in range(60):
        due(session, float(second))
        session.heard(float(second))
    assert session.state == "welcomed"


def test_a_peer_that_slept_itself_does_not_take_that_for_the_brokers_silence() -> None:
    session = a_session(welcomed=True)
    due(session, 0.0)
    assert said(due(session, 1000.0)) == [Beat]
    assert session.state == "welcomed"


def test_beats_come_every_second_while_downloads_are_under_way() -> None:
    session = a_session(welcomed=True)
    due(session, 0.0, is_active=True)
    assert session.next_deadline() == 1.0
    session.heard(1.0)
    due(session, 1.0)
    assert session.next_deadline() == 3.0


def test_a_download_that_begins_is_followed_by_quick_beats_and_then_by_the_usual_ones() -> None:
    session = a_session(welcomed=True)
    due(session, 0.0)
    session.hasten(10.0)
    at = []
    for _ in range(7):
        now = session.next_deadline()
        assert now is not None
        assert said(due(session, now, is_active=True)) == [Beat]
        session.heard(now)
        at.append(now - 10.0)
    assert at == pytest.approx([0.0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5])


def test_downloads_that_begin_in_a_row_are_not_followed_by_a_beat_each() -> None:
    session = a_session(welcomed=True)
    beats = 0
    for turn in range(100):
        now = 10.0 + turn / 100
        session.hasten(now)
        beats += len(said(due(session, now, is_active=True)))
        session.heard(now)
    assert beats == 10


def test_a_round_trip_that_grows_is_believed_sooner_than_one_that_shrinks() -> None:
    session = a_session(welcomed=True)
    known = []
    for second, taken in enumerate([0.1, 0.2, 0.1]):
        (beat,) = due(session, 2.0 * second)
        assert isinstance(beat, TellBroker) and isinstance(beat.message, Beat)
        session.beat_seen(BeatSeen(stamp=beat.message.stamp), 2.0 * second + taken)
        known.append(session.round_trip)
    assert known[1] - known[0] > 2 * (known[1] - known[2]) > 0


def test_the_round_trip_is_smoothed_over_the_echoes() -> None:
    session = a_session(welcomed=True)
    (beat,) = due(session, 0.0)
    assert isinstance(beat, TellBroker) and isinstance(beat.message, Beat)
    session.beat_seen(BeatSeen(stamp=beat.message.stamp), 0.1)
    assert session.round_trip == 0.1
    session.beat_seen(BeatSeen(stamp=beat.message.stamp), 5.0)
    assert session.round_trip == 0.1, "an echo counts once"


def test_a_broker_that_does_not_know_us_is_greeted_at_once_and_once() -> None:
    session = a_session(welcomed=True)
    assert said(session.unknown(1.0)) == [Hello]
    assert session.unknown(1.1) == []
    session.check()
    assert session.welcomed(Welcome(epoch=7), 1.2)[1], "whoever forgot us is told everything anew"


@given(st.lists(st.tuples(st.sampled_from(["welcome", "unknown", "due", "heard"]), st.floats(0, 9)), max_size=60))
def test_the_state_changes_only_along_the_table(steps: list[tuple[str, float]]) -> None:
    session, now = a_session(), 0.0
    allowed = {(before, after) for (before, _), after in TABLE.items()}
    for number, (step, wait) in enumerate(steps):
        now += wait
        before = session.state
        if step == "welcome":
            session.welcomed(Welcome(epoch=1 + number % 3), now)
        elif step == "unknown":
            session.unknown(now)
        elif step == "due":
            due(session, now)
        else:
            session.heard(now)
        session.check()
        assert before == session.state or (before, session.state) in allowed
