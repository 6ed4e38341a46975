"""Reads that nobody wants any more, through the broker's door: ended after a while, not when somebody comes back."""

from __future__ import annotations

import pytest
from support.broker_talk import BrokerTalk, of
from support.talk import GENERATION, OTHER_GENERATION, TASK

from dfmq.machines.broker.backsource import UNWANTED_SECONDS
from dfmq.wire import messages as said


def reading(*children: str, seed: bool = True) -> tuple[BrokerTalk, said.Permit]:
    """A broker and children that have the task open, which a seed, or else the first of them, is reading."""
    broker = BrokerTalk()
    if seed:
        broker.hello("seed", seed=True)
    for child in children:
        broker.hello(child)
    (permit,) = of(said.Permit, broker.opens(children[0], 0))
    reader = "seed" if seed else children[0]
    broker.sourced(reader, permit)
    broker.proven(reader, 0)
    for child in children[1:]:
        broker.opens(child, 0)
    return broker, permit


@pytest.mark.parametrize("how", ["close", "bye", "silence"])
def test_a_seed_stops_reading_for_peers_that_are_gone(how: str) -> None:
    broker, permit = reading("one", "two")
    if how == "silence":
        broker.passes(3 * broker.beat + 0.25, ["seed"])
    for child in ("one", "two") if how != "silence" else ():
        broker.hears(child, said.Close(task=TASK) if how == "close" else said.Bye())
    assert not of(said.Quit, broker.passes(UNWANTED_SECONDS - 0.5, ["seed"]))
    (quit_,) = of(said.Quit, broker.passes(0.75, ["seed"]), "seed")
    assert (quit_.permit, quit_.task) == (permit.permit, TASK)
    assert broker.machine.counts()["permits"] == 0
    assert not of(said.Quit, broker.passes(60.0, ["seed"])), "it is said once"


def test_a_peer_stops_reading_what_it_wants_no_more_itself() -> None:
    broker, permit = reading("one", seed=False)
    broker.hears("one", said.Close(task=TASK))
    (quit_,) = of(said.Quit, broker.passes(UNWANTED_SECONDS, ["one"]), "one")
    assert quit_.permit == permit.permit


@pytest.mark.parametrize("left", ["one", "two"])
def test_one_of_several_that_goes_ends_no_read(left: str) -> None:
    """Not even when it is the one that reads."""
    broker, _ = reading("one", "two", seed=False)
    broker.hears(left, said.Close(task=TASK))
    assert not of(said.Quit, broker.passes(4 * UNWANTED_SECONDS, ["one", "two"]))
    assert broker.machine.counts()["permits"] == 1


def test_who_comes_back_in_time_goes_on_by_the_same_permit() -> None:
    broker, _ = reading("one")
    for _ in range(3):
        broker.hears("one", said.Close(task=TASK))
        broker.passes(UNWANTED_SECONDS - 1.0, ["seed", "one"])
        out = broker.opens("one", 0)
        assert of(said.Opened, out)
        assert not of(said.Permit, out)
    assert not of(said.Quit, broker.passes(4 * UNWANTED_SECONDS, ["seed", "one"]))


def test_who_comes_back_late_gets_a_permit_for_the_rest() -> None:
    broker, permit = reading("one")
    broker.hears("one", said.Close(task=TASK))
    broker.passes(UNWANTED_SECONDS, ["seed", "one"])
    out = broker.opens("one", 1)
    (again,) = of(said.Permit, out, "seed")
    assert again.permit != permit.permit
    assert (again.generation, again.check_only) == (GENERATION, False)
    assert of(said.Grant, out, "one"), "what was read before is there"


def test_a_source_that_nobody_waits_for_is_asked_no_more() -> None:
    """It has not answered yet, to a fetch or to a check."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.hears("one", said.Close(task=TASK))
    (quit_,) = of(said.Quit, broker.passes(UNWANTED_SECONDS, ["seed", "one"]))
    assert quit_.permit == permit.permit
    broker, _ = reading("one")
    broker.proven("seed", 1)
    broker.passes(61.0, ["seed", "one"])
    broker.hears("one", said.Close(task=TASK))
    (check,) = of(said.Permit, broker.opens("one"))
    assert check.check_only
    broker.hears("one", said.Close(task=TASK))
    (quit_,) = of(said.Quit, broker.passes(UNWANTED_SECONDS, ["seed", "one"]))
    assert quit_.permit == check.permit


def test_what_a_check_found_after_everybody_went_is_not_read_to_its_end() -> None:
    broker, _ = reading("one")
    broker.proven("seed", 1)
    broker.passes(61.0, ["seed", "one"])
    broker.hears("one", said.Close(task=TASK))
    (check,) = of(said.Permit, broker.opens("one"))
    broker.hears("one", said.Close(task=TASK))
    broker.sourced("seed", check, generation=OTHER_GENERATION)
    (quit_,) = of(said.Quit, broker.passes(UNWANTED_SECONDS, ["seed", "one"]))
    assert quit_.permit == check.permit


def test_a_read_that_was_over_in_time_is_not_quit() -> None:
    broker, _ = reading("one")
    broker.hears("one", said.Close(task=TASK))
    broker.proven("seed", 1)
    assert not of(said.Quit, broker.passes(4 * UNWANTED_SECONDS, ["seed", "one"]))
    (opened,) = of(said.Opened, broker.opens("one", 0))
    assert opened.generation == GENERATION


# ── who must not go to the source ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.clause("SRC-6")
@pytest.mark.parametrize("comes", ["before", "after"])
def test_who_must_not_go_to_the_source_keeps_no_read_of_it_going(comes: str) -> None:
    """It takes what others have read; when those are gone their read ends as if it were not there."""
    broker, permit = reading("one")
    broker.hello("frugal")
    if comes == "before":
        assert of(said.Opened, broker.opens("frugal", 0, no_source=True))
    broker.hears("one", said.Close(task=TASK))
    out = broker.passes(UNWANTED_SECONDS - 1.0, ["seed", "one", "frugal"])
    if comes == "after":
        out += broker.opens("frugal", 1, no_source=True)
        assert of(said.Opened, out) and of(said.Grant, out), "what was read is for it too"
    assert not of(said.Quit, out) and not of(said.Refused, out)
    out = broker.passes(1.0, ["seed", "one", "frugal"])
    assert [quit_.permit for quit_ in of(said.Quit, out, "seed")] == [permit.permit]
    (refused,) = of(said.Refused, out, "frugal")
    assert refused.code == "transfer" and "--no-source" in refused.text
    assert broker.machine.counts()["permits"] == 0


def test_who_must_not_go_to_the_source_does_not_wait_for_an_answer_that_nobody_else_waits_for() -> None:
    broker = BrokerTalk()
    for name in ("seed", "one", "frugal"):
        broker.hello(name, seed=name == "seed")
    broker.opens("one")
    assert not broker.opens("frugal", no_source=True)
    broker.hears("one", said.Close(task=TASK))
    for _ in range(2):
        # Nor does coming again give it more time.
        assert not broker.passes(UNWANTED_SECONDS / 2 - 0.25, ["seed", "one", "frugal"])
        assert not broker.opens("frugal", no_source=True)
    out = broker.passes(0.5, ["seed", "one", "frugal"])
    assert of(said.Quit, out, "seed") and of(said.Refused, out, "frugal")


def test_who_comes_back_and_must_not_go_to_the_source_any_more_wants_no_read() -> None:
    broker, _ = reading("one")
    broker.opens("one", 0, no_source=True)
    assert of(said.Quit, broker.passes(UNWANTED_SECONDS, ["seed", "one"]), "seed")


def test_who_comes_back_in_time_keeps_the_read_going_for_others_too() -> None:
    broker, _ = reading("one", "two")
    broker.opens("two", 0, no_source=True)
    broker.hears("one", said.Close(task=TASK))
    broker.passes(UNWANTED_SECONDS - 1.0, ["seed", "one", "two"])
    broker.opens("one", 0)
    out = broker.passes(4 * UNWANTED_SECONDS, ["seed", "one", "two"])
    assert not of(said.Quit, out) and not of(said.Refused, out)


def test_what_is_all_there_is_had_without_the_source_though_the_read_has_ended() -> None:
    broker, _ = reading("one")
    broker.hello("frugal")
    broker.opens("frugal", 0, no_source=True)
    broker.hears("one", said.Close(task=TASK))
    broker.proven("seed", 1)
    out = broker.passes(2 * UNWANTED_SECONDS, ["seed", "one", "frugal"])
    assert not of(said.Refused, out)
