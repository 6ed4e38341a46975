"""The clauses of docs/protocol.md that bind a broker, shown on its machine. Rules of choice have tests of their own."""

from __future__ import annotations

import msgspec
import pytest
from support.broker_talk import BrokerTalk, leases, of, with_content
from support.talk import CUT, GENERATION, OTHER_GENERATION, REQUEST, TASK, exchange, peer_id, proofs

from dfmq.machines.broker.backsource import UNWANTED_SECONDS
from dfmq.wire import messages as said

PRIVATE = msgspec.structs.replace(REQUEST, headers=(("Authorization", "Bearer mine"),))


@pytest.mark.clause("SESS-2")
def test_hello_is_answered_by_welcome_with_the_epoch() -> None:
    broker = BrokerTalk()
    (welcome,) = of(said.Welcome, broker.hello("a"), "a")
    assert (welcome.epoch, welcome.notices, welcome.beat_seconds) == (7, "tcp://broker.example:7401", broker.beat)
    assert of(said.Welcome, broker.hello("a")) == [welcome], "said again, answered again"


@pytest.mark.clause("SESS-3")
@pytest.mark.parametrize("message", [said.Beat(), said.Close(task=TASK), said.Want(task=TASK, count=1)])
def test_whoever_has_not_said_hello_is_unknown(message: said.Message) -> None:
    broker = BrokerTalk()
    (error,) = of(said.Error, broker.hears("a", message), "a")
    assert error.code == "unknown_peer"


@pytest.mark.clause("SESS-4")
def test_a_peer_not_heard_for_three_beats_is_lost_and_its_leases_are_void() -> None:
    broker = with_content("parent", "child")
    assert leases(broker.hears("parent", said.Want(task=TASK, count=2)))
    broker.hears("parent", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    broker.hears("seed", said.Bye())
    (lease,) = leases(broker.hears("child", said.Want(task=TASK, count=1)), "child")
    assert lease.parent == peer_id("parent")
    assert not broker.passes(2.9 * broker.beat, living=["child"])
    (revoke,) = of(said.Revoke, broker.passes(0.2 * broker.beat + 0.25, living=["child"]), "child")
    assert revoke.leases == [lease.lease]
    (error,) = of(said.Error, broker.hears("parent", said.Beat()), "parent")
    assert error.code == "unknown_peer"


@pytest.mark.clause("SESS-4")
def test_any_message_proves_life_and_bye_ends_it() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    for _ in range(4):
        broker.passes(2 * broker.beat)
        assert not of(said.Error, broker.hears("a", said.Held(task=TASK, generation=GENERATION, held=b"\x01")))
    broker.hears("a", said.Bye())
    assert of(said.Error, broker.hears("a", said.Beat()))


@pytest.mark.clause("SESS-5")
def test_a_beat_is_echoed() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    assert of(said.BeatSeen, broker.hears("a", said.Beat(stamp=42)), "a") == [said.BeatSeen(stamp=42)]


@pytest.mark.clause("OPEN-1", "SRC-1", "SRC-2")
def test_one_permit_serves_all_who_wait_and_all_are_told_at_once() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    permits = []
    for name in ("a", "b", "c"):
        broker.hello(name)
        out = broker.opens(name)
        permits += of(said.Permit, out, "seed")
        assert not of(said.Opened, out)
    (permit,) = permits
    assert not permit.check_only
    opened = broker.sourced("seed", permit)
    for name in ("a", "b", "c"):
        (message,) = of(said.Opened, opened, name)
        assert (message.generation, message.length) == (GENERATION, CUT.length)
        assert (message.piece_length, message.chunk_length) == (CUT.piece_length, CUT.chunk_length)


@pytest.mark.clause("OPEN-1")
def test_a_task_that_is_not_its_requests_is_refused() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("a")
    other = msgspec.structs.replace(REQUEST, url="http://source.example/else")
    out = broker.hears("a", said.Open(task=TASK, request=other))
    (refused,) = of(said.Refused, out, "a")
    assert refused.code == "settings"
    assert not of(said.Permit, out)
    assert of(said.Refused, broker.hears("a", said.Open(task=TASK, request=msgspec.structs.replace(REQUEST, url="x"))))


@pytest.mark.clause("OPEN-2", "GEN-1")
def test_another_content_at_the_source_is_told_to_all_and_nothing_of_the_old_is_granted() -> None:
    broker = with_content("a", "b")
    broker.hears("a", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    broker.passes(61, living=["seed", "a", "b"])
    broker.hello("c")
    (permit,) = of(said.Permit, broker.opens("c"), "seed")
    assert permit.check_only
    assert permit.generation == GENERATION
    out = broker.sourced("seed", permit, generation=OTHER_GENERATION)
    for name in ("a", "b", "c"):
        assert [opened.generation for opened in of(said.Opened, out, name)] == [OTHER_GENERATION]
    out += broker.hears("b", said.Want(task=TASK, count=2))
    out += broker.hears("a", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    assert not leases(out)


@pytest.mark.clause("OPEN-3")
def test_a_refusal_is_told_to_everybody_who_waits_and_remembered() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("a", "b", "late"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("a"))
    broker.opens("b")
    failed = said.SourceFailed(permit=permit.permit, task=TASK, code="source_refused", text="404 Not Found")
    out = broker.hears("seed", failed)
    for name in ("a", "b"):
        (refused,) = of(said.Refused, out, name)
        assert (refused.code, refused.text) == ("source_refused", "404 Not Found")
    out = broker.opens("late")
    assert of(said.Refused, out, "late")
    assert not of(said.Permit, out)


@pytest.mark.clause("OPEN-3", "SRC-4")
def test_credentials_are_checked_with_the_source_and_their_refusal_is_theirs_alone() -> None:
    broker = with_content("a")
    broker.hears("a", said.Want(task=TASK, count=2))
    with_mine = broker.opens("a", request=PRIVATE)
    # Whoever may have it without credentials may have it with any.
    assert of(said.Opened, with_mine, "a")
    private = BrokerTalk()
    private.hello("seed", seed=True)
    for name in ("owner", "stranger"):
        private.hello(name)
    (permit,) = of(said.Permit, private.opens("owner", request=PRIVATE), "seed")
    assert permit.request.headers == PRIVATE.headers
    assert of(said.Opened, private.sourced("seed", permit), "owner")
    out = private.opens("stranger")
    assert not of(said.Opened, out)
    (check,) = of(said.Permit, out, "seed")
    assert check.check_only
    assert check.request.headers == ()
    out = private.hears(
        "seed", said.SourceFailed(permit=check.permit, task=TASK, code="not_authorised", text="401 Unauthorized")
    )
    assert [refused.code for refused in of(said.Refused, out, "stranger")] == ["not_authorised"]
    assert not of(said.Refused, out, "owner")


@pytest.mark.clause("WANT-1", "LEASE-2")
def test_a_want_stands_until_its_piece_is_proven_and_wants_add_up() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("a")
    (permit,) = of(said.Permit, broker.opens("a", 1), "seed")
    out = broker.sourced("seed", permit)
    out += broker.hears("a", said.Want(task=TASK, count=1))
    assert not leases(out)
    (first,) = leases(broker.proven("seed", 0), "a")
    (second,) = leases(broker.proven("seed", 1), "a")
    assert [(lease.piece, lease.proofs) for lease in (first, second)] == [(0, proofs(0)), (1, proofs(1))]
    assert first.endpoint == exchange("seed")
    assert first.seed


@pytest.mark.clause("LEASE-1")
def test_a_piece_is_passed_on_while_it_comes_in_but_never_back() -> None:
    broker = with_content("a", "b", "c", seed_slots=1)
    (mine,) = leases(broker.hears("a", said.Want(task=TASK, count=1)), "a")
    assert mine.parent == peer_id("seed")
    (other,) = leases(broker.hears("b", said.Want(task=TASK, count=1)), "b")
    (third,) = leases(broker.hears("c", said.Want(task=TASK, count=1)), "c")
    assert {other.parent, third.parent} <= {peer_id("a"), peer_id("b")}
    # Now a loses its parent: nobody who takes the piece from a may give it to a.
    out = broker.hears("a", said.Failed(task=TASK, lease=mine.lease, piece=mine.piece, code="stalled"))
    parents = {lease.parent for lease in leases(out, "a") if lease.piece == mine.piece}
    assert parents <= {peer_id("seed")}


@pytest.mark.clause("LEASE-3")
@pytest.mark.parametrize(("code", "again"), [("stalled", True), ("unreachable", True), ("cancelled", False)])
def test_a_failed_lease_is_replaced_unless_the_child_cancelled_it(code: str, again: bool) -> None:
    broker = with_content("a")
    (lease,) = leases(broker.hears("a", said.Want(task=TASK, count=1)), "a")
    out = broker.hears("a", said.Failed(task=TASK, lease=lease.lease, piece=lease.piece, code=code))
    replaced = leases(out + broker.passes(6, living=["seed", "a"]), "a")
    assert bool(replaced) == again
    assert all(new.lease != lease.lease for new in replaced)


@pytest.mark.clause("LEASE-3")
def test_a_lease_ends_by_have_by_close_and_by_its_deadline() -> None:
    broker = with_content("a", "b", "c")
    for name in ("a", "b", "c"):
        (lease,) = leases(broker.hears(name, said.Want(task=TASK, count=1)), name)
        if name == "a":
            broker.hears("a", said.Have(task=TASK, generation=GENERATION, pieces=[lease.piece]))
        elif name == "b":
            broker.hears("b", said.Close(task=TASK))
    out = broker.passes(lease.seconds + 1, living=["seed", "a", "b", "c"])
    assert [(name, what.leases) for name, what in out if isinstance(what, said.Revoke)] == [("c", [lease.lease])]
    assert leases(out, "c"), "the want counts again"
    assert not leases(out, "a")
    assert not leases(out, "b")


@pytest.mark.clause("LEASE-4")
def test_a_child_has_one_lease_on_a_piece_however_much_it_wants() -> None:
    broker = with_content("a")
    granted = leases(broker.hears("a", said.Want(task=TASK, count=10)), "a")
    assert sorted(lease.piece for lease in granted) == [0, 1]
    assert not leases(broker.hears("a", said.Want(task=TASK, count=10)))


@pytest.mark.clause("SRC-3")
def test_the_end_of_a_growing_content_is_passed_on() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("a", "b"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("a", 4))
    broker.opens("b", 4)
    out = broker.sourced("seed", permit, length=None)
    assert [opened.length for opened in of(said.Opened, out)] == [None, None]
    assert leases(broker.proven("seed", 0), "a")
    sealed = said.Sealed(task=TASK, generation=GENERATION, length=300 * 1024)
    out = broker.hears("seed", sealed)
    assert of(said.Sealed, out, "a") == of(said.Sealed, out, "b") == [sealed]


@pytest.mark.clause("SRC-5")
def test_a_lost_reader_is_replaced() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("other", seed=True)
    broker.hello("a")
    out = broker.opens("a")
    (first,) = {name for name, what in out if isinstance(what, said.Permit)}
    out = broker.hears(first, said.Bye())
    (second,) = {name for name, what in out if isinstance(what, said.Permit)}
    assert {first, second} == {"seed", "other"}


@pytest.mark.clause("SRC-6")
def test_what_nobody_has_open_any_more_is_not_read_on() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("a")
    (permit,) = of(said.Permit, broker.opens("a"))
    broker.sourced("seed", permit)
    broker.hears("a", said.Close(task=TASK))
    (quit_,) = of(said.Quit, broker.passes(UNWANTED_SECONDS, living=["seed", "a"]), "seed")
    assert (quit_.permit, quit_.task) == (permit.permit, TASK)


@pytest.mark.clause("LEASE-1", "LEASE-3")
def test_whoever_holds_what_it_was_taking_takes_it_no_more() -> None:
    """It may come to serve the very parent of its lease: their chain would be a ring."""
    broker = with_content("a", "b", seed_slots=1)
    (first,) = leases(broker.hears("a", said.Want(task=TASK, count=1)), "a")
    (second,) = leases(broker.hears("b", said.Want(task=TASK, count=1)), "b")
    assert second.parent == peer_id("a")
    broker.hears("a", said.Have(task=TASK, generation=GENERATION, pieces=[1 - first.piece]))
    broker.hears("b", said.Held(task=TASK, generation=GENERATION, held=b"\x03"))
    (again,) = leases(broker.hears("seed", said.Bye()) + broker.passes(1, living=["a", "b"]), "a")
    assert (again.piece, again.parent) == (first.piece, peer_id("b"))


def test_whoever_has_lost_a_piece_it_still_wants_is_served_again() -> None:
    broker = with_content("a")
    for lease in leases(broker.hears("a", said.Want(task=TASK, count=2)), "a"):
        broker.hears("a", said.Have(task=TASK, generation=GENERATION, pieces=[lease.piece]))
    broker.hears("a", said.Want(task=TASK, count=1))
    assert leases(broker.hears("a", said.Lost(task=TASK, pieces=[0])), "a")
