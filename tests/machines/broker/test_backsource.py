"""Permits and verdicts: the book alone, without peers. What is said to whom is in test_admission."""

from __future__ import annotations

import pytest

from dfmq.machines.broker.backsource import (
    MOST_ACCEPTED,
    MOST_HEEDED_SECONDS,
    MOST_REFUSALS,
    BackSource,
    LivePermit,
    Refusal,
    Terms,
)
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


def refuse(book: BackSource, credential: bytes, code: str, retry_after: float = 0.0) -> Refusal:
    """The source has said no to this credential."""
    permit = give(book, credential, check_only=True)
    book.end(permit)
    return book.refused(permit, code, "no", retry_after, NOW)


def test_what_nobody_knows_is_fetched_once() -> None:
    book = BackSource(5.0)
    assert book.judge(TASK, False, False, b"", False, NOW) == "fetch"
    give(book)
    assert (
        book.judge(TASK, False, False, b"", False, NOW)
        == book.judge(TASK, False, False, b"other", False, NOW)
        == "wait"
    )


def test_a_fresh_answer_is_used_and_a_stale_one_is_checked_once() -> None:
    book = known(60.0)
    assert book.judge(TASK, True, True, b"", False, NOW + 60) == "open"
    assert book.judge(TASK, True, True, b"", False, NOW + 61) == "check"
    give(book, check_only=True)
    assert book.judge(TASK, True, True, b"", False, NOW + 61) == "wait"


def test_an_answer_that_is_not_to_be_kept_serves_those_who_waited_for_it() -> None:
    book = known(0.0)
    assert book.judge(TASK, True, True, b"", False, NOW) == "open"
    assert book.judge(TASK, True, True, b"", False, NOW + 0.001) == "check"


def test_content_named_by_its_digest_is_never_checked_again() -> None:
    assert known(0.0, is_immutable=True).judge(TASK, True, True, b"", False, NOW + 10**6) == "open"


def test_while_it_is_being_read_it_is_fresh() -> None:
    book = known(0.0)
    give(book)
    assert book.judge(TASK, True, True, b"", False, NOW + 10) == "open"


def test_private_content_is_opened_to_accepted_credentials_only() -> None:
    book = known(credential=b"mine")
    assert book.judge(TASK, True, True, b"mine", False, NOW) == "open"
    assert book.judge(TASK, True, True, b"theirs", False, NOW) == "check"
    assert book.judge(TASK, True, True, b"", False, NOW) == "check"


def test_what_the_source_gives_to_anybody_is_open_to_all() -> None:
    assert known(credential=b"").judge(TASK, True, True, b"mine", False, NOW) == "open"


@pytest.mark.parametrize("code", ["not_authorised", "source_refused", "source_failed"])
@pytest.mark.parametrize("theirs", [b"theirs", b""])
def test_a_refusal_is_for_those_who_have_the_same_credentials_or_none_as_well(theirs: bytes, code: str) -> None:
    book = known(credential=b"mine")
    refuse(book, theirs, code)
    verdict = book.judge(TASK, True, True, theirs, False, NOW + 4.9)
    assert isinstance(verdict, Refusal)
    assert verdict.code == code
    assert book.judge(TASK, True, True, b"mine", False, NOW) == "open"
    assert book.judge(TASK, True, True, b"another", False, NOW) == "check"
    assert book.judge(TASK, True, True, theirs, False, NOW + 5.0) == "check"


def test_that_nobody_answers_is_for_whoever_asks() -> None:
    book = known(credential=b"mine")
    refuse(book, b"theirs", "source_unreachable")
    assert isinstance(book.judge(TASK, True, True, b"another", False, NOW + 1), Refusal)
    assert book.judge(TASK, True, True, b"mine", False, NOW + 1) == "open", "nobody has to answer"


def test_what_is_here_and_fresh_is_open_to_accepted_credentials_whatever_the_source_said_since() -> None:
    book = known(60.0, credential=b"mine")
    refuse(book, b"mine", "source_failed")
    assert book.judge(TASK, True, True, b"mine", False, NOW + 1) == "open"
    assert isinstance(book.judge(TASK, True, False, b"mine", False, NOW + 1), Refusal), "it would be asked again"
    assert book.judge(TASK, True, False, b"mine", False, NOW + 5) == "open"


@pytest.mark.parametrize(
    ("code", "is_immutable", "then"),
    [
        ("not_authorised", False, "check"),
        ("source_refused", False, "check"),
        ("source_failed", False, "open"),
        ("not_authorised", True, "check"),
        ("source_refused", True, "open"),
    ],
)
def test_credentials_from_which_the_source_hides_a_content_are_accepted_no_more(
    code: str, is_immutable: bool, then: str
) -> None:
    """Whoever may see it may have it fresh again meanwhile; that is not for them."""
    book = known(60.0, is_immutable=is_immutable, credential=b"mine")
    refuse(book, b"mine", code)
    assert book.judge(TASK, True, True, b"mine", False, NOW + 6) == then


def test_retry_after_is_kept() -> None:
    book = BackSource(5.0)
    refuse(book, b"", "source_failed", 30.0)
    assert isinstance(book.judge(TASK, False, False, b"", False, NOW + 29), Refusal)
    assert book.judge(TASK, False, False, b"", False, NOW + 30) == "fetch"


@pytest.mark.parametrize("negative_seconds", [5.0, 60.0])
def test_a_source_that_asks_for_an_hour_is_asked_again_sooner(negative_seconds: float) -> None:
    """One wish, said to one reader, does not bar everybody for a day."""
    book = BackSource(negative_seconds)
    refusal = refuse(book, b"", "source_failed", 3600.0)
    assert refusal.again_at == NOW + 3600.0, "it is told all the same"
    wait = max(negative_seconds, MOST_HEEDED_SECONDS)
    assert isinstance(book.judge(TASK, False, False, b"", False, NOW + wait - 0.1), Refusal)
    assert book.judge(TASK, False, False, b"", False, NOW + wait) == "fetch"


def test_no_source_is_served_from_what_is_there_and_never_asks() -> None:
    book = known(0.0, credential=b"mine")
    assert book.judge(TASK, True, True, b"mine", True, NOW + 999) == "open"
    for verdict in (
        book.judge(TASK, True, True, b"theirs", True, NOW),
        book.judge(TaskId(b"?" * 16), False, False, b"", True, NOW),
    ):
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
    assert book.judge(TASK, True, True, b"mine", False, NOW) == "check"


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
    assert book.judge(TaskId(b"%016d" % 0), False, False, b"", False, NOW) == "fetch"
    assert isinstance(book.judge(TaskId(b"%016d" % 11), False, False, b"", False, NOW), Refusal)
