"""Contents that are named by their digest and have several sources, through the broker's door: one is asked after the
other, and each answers for itself."""

from __future__ import annotations

import pytest
from support.broker_talk import BrokerTalk, failed, of, opened_with
from support.talk import GENERATION, proofs

from dfmq.model.task import Request
from dfmq.wire import messages as said

DIGEST = "sha256:" + "ab" * 32
BAD, GOOD, THIRD = (Request(url=f"http://{name}.example/x", digest=DIGEST) for name in ("bad", "good", "third"))
CODES = ["source_refused", "source_failed", "source_unreachable", "not_authorised", "transfer"]


def waiting(*peers: tuple[str, Request]) -> tuple[BrokerTalk, said.Permit]:
    """A broker whose peers have opened the content, and the permit on what the first of them names."""
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    out = []
    for name, request in peers:
        broker.hello(name)
        out += broker.opens(name, 0, request=request)
    (permit,) = of(said.Permit, out)
    assert permit.request == peers[0][1]
    return broker, permit


def refused(out: list[tuple[str, said.Message]]) -> set[str]:
    return {name for name, what in out if isinstance(what, said.Refused)}


@pytest.mark.clause("OPEN-4")
@pytest.mark.parametrize("code", CODES)
def test_when_a_mirror_fails_those_who_name_it_are_told_and_the_next_is_asked(code: str) -> None:
    broker, permit = waiting(("one", BAD), ("two", GOOD), ("three", BAD), ("four", GOOD))
    out = failed(broker, "seed", permit, code)
    assert refused(out) == {"one", "three"}
    (second,) = of(said.Permit, out)
    assert (second.request, second.check_only) == (GOOD, False)
    opened = broker.sourced("seed", second)
    assert {name for name, what in opened if isinstance(what, said.Opened)} == {"two", "four"}


@pytest.mark.clause("OPEN-4", "SRC-1")
def test_mirrors_are_asked_one_at_a_time_and_each_once() -> None:
    peers = [(f"p{number}", (BAD, GOOD, THIRD)[number % 3]) for number in range(9)]
    broker, permit = waiting(*peers)
    asked = [permit.request]
    told: set[str] = set()
    for _ in range(3):
        out = failed(broker, "seed", permit, "source_failed")
        mine = {name for name, request in peers if request == asked[-1]}
        assert refused(out) == mine
        told |= mine
        for permit in of(said.Permit, out):
            asked.append(permit.request)
    assert asked == [BAD, GOOD, THIRD]
    assert len(told) == 9
    assert broker.machine.counts()["permits"] == 0


def test_a_mirrors_refusal_is_remembered_for_it_alone() -> None:
    broker, permit = waiting(("one", BAD))
    failed(broker, "seed", permit, "source_refused")
    for name in ("two", "three"):
        broker.hello(name)
    assert refused(broker.opens("two", 0, request=BAD)) == {"two"}
    (second,) = of(said.Permit, broker.opens("three", 0, request=GOOD))
    assert second.request == GOOD
    broker.sourced("seed", second)
    assert of(said.Opened, broker.opens("two", 0, request=BAD)), "it is being read: whence does not matter"


@pytest.mark.parametrize("url", ["HTTP://Bad.example:80/x", "http://bad.example/x#part"])
def test_one_mirror_written_in_two_ways_is_asked_once(url: str) -> None:
    broker, permit = waiting(("one", BAD), ("two", Request(url=url, digest=DIGEST)))
    out = failed(broker, "seed", permit, "source_refused")
    assert refused(out) == {"one", "two"}
    assert not of(said.Permit, out)


@pytest.mark.parametrize("code", CODES)
def test_when_a_mirror_breaks_off_the_rest_is_read_from_another(code: str) -> None:
    broker, permit = waiting(("one", BAD), ("two", GOOD))
    broker.sourced("seed", permit)
    broker.hears("seed", said.Proven(task=permit.task, generation=GENERATION, piece=0, proofs=proofs(0)))
    out = failed(broker, "seed", permit, code)
    assert refused(out) == {"one"}
    (second,) = of(said.Permit, out)
    assert (second.request, second.check_only, second.generation) == (GOOD, False, GENERATION)


def test_what_is_lost_is_read_from_the_mirror_that_has_not_just_failed() -> None:
    broker, permit = waiting(("one", BAD), ("two", GOOD))
    broker.sourced("seed", permit)
    (second,) = of(said.Permit, failed(broker, "seed", permit, "source_failed"))
    assert second.request == GOOD
    assert of(said.Opened, broker.opens("one", 0, request=BAD))
    broker.hears("two", said.Close(task=permit.task))
    broker.opens("two", 0, request=GOOD)
    out = broker.hears("seed", said.Bye())
    (third,) = of(said.Permit, out)
    assert third.request == GOOD
    assert not refused(out), "and who named the other one goes on with that"


def test_credentials_are_asked_about_at_the_mirror_that_each_names() -> None:
    token = (("Authorization", "Bearer mine"),)
    mine, other = (Request(url=request.url, digest=DIGEST, headers=token) for request in (BAD, GOOD))
    broker = opened_with(Request(url=THIRD.url, digest=DIGEST, headers=(("Authorization", "Bearer first"),)))
    for name in ("one", "two"):
        broker.hello(name)
    (check,) = of(said.Permit, broker.opens("one", 0, request=mine))
    assert not broker.opens("two", 0, request=other)
    out = failed(broker, "seed", check, "not_authorised")
    assert refused(out) == {"one"}
    (again,) = of(said.Permit, out)
    assert (again.check_only, again.request) == (True, other)
    assert of(said.Opened, broker.sourced("seed", again), "two")


def test_another_reader_without_space_before_it_is_asked_for_the_same_mirror() -> None:
    broker, permit = waiting(("one", BAD), ("two", GOOD))
    (second,) = of(said.Permit, failed(broker, "seed", permit, "no_space"))
    assert second.request == BAD
    assert refused(failed(broker, "one", second, "source_refused")) == {"one"}
