"""Bit sets and their wire form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.model import bitfield

sets_of_pieces = st.sets(st.integers(0, 5000), max_size=60)


@given(sets_of_pieces)
def test_a_set_survives_its_wire_form(pieces: set[int]) -> None:
    bits = bitfield.of(pieces)
    data = bitfield.to_bytes(bits)
    assert bitfield.from_bytes(data) == bits
    assert list(bitfield.members(bits)) == sorted(pieces)
    assert not data or data[-1] != 0


@pytest.mark.clause("SET-1")
@given(sets_of_pieces, st.integers(0, 4))
def test_trailing_zero_octets_change_nothing(pieces: set[int], zeros: int) -> None:
    bits = bitfield.of(pieces)
    assert bitfield.from_bytes(bitfield.to_bytes(bits) + bytes(zeros)) == bits


@pytest.mark.clause("SET-1")
def test_bit_i_of_octet_i_over_8_is_member_i() -> None:
    assert bitfield.to_bytes(bitfield.of([0, 9])) == b"\x01\x02"
    assert bitfield.to_bytes(0) == b""
    assert list(bitfield.members(bitfield.full(3))) == [0, 1, 2]
    assert bitfield.full(0) == 0
