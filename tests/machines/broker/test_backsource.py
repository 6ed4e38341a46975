"""Permits and verdicts: the book alone, without peers. What is said to whom is in test_admission."""

from __future__ import annotations

from dfmq.machines.broker.backsource import MOST_ACCEPTED, MOST_REFUSALS, BackSource, LivePermit, Refusal, Terms
from dfmq.model.ids import TaskId
from dfmq.model.task import Request

TASK = TaskId(b"T" * 16)
REQUEST = Request(url="http://source.example/x")
NOW = 100.0


def give(book: BackSource, credential: bytes = b"", *, check_only: bool = False, task: TaskId = TASK) -> LivePermit:
    return book.give(task, 0, REQUEST, credential, check_only, 0, NOW)


def known(fresh_seconds: float = 60.0, *, is_immutable: bool = False, credential: bytes = b"") -> BackSource:
    """A book in which the task was fetched with this credential."""
    book = BackSource(5.0)
    permit = give(book, credential)
    book.accepted(permit, is_immutable, fresh_seconds, NOW)
    book.end(permit)
    book.check()
    return book


def test_what_nobody_knows_is_fetched_once() -> None:
    book = BackSource(5.0)
    assert book.judge(TASK, False, b"", False, NOW) == "fetch"
    give(book)
    assert book.judge(TASK, False, b"", False, NOW) == book.judge(TASK, False, b"other", False, NOW) == "wait"


def test_a_fresh_answer_is_used_and_a_stale_one_is_checked_once() -> None:
    book = known(60.0)
    assert book.judge(TASK, True, b"", False, NOW + 60) == "open"
    assert book.judge(TASK, True, b"", False, NOW + 61) == "check"
    give(book, check_only=True)
    assert book.judge(TASK, True, b"", False, NOW + 61) == "wait"


def test_an_answer_that_is_not_to_be_kept_serves_those_who_waited_for_it() -> None:
    book = known(0.0)
    assert book.judge(TASK, True, b"", False, NOW) == "open"
    assert book.judge(TASK, True, b"", False, NOW + 0.001) == "check"


def test_content_named_by_its_digest_is_never_checked_again() -> None:
    assert known(0.0, is_immutable=True).judge(TASK, True, b"", False, NOW + 10**6) == "open"


def test_while_it_is_being_read_it_is_fresh() -> None:
    book = known(0.0)
    give(book)
    assert book.judge(TASK, True, b"", False, NOW + 10) == "open"


def test_private_content_is_opened_to_accepted_credentials_only() -> None:
    book = known(credential=b"mine")
    assert book.judge(TASK, True, b"mine", False, NOW) == "open"
    assert book.judge(TASK, True, b"theirs", False, NOW) == "check"
    assert book.judge(TASK, True, b"", False, NOW) == "check"


def test_what_the_source_gives_to_anybody_is_open_to_all() -> None:
    assert known(credential=b"").judge(TASK, True, b"mine", False, NOW) == "open"


def test_a_refusal_of_credentials_is_personal_and_another_is_everybodys() -> None:
    book = known(credential=b"mine")
    permit = give(book, b"theirs", check_only=True)
    book.end(permit)
    book.refused(permit, "not_authorised", "401", 0.0, NOW)
    verdict = book.judge(TASK, True, b"theirs", False, NOW + 4.9)
    assert isinstance(verdict, Refusal)
    assert verdict.code == "not_authorised"
    assert book.judge(TASK, True, b"mine", False, NOW) == "open"
    assert book.judge(TASK, True, b"theirs", False, NOW + 5.0) == "check"
    gone = give(book, b"mine", check_only=True)
    book.end(gone)
    book.refused(gone, "source_refused", "404", 0.0, NOW)
    assert isinstance(book.judge(TASK, True, b"mine", False, NOW + 1), Refusal)


def test_retry_after_is_kept() -> None:
    book = BackSource(5.0)
    permit = give(book)
    book.end(permit)
    book.refused(permit, "source_failed", "503", 30.0, NOW)
    assert isinstance(book.judge(TASK, False, b"", False, NOW + 29), Refusal)
    assert book.judge(TASK, False, b"", False, NOW + 30) == "fetch"


def test_no_source_is_served_from_what_is_there_and_never_asks() -> None:
    book = known(0.0, credential=b"mine")
    assert book.judge(TASK, True, b"mine", True, NOW + 999) == "open"
    for verdict in (book.judge(TASK, True, b"theirs", True, NOW), book.judge(TaskId(b"?" * 16), False, b"", True, NOW)):
        assert isinstance(verdict, Refusal)
        assert (verdict.code, verdict.until) == ("transfer", 0.0)


def test_other_content_has_to_be_allowed_anew() -> None:
    book = known(credential=b"mine")
    permit = give(book, b"theirs", check_only=True)
    book.changed(permit)
    book.promote(permit)
    book.accepted(permit, False, 60.0, NOW)
    book.check()
    assert book.fetch_of(TASK) is permit
    assert book.judge(TASK, True, b"mine", False, NOW) == "check"


def test_what_is_remembered_is_bounded() -> None:
    terms = Terms(False)
    for number in range(MOST_ACCEPTED + 10):
        terms.accept(b"%d" % number)
    assert len(terms.accepted) == MOST_ACCEPTED
    assert not terms.admits(b"0")
    terms.accept(b"10")
    terms.accept(b"new")
    assert terms.admits(b"10"), "it was used again"
    assert not terms.admits(b"11")
    book = BackSource(5.0)
    for number in range(MOST_REFUSALS + 10):
        permit = give(book, task=TaskId(b"%016d" % number))
        book.end(permit)
        book.refused(permit, "source_failed", "", 0.0, NOW)
    assert book.judge(TaskId(b"%016d" % 0), False, b"", False, NOW) == "fetch"
    assert isinstance(book.judge(TaskId(b"%016d" % 11), False, b"", False, NOW), Refusal)
