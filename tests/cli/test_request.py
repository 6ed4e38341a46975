"""What can be asked for can be said to everybody who has to hear it."""

from __future__ import annotations

import pytest

from dfmq.cli.request import Maker
from dfmq.errors import SettingsError
from dfmq.wire.codec import encode
from dfmq.wire.envelope import MOST_BODY_BYTES
from dfmq.wire.messages import Get, Open, Permit


def maker(octets: int) -> Maker:
    """Headers of so many octets together."""
    whole, rest = divmod(octets, 4096)
    values = ["x" * 4096] * whole + ["x" * rest]
    return Maker(headers=tuple((f"X-{number}", value) for number, value in enumerate(values)))


def test_a_request_that_a_get_could_just_carry_is_refused_if_the_open_that_follows_could_not() -> None:
    request = None
    for octets in range(50_000, 66_000, 10):
        try:
            request = maker(octets)("http://source.example/x")
        except SettingsError as error:
            assert "too long together" in str(error)
            break
    assert request is not None
    said = [
        Get(get=2**62, request=request, limit=2**49, no_source=True),
        Open(task=bytes(16), request=request, generation=bytes(8), held=bytes(8192), want=2**16 - 1, no_source=True),
        Permit(permit=2**62, task=bytes(16), request=request, generation=bytes(8), check_only=True),
    ]
    lengths = [len(encode(message)) for message in said]
    assert MOST_BODY_BYTES - 20 < max(lengths) <= MOST_BODY_BYTES


def test_a_field_that_is_too_long_for_its_bound_is_named() -> None:
    with pytest.raises(SettingsError, match="make it shorter"):
        Maker(tag="t" * 257)("http://source.example/x")
