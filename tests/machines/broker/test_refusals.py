"""Whom the source's no is told, and for how long, through the broker's door."""

from __future__ import annotations

import pytest
from support.broker_talk import BrokerTalk, failed, of, opened_with
from support.talk import MINE, REQUEST, THEIRS

from dfmq.machines.broker.backsource import MOST_HEEDED_SECONDS
from dfmq.model.task import Request
from dfmq.wire import messages as said

HIDDEN = [("source_refused", 0.0), ("source_failed", 3600.0)]


@pytest.mark.clause("OPEN-3")
@pytest.mark.parametrize(("code", "retry_after"), HIDDEN)
@pytest.mark.parametrize("first", [REQUEST, THEIRS], ids=["nobody", "theirs"])
def test_what_the_source_hides_from_some_is_asked_for_with_the_credentials_of_others(
    first: Request, code: str, retry_after: float
) -> None:
    """Many answer 404 where somebody may not know that there is something, and count each one's requests by itself."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "two", "three", "late"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("one", request=first))
    assert not broker.opens("two", request=MINE) + broker.opens("three", request=MINE)
    out = failed(broker, "seed", permit, code, retry_after)
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["one"]
    (second,) = of(said.Permit, out, "seed")
    assert (second.request, second.check_only) == (MINE, False)
    (refused,) = of(said.Refused, broker.opens("late", request=first))
    assert refused.code == code, "it is remembered"
    opened = broker.sourced("seed", second)
    assert {name for name, what in opened if isinstance(what, said.Opened)} == {"two", "three"}
    assert of(said.Refused, broker.opens("late", request=first)), "and stays theirs"


@pytest.mark.clause("OPEN-3")
@pytest.mark.parametrize(("code", "retry_after"), HIDDEN)
def test_a_check_that_fails_is_no_word_on_other_credentials(code: str, retry_after: float) -> None:
    broker = opened_with(MINE, fresh_seconds=5.0)
    for name in ("nobody", "two", "three", "four"):
        broker.hello(name)
    (check,) = of(said.Permit, broker.opens("nobody"))
    out = failed(broker, "seed", check, code, retry_after)
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["nobody"]
    assert of(said.Opened, broker.opens("two", request=MINE)), "it is fresh"
    broker.passes(5.25, ["seed", "first", "nobody", "two", "three", "four"])
    (check,) = of(said.Permit, broker.opens("four", request=MINE))
    (other,) = of(said.Permit, broker.opens("three", request=THEIRS))
    out = failed(broker, "seed", other, code, retry_after)
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["three"]
    assert of(said.Opened, broker.sourced("seed", check), "four")


def test_a_stale_content_is_asked_about_with_each_credential_until_one_is_good() -> None:
    broker = opened_with(MINE, fresh_seconds=5.0)
    for name in ("two", "three", "four"):
        broker.hello(name)
    (check,) = of(said.Permit, broker.opens("two", request=THEIRS))
    broker.sourced("seed", check, fresh_seconds=5.0)
    broker.passes(5.25, ["seed", "first", "two", "three", "four"])
    (check,) = of(said.Permit, broker.opens("three", request=THEIRS))
    assert not broker.opens("four", request=MINE), "one answer is enough"
    out = failed(broker, "seed", check, "source_refused")
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["three"]
    (again,) = of(said.Permit, out)
    assert (again.check_only, again.request) == (True, MINE)
    assert of(said.Opened, broker.sourced("seed", again), "four")
    assert of(said.Refused, broker.opens("three", request=THEIRS)), "fresh, but hidden from them now"


@pytest.mark.clause("OPEN-3")
def test_a_source_that_nobody_answers_for_is_asked_with_nobodys_credentials_any_more() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "two", "late"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("one", request=MINE))
    broker.opens("two", request=THEIRS)
    out = failed(broker, "seed", permit, "source_unreachable")
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["one", "two"]
    assert of(said.Refused, broker.opens("late"))
    assert not of(said.Permit, out)


def test_a_source_that_has_just_failed_somebody_is_not_asked_again_for_the_rest() -> None:
    """Who is refused asks again; meanwhile others read on, and fail in their turn."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "two"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("one", 0, request=MINE))
    broker.sourced("seed", permit)
    (check,) = of(said.Permit, broker.opens("two", 0, request=THEIRS))
    broker.sourced("seed", check)
    (second,) = of(said.Permit, failed(broker, "seed", permit, "source_failed"))
    assert of(said.Opened, broker.opens("one", 0, request=MINE)), "it is being read"
    out = failed(broker, "seed", second, "source_failed")
    assert {name for name, what in out if isinstance(what, said.Refused)} == {"one", "two"}
    assert broker.machine.counts()["permits"] == 0


def test_who_may_not_go_to_the_source_takes_what_another_may_read_next() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "frugal", "two"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.opens("frugal", request=MINE, no_source=True)
    broker.opens("two", request=MINE)
    out = failed(broker, "seed", permit, "source_refused")
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["one"]
    (second,) = of(said.Permit, out)
    opened = broker.sourced("seed", second)
    assert {name for name, what in opened if isinstance(what, said.Opened)} == {"frugal", "two"}


def test_who_is_refused_is_told_what_the_source_asked_for_and_when_it_has_been_long_enough_it_is_asked_again() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    (refused,) = of(said.Refused, failed(broker, "seed", permit, "source_failed", 3600.0))
    assert refused.retry_after == 3600.0
    broker.passes(10.0, ["seed", "one"])
    (refused,) = of(said.Refused, broker.opens("one"))
    assert refused.retry_after == 3590.0
    broker.passes(MOST_HEEDED_SECONDS - 10.0, ["seed", "one"])
    assert of(said.Permit, broker.opens("one"))


@pytest.mark.clause("OPEN-3")
@pytest.mark.parametrize("code", ["no_space", "store"])
def test_a_readers_own_trouble_is_not_remembered_as_the_sources_word(code: str) -> None:
    """Room may have been made by then, and what is told of it is not true for long."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    (again,) = of(said.Permit, failed(broker, "seed", permit, code), "one")
    (refused,) = of(said.Refused, failed(broker, "one", again, code))
    assert (refused.code, refused.retry_after) == (code, 0.0)
    (permit,) = of(said.Permit, broker.opens("one"), "seed")
    assert of(said.Opened, broker.sourced("seed", permit), "one")


@pytest.mark.clause("OPEN-3")
@pytest.mark.parametrize("is_begun", [False, True])
def test_when_no_reader_has_room_everybody_who_waits_is_told_at_once_whatever_their_credentials(is_begun: bool) -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    broker.hello("two")
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.opens("two", request=MINE)
    if is_begun:
        broker.sourced("seed", permit)
    readers, out = ["seed"], failed(broker, "seed", permit, "no_space")
    while permits := [(name, what) for name, what in out if isinstance(what, said.Permit)]:
        ((reader, permit),) = permits
        readers.append(reader)
        out = failed(broker, reader, permit, "no_space")
    assert sorted(readers) == ["one", "seed", "two"], "each is tried once"
    assert {name for name, what in out if isinstance(what, said.Refused)} == {"one", "two"}


def test_a_check_that_its_readers_have_no_room_for_fails_those_it_was_for() -> None:
    broker = opened_with(MINE)
    for name in ("two", "three"):
        broker.hello(name)
    (check,) = of(said.Permit, broker.opens("two", request=THEIRS), "seed")
    (other,) = of(said.Permit, broker.opens("three"), "seed")
    out = failed(broker, "seed", check, "store")
    while permits := [(name, what) for name, what in out if isinstance(what, said.Permit)]:
        ((reader, check),) = permits
        assert (check.check_only, check.request) == (True, THEIRS)
        out = failed(broker, reader, check, "store")
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["two"]
    assert of(said.Opened, broker.sourced("seed", other), "three")
