"""The broker's door: strangers, liars, lives that follow each other, and what people are shown. Clauses of the protocol
are in test_clauses_broker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.broker_talk import BrokerTalk, leases, of, with_content
from support.talk import GENERATION, TASK, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.broker import catalog
from dfmq.machines.broker.backsource import UNWANTED_SECONDS
from dfmq.machines.broker.catalog import IDLE_SECONDS
from dfmq.model.host import HostSample
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said


def row(broker: BrokerTalk, name: str) -> dict[str, Any]:
    (found,) = [row for row in broker.machine.peers() if row["peer"] == peer_id(name).hex()]
    return found


def is_refused(broker: BrokerTalk, name: str, message: said.Message) -> bool:
    """The machine takes a note of the message, and does nothing."""
    before = (broker.machine.tasks(), broker.machine.counts())
    effects = broker.machine.handle(told.PeerSaid(peer_id(name), message), broker.now)
    broker.machine.check()
    notes = [effect.name for effect in effects if isinstance(effect, do.Record)]
    return notes == ["message.refused"] and before == (broker.machine.tasks(), broker.machine.counts())


# ── who speaks ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_comes_under_anothers_name() -> None:
    broker = BrokerTalk()
    hello = said.Hello(peer=peer_id("b"), host=b"h" * 16, exchange=exchange("b"))
    assert [error.code for error in of(said.Error, broker.hears("a", hello), "a")] == ["malformed"]
    assert broker.machine.counts()["peers"] == 0


def test_a_peer_that_comes_in_a_dead_ones_place_takes_over_nothing() -> None:
    broker = with_content("one")
    (first, _) = leases(broker.hears("one", said.Want(task=TASK, count=2)))
    host = b"one".rjust(16, b"-")
    out = broker.hears("new", said.Hello(peer=peer_id("new"), host=host, exchange=exchange("one")))
    assert len(of(said.Welcome, out, "new")) == 1
    assert broker.machine.counts() | {"tasks": 0, "seeds": 0} == dict.fromkeys(broker.machine.counts(), 0) | {
        "peers": 2
    }
    gone = broker.hears("one", said.Failed(task=TASK, lease=first.lease, piece=first.piece, code="stalled"))
    assert [error.code for error in of(said.Error, gone, "one")] == ["unknown_peer"]


def test_a_peer_that_comes_back_keeps_what_is_known_of_it_and_may_have_moved() -> None:
    broker = with_content("one", "two")
    broker.hears("one", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    hello = said.Hello(
        peer=peer_id("one"), host=b"one".rjust(16, b"-"), exchange="tcp://moved:1", name="new name", seed=True
    )
    broker.hears("one", hello)
    assert (row(broker, "one")["exchange"], row(broker, "one")["name"]) == ("tcp://moved:1", "new name")
    assert not row(broker, "one")["seed"], "a seed is one from its birth"
    broker.hears("seed", said.Bye())
    (lease,) = leases(broker.hears("two", said.Want(task=TASK, count=1)))
    assert (lease.parent, lease.endpoint, lease.seed) == (peer_id("one"), "tcp://moved:1", False)


def test_who_names_another_host_when_it_comes_back_takes_nobodys_place_unseen() -> None:
    broker, host = BrokerTalk(), b"h" * 16
    for name in ("a", "b"):
        broker.hears(name, said.Hello(peer=peer_id(name), host=host, exchange=exchange(name)))
    broker.hears("b", said.Hello(peer=peer_id("b"), host=b"x" * 16, exchange=exchange("a")))
    assert broker.machine.counts()["peers"] == 1, "a's place is b's, and a is lost"
    gone = broker.hears("a", said.Bye())
    assert of(said.Error, gone, "a") == []
    broker.hears("b", said.Bye())
    assert broker.machine.counts()["peers"] == 0


@pytest.mark.parametrize("message", [said.Bye(), said.Error(code="malformed")])
def test_strangers_who_leave_or_complain_get_no_answer(message: said.Message) -> None:
    assert BrokerTalk().hears("a", message) == []


def test_what_no_peer_says_to_a_broker_is_answered_by_an_error() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    effects = broker.machine.handle(told.PeerSaid(peer_id("a"), said.Quit(permit=1, task=TASK)), broker.now)
    answers = [effect.message for effect in effects if isinstance(effect, do.Send)]
    assert [answer.code for answer in answers if isinstance(answer, said.Error)] == ["unknown_message"]


def test_an_error_is_noted_and_never_answered() -> None:
    broker = BrokerTalk()
    broker.hello("a")
    assert is_refused(broker, "a", said.Error(code="malformed"))


# ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_wants_before_it_has_opened_is_told_so() -> None:
    broker = with_content("one")
    broker.hello("two")
    (error,) = of(said.Error, broker.hears("two", said.Want(task=TASK, count=1)))
    assert error.code == "unknown_task"


@pytest.mark.parametrize(
    "message",
    [
        said.Proven(task=TASK, generation=GENERATION, piece=0, proofs=proofs(0)[:-16]),
        said.Proven(task=TASK, generation=GENERATION, piece=2, proofs=proofs(0)),
        said.Proven(task=TASK, generation=GENERATION, piece=0, proofs=proofs(1)),
        said.Proven(task=TASK, generation=b"another-", piece=0, proofs=proofs(0)),
        said.Proven(task=b"?" * 16, generation=GENERATION, piece=0, proofs=proofs(0)),
        said.Sealed(task=TASK, generation=b"another-", length=1),
        said.Sourced(permit=99, task=TASK, generation=GENERATION, length=1, piece_length=1, chunk_length=1),
        said.SourceFailed(permit=99, task=TASK, code="source_failed", text=""),
    ],
)
def test_what_a_seed_says_and_cannot_be_is_noted_and_changes_nothing(message: said.Message) -> None:
    assert is_refused(with_content("one"), "seed", message)


def test_nobody_ends_anothers_lease() -> None:
    broker = with_content("one", "two")
    (lease,) = leases(broker.hears("one", said.Want(task=TASK, count=1)))
    broker.hears("two", said.Failed(task=TASK, lease=lease.lease, piece=lease.piece, code="corrupt"))
    broker.hears("one", said.Failed(task=b"?" * 16, lease=lease.lease, piece=lease.piece, code="corrupt"))
    broker.hears("one", said.Failed(task=TASK, lease=lease.lease, piece=lease.piece + 1, code="corrupt"))
    counts = broker.machine.counts()
    assert (counts["leases"], counts["suspected"], counts["quarantined"]) == (1, 0, 0)


def test_what_a_peer_has_lost_is_taken_from_others_now() -> None:
    broker = with_content("one", "two", seed_slots=1)
    broker.hears("one", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    first = leases(broker.hears("two", said.Want(task=TASK, count=2)))
    assert {lease.parent for lease in first} == {peer_id("seed"), peer_id("one")}
    out = broker.hears("one", said.Lost(task=TASK, all_pieces=True))
    (revoked,) = of(said.Revoke, out, "two")
    assert revoked.leases == [lease.lease for lease in first if lease.parent == peer_id("one")]
    assert row(broker, "one")["serving"] == 0
    assert broker.machine.tasks()[0]["holders"] == 1


def test_a_task_that_nobody_wants_is_not_read_on_and_then_forgotten() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    broker.opens("one", 0)
    broker.hears("one", said.Close(task=TASK))
    counts = []
    for seconds in (0.0, UNWANTED_SECONDS, IDLE_SECONDS):
        broker.passes(seconds, ["seed"])
        counts.append((broker.machine.counts()["tasks"], broker.machine.counts()["permits"]))
    assert counts == [(1, 1), (1, 0), (0, 0)]


def test_a_peer_that_got_more_contents_than_are_remembered_of_it_gets_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog, "MOST_TASKS_OF_PEER", 3)
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    for number in range(6):
        request = Request(url=f"http://source.example/{number}")
        task = task_id(request)
        (permit,) = of(said.Permit, broker.opens("one", 2, request=request))
        broker.sourced("seed", permit)
        for piece in (0, 1):
            proven = said.Proven(task=task, generation=GENERATION, piece=piece, proofs=proofs(piece))
            broker.hears("seed", proven)
        broker.hears("one", said.Have(task=task, generation=GENERATION, pieces=[0, 1]))
        broker.hears("one", said.Close(task=task))
    counts = {row["url"][-1]: row["holders"] for row in broker.machine.tasks()}
    assert counts == {"0": 0, "1": 0, "2": 0, "3": 2, "4": 2, "5": 2}
    (again,) = of(said.Permit, broker.opens("one", 0, request=Request(url="http://source.example/0")))
    assert not again.check_only


# ── what people see ───────────────────────────────────────────────────────────────────────────────────────────────


def test_people_see_how_far_a_task_is() -> None:
    broker = with_content("one", "two", seed_slots=1)
    broker.hears("one", said.Have(task=TASK, generation=GENERATION, pieces=[0]))
    broker.hears("one", said.Want(task=TASK, count=3))
    (task,) = broker.machine.tasks()
    assert task == {
        "task": TASK.hex(),
        "url": "http://source.example/content",
        "generation": GENERATION.hex(),
        "length": 512 * 1024,
        "piece_length": 256 * 1024,
        "pieces": 2,
        "available": 2,
        "members": 2,
        "waiting": 0,
        "holders": 2,
        "complete": 1,
        "wants": 2,
        "leases": 1,
        "permits": 0,
    }


def test_people_see_how_a_peer_is() -> None:
    broker = with_content("one", seed_slots=2)
    broker.hears("one", said.Want(task=TASK, count=2))
    broker.hears("one", said.Beat(sample=HostSample(cpu_share=0.5), down_rate=3_000_000, up_rate=1_000_000))
    broker.now += 1.5
    broker.hears("seed", said.Beat())
    one, seed = row(broker, "one"), row(broker, "seed")
    assert (one["down_bytes_per_second"], one["up_bytes_per_second"]) == (3_000_000, 1_000_000)
    assert (one["heard_seconds_ago"], one["cpu_share"], one["receiving"], one["serving"]) == (1.5, 0.5, 2, 0)
    assert (seed["seed"], seed["slots"], seed["booked"], seed["serving"]) == (True, 2.0, 2.0, 2)
    assert json.dumps([broker.machine.peers(), broker.machine.tasks(), broker.machine.counts()])
