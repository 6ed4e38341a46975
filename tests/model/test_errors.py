"""Failures have one name each, and cross the bus by it."""

from __future__ import annotations

import pytest

from dfmq import errors


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_a_failure_crosses_the_bus_as_itself(code: str) -> None:
    failure = errors.from_code(code, "why")
    assert type(failure) is errors.BY_CODE[code]
    assert str(failure) == "why"
    assert failure.code == code


def test_every_class_has_a_code_of_its_own() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    failures = [kind for kind in classes if issubclass(kind, errors.DfmqError)]
    assert sorted(kind.code for kind in failures) == sorted(errors.BY_CODE)


def test_an_unknown_code_is_a_failed_transfer() -> None:
    assert type(errors.from_code("from_the_future", "why")) is errors.TransferError
