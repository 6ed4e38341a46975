"""Who is let to a task and who is told no, through the broker's door: permits, refusals, credentials, generations."""

from __future__ import annotations

import pytest
from support.broker_talk import BrokerTalk, failed, leases, of, opened_with, with_content
from support.talk import CUT, GENERATION, MINE, OTHER_GENERATION, REQUEST, TASK, THEIRS, peer_id, proofs

from dfmq.machines.broker.admission import FAILURES_BEFORE_RESCUE
from dfmq.machines.broker.catalog import IDLE_SECONDS
from dfmq.model.pieces import KIB
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said

BY_DIGEST = Request(url="http://mirror.example/x", digest="sha256:" + "ab" * 32)


# ── one reader ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_thirty_opens_are_one_permit_and_thirty_opened() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    names = [f"p{number}" for number in range(30)]
    out = []
    for name in names:
        broker.hello(name)
        out += broker.opens(name, 0)
    (permit,) = of(said.Permit, out, "seed")
    assert not permit.check_only
    told = broker.sourced("seed", permit)
    assert sorted(name for name, what in told if isinstance(what, said.Opened)) == sorted(names)


def test_a_permit_names_the_most_hosts_there_were_at_once_and_what_somebody_says_to_hold() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "two", "three"):
        broker.hello(name)
    broker.hears("two", said.Bye())
    broker.hears("three", said.Bye())
    broker.hears("one", said.Held(task=TASK, generation=OTHER_GENERATION, held=b"\x01"))
    (permit,) = of(said.Permit, broker.opens("one"), "seed")
    assert (permit.hosts, permit.claimed, permit.generation) == (3, OTHER_GENERATION, b"")


def test_a_refusal_is_told_to_all_thirty_at_once_and_remembered_for_a_while() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    names = [f"p{number}" for number in range(30)]
    out = []
    for name in names:
        broker.hello(name)
        out += broker.opens(name)
    (permit,) = of(said.Permit, out)
    told = failed(broker, "seed", permit, "source_refused")
    assert sorted(name for name, what in told if isinstance(what, said.Refused)) == sorted(names)
    (again,) = of(said.Refused, broker.opens("p0"))
    assert (again.code, again.text) == ("source_refused", "why not")
    assert again.retry_after > 0
    broker.passes(5.25, ["seed", "p0"])
    assert len(of(said.Permit, broker.opens("p0"))) == 1


def test_a_reader_without_space_is_replaced_and_only_the_last_ones_word_is_told() -> None:
    broker = BrokerTalk()
    for name in ("seed", "seed2"):
        broker.hello(name, seed=True)
    broker.hello("one")
    (first,) = of(said.Permit, broker.opens("one"), "seed")
    (second,) = of(said.Permit, failed(broker, "seed", first, "no_space"), "seed2")
    (third,) = of(said.Permit, failed(broker, "seed2", second, "no_space"), "one")
    (refused,) = of(said.Refused, failed(broker, "one", third, "no_space"), "one")
    assert refused.code == "no_space"


def test_without_a_seed_who_waits_reads_for_all() -> None:
    broker = BrokerTalk()
    broker.hello("one")
    broker.hello("two")
    (permit,) = of(said.Permit, broker.opens("one"), "one")
    assert broker.opens("two") == []
    assert {name for name, what in broker.sourced("one", permit) if isinstance(what, said.Opened)} == {"one", "two"}
    (lease,) = leases(broker.proven("one", 0), "two")
    assert not lease.seed


def test_a_permit_is_said_again_to_a_reader_that_comes_back() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    assert of(said.Permit, broker.hello("seed", seed=True)) == [permit]


def test_only_the_reader_and_seeds_have_a_word_on_the_content() -> None:
    broker = with_content("one", "two")
    assert not of(said.Opened, broker.hears("two", said.Sourced(
        permit=1, task=TASK, generation=OTHER_GENERATION, length=1, piece_length=1, chunk_length=1
    )))  # fmt: skip
    broker.proven("two", 0)
    assert broker.machine.tasks()[0]["holders"] == 1
    broker.hears("seed", said.Proven(task=TASK, generation=GENERATION, piece=0, proofs=proofs(1)))
    broker.hears("one", said.Want(task=TASK, count=2))
    (lease,) = [x for x in leases(broker.hears("two", said.Want(task=TASK, count=2))) if x.piece == 0]
    assert lease.proofs == proofs(0), "what was proven first stands"


def test_whom_nobody_may_read_the_source_for_is_refused_at_once() -> None:
    """No seed is here, and the only peer is in quarantine: others shall not believe what it reads."""
    broker = with_content("bad", "two")
    broker.hears("bad", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    broker.hears("seed", said.Bye())
    (lease,) = leases(broker.hears("two", said.Want(task=TASK, count=1)))
    broker.hears("two", said.Failed(task=TASK, lease=lease.lease, piece=lease.piece, code="corrupt"))
    broker.hears("two", said.Bye())
    (refused,) = of(said.Refused, broker.opens("bad", request=BY_DIGEST))
    assert refused.code == "transfer"
    assert broker.machine.counts()["permits"] == 0


# ── credentials ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_private_content_is_opened_only_to_whom_the_source_accepts() -> None:
    broker = opened_with(MINE)
    broker.hello("two")
    out = broker.opens("two", request=THEIRS)
    (check,) = of(said.Permit, out, "seed")
    assert (check.check_only, check.request, check.generation) == (True, THEIRS, GENERATION)
    assert not of(said.Opened, out)
    (refused,) = of(said.Refused, failed(broker, "seed", check, "not_authorised"))
    assert refused.code == "not_authorised"
    assert len(of(said.Opened, broker.opens("first", request=MINE), "first")) == 1, "it is not the other's refusal"


def test_credentials_once_accepted_are_not_checked_again() -> None:
    broker = opened_with(MINE)
    for name in ("two", "three"):
        broker.hello(name)
    (check,) = of(said.Permit, broker.opens("two", request=THEIRS))
    assert len(of(said.Opened, broker.sourced("seed", check), "two")) == 1
    assert len(of(said.Opened, broker.opens("three", request=THEIRS), "three")) == 1


def test_a_wrong_token_of_the_first_does_not_refuse_the_others() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "two"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("one", request=THEIRS))
    broker.opens("two", request=MINE)
    out = failed(broker, "seed", permit, "not_authorised")
    assert len(of(said.Refused, out, "one")) == 1
    (second,) = of(said.Permit, out, "seed")
    assert second.request == MINE
    assert not of(said.Refused, out, "two")


def test_credentials_that_go_bad_while_a_content_is_read_stop_only_those_who_have_them() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    for name in ("one", "two"):
        broker.hello(name)
    (permit,) = of(said.Permit, broker.opens("one", 0, request=MINE))
    broker.sourced("seed", permit)
    (check,) = of(said.Permit, broker.opens("two", 0, request=THEIRS))
    broker.sourced("seed", check)
    out = failed(broker, "seed", permit, "not_authorised")
    assert [name for name, what in out if isinstance(what, said.Refused)] == ["one"]
    (again,) = of(said.Permit, out)
    assert (again.request, again.check_only) == (THEIRS, False)


def test_content_that_anybody_may_have_is_not_checked_for_each_token() -> None:
    broker = opened_with(REQUEST)
    broker.hello("two")
    assert len(of(said.Opened, broker.opens("two", request=MINE))) == 1


# ── freshness ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stale_answer_is_checked_once_for_all_who_come() -> None:
    broker = opened_with(REQUEST, fresh_seconds=5.0)
    broker.passes(6.0, ["seed", "first"])
    out = []
    for name in ("two", "three"):
        broker.hello(name)
        out += broker.opens(name, 0)
    (check,) = of(said.Permit, out)
    assert check.check_only
    assert {name for name, what in broker.sourced("seed", check) if isinstance(what, said.Opened)} == {"two", "three"}


def test_content_named_by_its_digest_is_not_revalidated() -> None:
    broker = opened_with(BY_DIGEST, fresh_seconds=0.0)
    broker.passes(30.0, ["seed", "first"])
    broker.hello("two")
    out = broker.opens("two", request=BY_DIGEST)
    assert (len(of(said.Opened, out)), of(said.Permit, out)) == (1, [])


def test_no_source_is_served_from_what_is_there_however_stale_and_refused_where_nothing_is() -> None:
    broker = opened_with(REQUEST, fresh_seconds=0.0)
    broker.passes(30.0, ["seed", "first"])
    broker.hello("two")
    assert len(of(said.Opened, broker.opens("two", no_source=True))) == 1
    (refused,) = of(said.Refused, broker.opens("two", request=BY_DIGEST, no_source=True))
    assert refused.code == "transfer"
    assert "--no-source" in refused.text


# ── generations ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_pieces_of_another_generation_are_nobodys() -> None:
    broker = with_content("one")
    broker.hello("old")
    held = said.Held(task=TASK, generation=OTHER_GENERATION, held=b"\x03")
    broker.hears("old", held)
    broker.hears("old", said.Have(task=TASK, generation=OTHER_GENERATION, pieces=[0]))
    assert broker.machine.tasks()[0]["holders"] == 1
    broker.opens("old", 0, generation=OTHER_GENERATION, held=b"\x03")
    assert len(leases(broker.hears("old", said.Want(task=TASK, count=2)))) == 2, "what it has is of no use"


def test_a_change_found_by_a_check_ends_every_lease_and_is_fetched_by_who_found_it() -> None:
    broker = opened_with(REQUEST, fresh_seconds=5.0)
    broker.hears("first", said.Want(task=TASK, count=2))
    broker.passes(6.0, ["seed", "first"])
    broker.hello("two")
    (check,) = of(said.Permit, broker.opens("two", 1))
    out = broker.sourced("seed", check, generation=OTHER_GENERATION)
    assert {what.generation for what in of(said.Opened, out)} == {OTHER_GENERATION}
    assert {name for name, what in out if isinstance(what, said.Opened)} == {"first", "two"}
    counts = broker.machine.counts()
    assert (counts["leases"], counts["permits"]) == (0, 1)
    assert broker.machine.tasks()[0]["available"] == 0
    stale = said.Proven(task=TASK, generation=GENERATION, piece=0, proofs=proofs(0))
    assert not leases(broker.hears("seed", stale)), "a late word on the old content is not mixed in"
    new = said.Proven(task=TASK, generation=OTHER_GENERATION, piece=0, proofs=proofs(1))
    assert {lease.proofs for lease in leases(broker.hears("seed", new))} == {proofs(1)}


def test_a_second_reader_of_the_same_change_is_told_to_quit() -> None:
    broker = opened_with(MINE, fresh_seconds=5.0)
    for name in ("two", "three"):
        broker.hello(name)
    broker.passes(6.0, ["seed", "first", "two", "three"])
    (first,) = of(said.Permit, broker.opens("two", request=MINE))
    (second,) = of(said.Permit, broker.opens("three", request=THEIRS))
    broker.sourced("seed", first, generation=OTHER_GENERATION)
    assert [quit.permit for quit in of(said.Quit, broker.sourced("seed", second, generation=OTHER_GENERATION))] == [
        second.permit
    ]


def test_whoever_has_to_be_checked_for_the_new_content_is_granted_nothing_of_it_until_then() -> None:
    """Its wants stand, and it was parked when the content changed."""
    broker = opened_with(MINE, fresh_seconds=5.0)
    for name in ("two", "three"):
        broker.hello(name)
    (check,) = of(said.Permit, broker.opens("two", 3, request=THEIRS))
    assert len(leases(broker.sourced("seed", check, fresh_seconds=5.0), "two")) == 2
    assert broker.machine.counts()["parked"] == 1
    broker.passes(6.0, ["seed", "first", "two", "three"])
    (first,) = of(said.Permit, broker.opens("three", 0, request=MINE))
    out = broker.sourced("seed", first, generation=OTHER_GENERATION)
    (again,) = of(said.Permit, out)
    assert (again.check_only, again.request) == (True, THEIRS)
    assert broker.machine.counts()["parked"] == 0
    out += broker.hears("seed", said.Proven(task=TASK, generation=OTHER_GENERATION, piece=0, proofs=proofs(1)))
    assert not leases(out, "two")
    out = broker.sourced("seed", again, generation=OTHER_GENERATION)
    assert [type(what) for name, what in out if name == "two"] == [said.Opened, said.Grant]


def test_a_late_answer_about_a_content_that_was_replaced_meanwhile_is_asked_for_again() -> None:
    """Two answers of a source crossed on their way: who has found nothing new does not read."""
    broker = opened_with(MINE, fresh_seconds=5.0)
    for name in ("two", "three"):
        broker.hello(name)
    broker.passes(6.0, ["seed", "first", "two", "three"])
    (first,) = of(said.Permit, broker.opens("two", request=MINE))
    (late,) = of(said.Permit, broker.opens("three", request=THEIRS))
    broker.sourced("seed", first, generation=OTHER_GENERATION)
    out = broker.sourced("seed", late, generation=GENERATION)
    (again,) = of(said.Permit, out)
    assert (again.check_only, again.request, again.generation) == (True, THEIRS, OTHER_GENERATION)
    assert not of(said.Opened, out)
    assert broker.machine.tasks()[0]["generation"] == OTHER_GENERATION.hex()
    assert len(of(said.Opened, broker.sourced("seed", again, generation=OTHER_GENERATION), "three")) == 1


def test_a_check_that_is_said_again_names_what_it_was_given_for() -> None:
    """Whoever heard the first hears nothing new in it, and would not know that another generation is meant now."""
    broker = opened_with(MINE, fresh_seconds=5.0)
    for name in ("two", "three"):
        broker.hello(name)
    broker.passes(6.0, ["seed", "first", "two", "three"])
    (first,) = of(said.Permit, broker.opens("two", request=MINE))
    (check,) = of(said.Permit, broker.opens("three", request=THEIRS))
    broker.sourced("seed", first, generation=OTHER_GENERATION)
    assert check in of(said.Permit, broker.hello("seed", seed=True))


def test_what_was_held_before_the_content_was_known_counts_once_it_is() -> None:
    broker = BrokerTalk()
    for name in ("seed", "holder", "one"):
        broker.hello(name, seed=name == "seed")
    broker.hears("holder", said.Held(task=TASK, generation=GENERATION, held=b"\x01"))
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.sourced("seed", permit)
    assert broker.machine.tasks()[0]["holders"] == 1
    assert broker.machine.tasks()[0]["available"] == 0, "held, and not proven yet"
    assert len(leases(broker.proven("seed", 0), "one")) == 1


def test_who_said_before_that_it_holds_all_has_its_permit_until_it_has_proven_it() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    broker.hears("seed", said.Held(task=TASK, generation=GENERATION, held=b"\x03"))
    (permit,) = of(said.Permit, broker.opens("one"))
    assert not of(said.Permit, broker.sourced("seed", permit))
    assert not of(said.Permit, broker.proven("seed", 0) + broker.proven("seed", 1))
    assert {lease.piece for lease in leases(broker.hears("one", said.Want(task=TASK, count=2)))} <= {0, 1}
    (shown,) = broker.machine.tasks()
    assert shown["holders"] == 1


def test_a_content_that_is_not_what_its_digest_names_is_nobodys() -> None:
    """The seed proves the whole at the end, when the permit is over."""
    broker = opened_with(BY_DIGEST)
    task = task_id(BY_DIGEST)
    assert broker.machine.counts()["permits"] == 0
    out = broker.hears("seed", said.SourceFailed(permit=1, task=task, code="digest_mismatch", text="other bytes"))
    assert [refused.code for refused in of(said.Refused, out, "first")] == ["digest_mismatch"]
    assert broker.machine.tasks()[0]["generation"] is None


# ── what is lost ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["lost", "bye"])
def test_a_piece_that_nobody_holds_any_more_is_asked_for_again(how: str) -> None:
    broker = with_content("one")
    if how == "lost":
        out = broker.hears("seed", said.Lost(task=TASK, pieces=[1]))
        reader = "seed"
    else:
        out = broker.hears("seed", said.Bye())
        reader = "one"
    (permit,) = of(said.Permit, out, reader)
    assert (permit.check_only, permit.generation) == (False, GENERATION)
    assert broker.sourced(reader, permit) == [], "it is the same content: nobody has to be told"
    broker.proven(reader, 0)
    broker.proven(reader, 1)
    assert broker.machine.counts()["permits"] == 0


def test_who_must_not_go_to_the_source_is_refused_when_the_last_holder_goes() -> None:
    broker = with_content("one")
    broker.hears("one", said.Close(task=TASK))
    broker.opens("one", no_source=True)
    (refused,) = of(said.Refused, broker.hears("seed", said.Bye()))
    assert refused.code == "transfer"


def test_a_task_that_nobody_used_for_an_hour_is_forgotten() -> None:
    broker = with_content("one")
    broker.hears("one", said.Close(task=TASK))
    broker.now += IDLE_SECONDS + 1
    broker.hello("two")
    assert broker.machine.tasks() == []


# ── what peers may say ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_open_that_is_no_url_is_refused_with_a_reason() -> None:
    broker = BrokerTalk()
    broker.hello("one")
    (refused,) = of(said.Refused, broker.hears("one", said.Open(task=TASK, request=Request(url="gopher://x/y"))))
    assert refused.code == "settings"
    assert "gopher" in refused.text


def test_a_late_joiner_of_a_growing_content_is_told_the_length_as_soon_as_it_is_known() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.sourced("seed", permit, length=None, piece_length=256 * KIB, chunk_length=64 * KIB)
    broker.hears("seed", said.Proven(task=TASK, generation=GENERATION, piece=0, proofs=proofs(0)))
    sealed = of(said.Sealed, broker.hears("seed", said.Sealed(task=TASK, generation=GENERATION, length=300 * KIB)))
    assert [what.length for what in sealed] == [300 * KIB]
    broker.hello("two")
    (opened,) = of(said.Opened, broker.opens("two"))
    assert opened.length == 300 * KIB
    assert CUT.length != opened.length


@pytest.mark.clause("TASK-4")
@pytest.mark.parametrize(
    "absurd",
    [
        {"length": 2**59, "piece_length": 1, "chunk_length": 1},
        {"length": 4, "piece_length": 1, "chunk_length": 2},
        {"length": None, "piece_length": 1 << 30, "chunk_length": 1},
    ],
    ids=str,
)
def test_a_reader_with_an_absurd_cut_has_failed(absurd: dict[str, int | None]) -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    (refused,) = of(said.Refused, broker.sourced("seed", permit, **absurd))
    assert refused.code == "transfer"


@pytest.mark.clause("TASK-4")
def test_a_growing_content_does_not_end_where_no_set_reaches() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.sourced("seed", permit, length=None, piece_length=256 * KIB, chunk_length=64 * KIB)
    assert not broker.hears("seed", said.Sealed(task=TASK, generation=GENERATION, length=2**59))
    (sealed,) = of(said.Sealed, broker.hears("seed", said.Sealed(task=TASK, generation=GENERATION, length=1)))
    assert sealed.length == 1
    # The same by the other door.
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one"))
    broker.sourced("seed", permit, length=None, piece_length=1, chunk_length=1)
    assert of(said.Refused, broker.sourced("seed", permit, length=2**40, piece_length=1 << 30, chunk_length=1 << 24))


def test_leases_on_pieces_beyond_the_end_are_void_once_that_is_known() -> None:
    broker = BrokerTalk()
    broker.hello("seed", seed=True)
    broker.hello("one")
    (permit,) = of(said.Permit, broker.opens("one", 0))
    broker.sourced("seed", permit, length=None, piece_length=256 * KIB, chunk_length=64 * KIB)
    for piece in (0, 1):
        broker.proven("seed", piece)
    granted = {lease.piece: lease.lease for lease in leases(broker.hears("one", said.Want(task=TASK, count=2)))}
    out = broker.hears("seed", said.Sealed(task=TASK, generation=GENERATION, length=256 * KIB))
    (revoke,) = of(said.Revoke, out, "one")
    assert revoke.leases == [granted[1]]


def test_neighbours_are_some_others_that_hint() -> None:
    broker = with_content("one")
    names = [f"n{number}" for number in range(20)]
    for name in names:
        host = name.encode().rjust(16, b"-")
        broker.hears(
            name,
            said.Hello(
                peer=name.encode().ljust(16, b"-"), host=host, exchange=f"tcp://{name}:1", hints=f"tcp://{name}:2"
            ),
        )
        broker.opens(name, 0)
    broker.hello("two")
    (opened,) = of(said.Opened, broker.opens("two"))
    assert len(set(opened.neighbours)) >= 12
    assert set(opened.neighbours) <= {f"tcp://{name}:2" for name in names}


def test_views_show_no_secrets() -> None:
    secret = Request(url="https://user:pass@source.example/x?token=s3cret", headers=(("Authorization", "s3cret"),))
    broker = opened_with(secret)
    text = repr((broker.machine.tasks(), broker.machine.peers()))
    assert "source.example" in text
    assert "s3cret" not in text
    assert "pass" not in text


# ── holders out of reach ──────────────────────────────────────────────────────────────────────────────────────────


def fails(broker: BrokerTalk, name: str, times: int) -> list[tuple[str, said.Message]]:
    """What the member is granted comes to nothing, so often; all that the broker says meanwhile."""
    out = broker.hears(name, said.Want(task=TASK, count=1))
    said_then: list[tuple[str, said.Message]] = []
    for _ in range(times):
        while not (granted := leases(out, name)):
            out = broker.passes(0.25, living=["seed", "holder", name])
            said_then += out
        lease = granted[0]
        out = broker.hears(name, said.Failed(task=TASK, lease=lease.lease, piece=lease.piece, code="stalled"))
        said_then += out
    return said_then


def held_by_one_alone() -> BrokerTalk:
    """The seed has let go of the content; one host holds it, another has it open."""
    broker = with_content("holder", "far")
    broker.hears("holder", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    broker.hears("seed", said.Lost(task=TASK, all_pieces=True))
    return broker


def test_for_who_cannot_reach_the_only_holder_the_content_is_read_once_more() -> None:
    broker = held_by_one_alone()
    assert of(said.Permit, fails(broker, "far", FAILURES_BEFORE_RESCUE - 1)) == []
    (permit,) = of(said.Permit, fails(broker, "far", 1), "seed")
    assert not permit.check_only
    broker.sourced("seed", permit)
    assert of(said.Permit, fails(broker, "far", 1)) == [], "it is being read"
    out = broker.proven("seed", 0) + broker.proven("seed", 1) + broker.passes(6.0, living=["seed", "holder", "far"])
    assert {lease.parent for lease in leases(out, "far")} == {peer_id("seed")}


def test_for_who_may_not_go_to_the_source_nothing_is_read() -> None:
    broker = held_by_one_alone()
    broker.opens("far", 0, no_source=True)
    assert of(said.Permit, fails(broker, "far", 2 * FAILURES_BEFORE_RESCUE)) == []


def test_what_the_seed_has_is_not_read_again_for_one_who_cannot_reach_the_seed() -> None:
    broker = with_content("holder", "far")
    broker.hears("holder", said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    assert of(said.Permit, fails(broker, "far", 3 * FAILURES_BEFORE_RESCUE)) == []


def test_nothing_is_read_again_while_there_is_a_holder_who_was_not_tried() -> None:
    holders = ["holder", "x", "y", "z"]
    broker = with_content("far", *holders)
    for holder in holders:
        broker.hears(holder, said.Have(task=TASK, generation=GENERATION, pieces=[0, 1]))
    broker.hears("seed", said.Lost(task=TASK, all_pieces=True))
    assert of(said.Permit, fails(broker, "far", FAILURES_BEFORE_RESCUE)) == []
    assert len(of(said.Permit, fails(broker, "far", 2), "seed")) == 1
