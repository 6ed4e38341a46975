"""Tasks and who has what of them: held, taken, claimed, available; idle tasks. The book alone, without peers."""

from __future__ import annotations

import pytest

from dfmq.errors import InvariantViolated
from dfmq.machines.broker import catalog
from dfmq.machines.broker.catalog import IDLE_SECONDS, Catalog, Member, Task
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import KIB, PieceMap
from dfmq.model.task import Content, Request

ONE, TWO, THREE = (TaskId(bytes([number]) * 16) for number in (1, 2, 3))
OLD, NEW = Generation(b"old-----"), Generation(b"new-----")
#: four pieces of four chunks
CUT = PieceMap(4 * 256 * KIB, 256 * KIB, 64 * KIB)
GROWING = PieceMap(None, 256 * KIB, 64 * KIB)


def a_task(cut: PieceMap = CUT, generation: Generation = OLD) -> Task:
    task = Task(ONE, "http://source.example/x")
    task.begin(Content(generation, cut))
    return task


def member(*, is_open: bool = False, no_source: bool = False) -> Member:
    return Member(Request(url="http://source.example/x"), b"", no_source, is_open)


# ── one task ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_piece_is_available_when_it_is_both_proven_and_held() -> None:
    task = a_task()
    task.hold(3, 0b0011)
    assert task.available == 0
    assert task.prove(0, b"p" * 64)
    assert task.prove(2, b"q" * 64)
    assert task.available == 0b0001
    task.hold(4, 0b0100)
    assert task.available == 0b0101
    task.unhold(3, 0b0001)
    assert task.available == 0b0100
    task.check()


def test_what_was_proven_first_stands() -> None:
    task = a_task()
    assert task.prove(0, b"p" * 64)
    assert task.prove(0, b"p" * 64)
    assert not task.prove(0, b"q" * 64)
    assert task.proofs == {0: b"p" * 64}


def test_holding_twice_counts_once_and_beyond_the_end_never() -> None:
    task = a_task()
    assert task.hold(3, 0b110011) == 0b0011
    assert task.hold(3, 0b0111) == 0b0100
    assert task.hold(3, 0b0111) == 0
    assert not task.is_complete(3)
    task.hold(3, 0b1000)
    assert task.is_complete(3)


def test_lost_is_only_what_was_held() -> None:
    task = a_task()
    task.hold(3, 0b0011)
    task.unhold(3, 0b1110)
    assert task.held == {3: 0b0001}
    task.unhold(3, 0b0001)
    task.unhold(3, 0b0001)
    assert (task.held, task.whole) == ({}, {})
    task.check()


def test_who_is_barred_keeps_what_it_holds_and_nobody_can_have_it() -> None:
    task = a_task()
    for piece in range(2):
        task.prove(piece, b"p" * 64)
    task.hold(3, 0b0001)
    task.bar(3)
    task.hold(3, 0b0010)
    task.check()
    assert (task.held[3], task.whole, task.available) == (0b0011, {}, 0)
    task.bar(3)
    task.unbar(3)
    task.check()
    assert task.available == 0b0011
    task.unbar(3)
    assert task.whole == {0: 1 << 3, 1: 1 << 3}


def test_what_is_lacking_is_neither_held_nor_being_taken() -> None:
    task = a_task()
    for piece in range(4):
        task.prove(piece, b"p" * 64)
    task.hold(1, 0b0111)
    task.hold(2, 0b0001)
    task.take(2, 1)
    assert task.lacking(2) == 0b0100
    task.untake(2, 1)
    assert task.lacking(2) == 0b0110
    assert (task.taking, task.taken) == ({}, {})


def test_claims_count_once_the_content_is_known_and_only_those_of_its_generation() -> None:
    task = Task(ONE, "")
    task.claims = {1: (OLD, 0b0001), 2: (NEW, 0b0011)}
    task.begin(Content(NEW, CUT))
    task.check()
    assert (task.held, task.claims) == ({2: 0b0011}, {})


def test_another_content_takes_nothing_over_and_none_while_leases_live() -> None:
    task = a_task()
    task.prove(0, b"p" * 64)
    task.hold(1, 0b0001)
    task.take(2, 0)
    with pytest.raises(InvariantViolated):
        task.begin(Content(NEW, CUT))
    task.untake(2, 0)
    task.begin(Content(NEW, CUT))
    assert (task.held, task.proofs, task.available) == ({}, {}, 0)
    task.check()


def test_a_growing_content_is_whole_at_its_end_only_and_forgets_what_was_said_beyond() -> None:
    task = a_task(GROWING)
    for piece in range(2):
        task.prove(piece, b"p" * 64)
    task.hold(1, 0b0111)
    assert task.all_pieces() == 0b0011
    assert not task.is_complete(1)
    assert not task.is_available()
    task.seal(2 * 256 * KIB)
    task.check()
    assert task.held == {1: 0b0011}
    assert task.is_complete(1)
    assert task.is_available()


def test_a_task_may_be_read_as_long_as_somebody_wants_it_who_may_go_to_the_source() -> None:
    task = a_task()
    said = []
    for index, no_source in ((1, True), (2, False), (2, False), (3, False), (2, True), (2, False)):
        task.join(index, member(no_source=no_source))
        task.check()
        said.append(task.may_be_read())
    for index in (2, 2, 3, 1):
        task.part(index)
        task.check()
        said.append(task.may_be_read())
    assert said == [False, True, True, True, True, True, True, True, False, False]


class Looked(Member):
    """Counts how often anybody looks whether one of them may go to the source."""

    looks = 0
    no_source = property(lambda self: Looked.look(), lambda self, value: None)

    @classmethod
    def look(cls) -> bool:
        cls.looks += 1
        return True


def test_thousands_who_may_not_go_to_the_source_come_and_go_at_a_price_that_is_theirs_alone() -> None:
    book, many = Catalog(), 5000
    Looked.looks = 0
    for index in range(many):
        task = book.enter(ONE, index, "", 0.0)
        assert task is not None
        book.join(task, index, Looked(Request(url="http://source.example/x"), b"", True))
        assert not task.may_be_read()
    for index in range(many):
        book.part(book.tasks[ONE], index, 1.0)
        assert not book.tasks[ONE].may_be_read()
    assert Looked.looks <= 2 * many


@pytest.mark.parametrize("book", ["whole", "taken", "available", "claims", "readers"])
def test_books_of_a_task_that_differ_are_noticed(book: str) -> None:
    task = a_task()
    task.prove(0, b"p" * 64)
    task.hold(1, 0b0001)
    task.take(2, 0)
    task.check()
    if book == "available":
        task.available = 0
    elif book == "claims":
        task.claims[3] = (OLD, 1)
    elif book == "readers":
        task.readers += 1
    else:
        getattr(task, book)[0] |= 1 << 5
    with pytest.raises(InvariantViolated):
        task.check()


def test_nobody_takes_what_it_holds() -> None:
    task = a_task()
    task.hold(1, 0b0001)
    task.take(1, 0)
    with pytest.raises(InvariantViolated, match="takes what it holds"):
        task.check()


# ── all tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_peer_is_tied_to_a_task_as_long_as_it_has_to_do_with_it() -> None:
    book = Catalog()
    task = book.enter(ONE, 1, "", 0.0)
    assert task is not None
    book.join(task, 1, member())
    task.begin(Content(OLD, CUT))
    task.hold(1, 0b0001)
    book.part(task, 1, 1.0)
    assert book.has_peer(1, ONE), "it still holds something"
    task.unhold(1, 0b0001)
    book.untie(task, 1)
    book.check()
    assert (book.of_peer(1), book.has_peer(1, ONE)) == ([], False)


def test_another_content_unties_whoever_had_to_do_with_the_old_one_only() -> None:
    book = Catalog()
    task = book.enter(ONE, 1, "", 0.0)
    assert task is book.enter(ONE, 2, "", 0.0)
    assert task is not None
    book.join(task, 2, member())
    book.begin(task, Content(OLD, CUT))
    for index in (1, 2):
        task.hold(index, 0b0001)
    book.begin(task, Content(NEW, CUT))
    book.check()
    assert (book.of_peer(1), book.of_peer(2)) == ([], [task])


def test_the_task_that_was_idle_longest_is_forgotten_first() -> None:
    book = Catalog()
    for at, name in enumerate((ONE, TWO, THREE)):
        task = book.enter(name, at, "", float(at))
        assert task is not None
        book.join(task, at, member())
    for at, name in ((10.0, TWO), (20.0, ONE), (30.0, THREE)):
        task = book.tasks[name]
        book.part(task, next(iter(task.members)), at)
    assert book.next_deadline() == 10.0 + IDLE_SECONDS
    book.touch(book.tasks[TWO], 40.0)
    book.check()
    assert book.longest_idle() is book.tasks[ONE]
    book.forget(book.tasks[ONE])
    book.check()
    assert (set(book.tasks), book.next_deadline()) == ({TWO, THREE}, 30.0 + IDLE_SECONDS)


def test_who_joins_again_is_not_idle_and_a_wanted_task_is_not_forgotten() -> None:
    book = Catalog()
    task = book.enter(ONE, 1, "", 0.0)
    assert task is not None
    assert book.next_deadline() == IDLE_SECONDS, "entered and not wanted yet"
    book.join(task, 1, member())
    assert (book.next_deadline(), book.longest_idle()) == (float("inf"), None)
    book.touch(task, 5.0)
    assert book.next_deadline() == float("inf")
    with pytest.raises(InvariantViolated):
        book.forget(task)


def test_the_tasks_of_a_peer_and_of_all_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MOST_TASKS", 3)
    monkeypatch.setattr(catalog, "MOST_TASKS_OF_PEER", 2)
    book = Catalog()
    names = [TaskId(bytes([number]) * 16) for number in range(5)]
    assert [book.enter(name, 1, "", 0.0) is not None for name in names[:3]] == [True, True, False]
    assert book.enter(names[0], 1, "", 0.0) is book.tasks[names[0]], "what it has to do with already"
    assert book.enter(names[2], 2, "", 0.0) is not None
    assert book.is_full()
    assert book.enter(names[3], 3, "", 0.0) is None
    book.untie(book.tasks[names[2]], 2)
    for name in names[:2]:
        book.untie(book.tasks[name], 1)
    book.check()


def test_a_peer_with_all_the_tasks_it_may_have_makes_way_by_what_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MOST_TASKS_OF_PEER", 3)
    book = Catalog()
    names = [TaskId(bytes([number]) * 16) for number in range(5)]
    for name in names[:3]:
        task = book.enter(name, 1, "", 0.0)
        assert task is not None
        book.begin(task, Content(OLD, CUT))
        task.hold(1, 0b1)
    book.enter(names[0], 2, "", 0.0)
    book.join(book.tasks[names[0]], 2, member())
    book.make_way(names[1], 1, lambda _: False)
    assert book.enter(names[1], 1, "", 0.0) is not None, "it has to do with that already"
    assert book.enter(names[3], 1, "", 0.0) is None
    book.make_way(names[3], 1, lambda _: True)
    assert book.enter(names[3], 1, "", 0.0) is None, "all are being read"
    book.make_way(names[3], 1, lambda _: False)
    assert book.enter(names[3], 1, "", 0.0) is not None
    held = [bool(book.tasks[name].held) for name in names[:3]]
    assert held == [True, True, False], "the first is wanted, the second was used since"
    book.join(book.tasks[names[3]], 1, member())
    book.check()


def test_a_url_that_was_not_known_at_first_is_noted_once() -> None:
    book = Catalog()
    for url in ("", "http://first/", "http://second/"):
        book.enter(ONE, 1, url, 0.0)
    assert book.tasks[ONE].url == "http://first/"


def test_a_tie_nobody_has_is_noticed() -> None:
    book = Catalog()
    book.enter(ONE, 1, "", 0.0)
    with pytest.raises(InvariantViolated, match="peers' tasks"):
        book.check()
