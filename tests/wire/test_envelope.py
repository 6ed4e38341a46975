"""Frames: the signature, how many bodies, how long; and that strangers are told from friends."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.errors import ProtocolError
from dfmq.wire.envelope import (
    MAGIC,
    MOST_BODIES,
    MOST_BODY_BYTES,
    SIGNATURE,
    OtherVersion,
    Stranger,
    unwrap,
    wrap,
)
from dfmq.wire.messages import PROTOCOL_VERSION


@pytest.mark.clause("ENV-1")
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20))
def test_bodies_come_out_in_the_order_they_went_in(bodies: list[bytes]) -> None:
    frames = wrap(bodies)
    assert frames[0] == SIGNATURE == b"\xdf\x51" + bytes([PROTOCOL_VERSION])
    assert list(unwrap(frames)) == bodies
    assert [bytes(body) for body in unwrap([memoryview(frame) for frame in frames])] == bodies


@pytest.mark.clause("ENV-2")
@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"GET / HTTP/1.1\r\n"],
        [MAGIC],
        [SIGNATURE + b"\0", b"x"],
        [b"\x51\xdf\x01", b"x"],
        [b"x", SIGNATURE],
    ],
)
def test_without_our_signature_it_is_a_stranger(frames: list[bytes]) -> None:
    with pytest.raises(Stranger):
        unwrap(frames)


@pytest.mark.clause("ENV-3")
@pytest.mark.parametrize("version", sorted({0, 255, PROTOCOL_VERSION + 1} - {PROTOCOL_VERSION}))
def test_another_version_is_no_stranger_but_is_not_read(version: int) -> None:
    with pytest.raises(OtherVersion) as caught:
        unwrap([MAGIC + bytes([version]), b"body"])
    assert caught.value.reason == "version"


@pytest.mark.clause("ENV-4")
def test_too_many_bodies_or_none_or_too_long_ones_are_refused() -> None:
    assert len(unwrap(wrap([b""] * MOST_BODIES))) == MOST_BODIES
    assert len(unwrap(wrap([bytes(MOST_BODY_BYTES)]))) == 1
    for bodies in ([], [b""] * (MOST_BODIES + 1), [b"", bytes(MOST_BODY_BYTES + 1)]):
        with pytest.raises(ProtocolError) as caught:
            unwrap(wrap(bodies))
        assert caught.value.reason == "malformed"


@given(st.lists(st.binary(max_size=8), max_size=6), st.booleans())
def test_any_frames_are_bodies_or_a_protocol_error(frames: list[bytes], signed: bool) -> None:
    with contextlib.suppress(ProtocolError):
        assert list(unwrap([SIGNATURE, *frames] if signed else frames)) == (frames if signed else frames[1:])
