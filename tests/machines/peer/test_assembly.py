"""The chunks of one piece."""

from __future__ import annotations

import pytest
from support.talk import digest, proofs

from dfmq.errors import InvariantViolated
from dfmq.machines.peer.assembly import Assembly


def test_only_the_digest_the_broker_gave_is_true() -> None:
    assembly = Assembly(0, 4, proofs(0))
    assert assembly.is_true(2, digest(0, 2))
    assert not assembly.is_true(2, digest(0, 3))
    assert not assembly.is_true(4, digest(0, 4))


def test_a_piece_is_whole_when_every_chunk_is_stored_and_not_before() -> None:
    assembly = Assembly(0, 4, proofs(0), stored=0b0001)
    for chunk in (3, 1, 2):
        assembly.add(chunk, object())
    assert assembly.missing() == 0
    assert not assembly.is_whole
    assert [assembly.mark_stored(chunk) for chunk in (1, 1, 3, 2)] == [False, False, False, True]
    assert assembly.payloads == {}
    assembly.check()
    assert assembly.joined_proofs() == proofs(0)


def test_a_chunk_is_stored_only_after_it_was_proven() -> None:
    assembly = Assembly(0, 4, proofs(0))
    assert not assembly.mark_stored(1)
    assert assembly.stored == 0


def test_a_chunk_is_proven_once() -> None:
    assembly = Assembly(0, 4, proofs(0))
    assembly.add(1, object())
    with pytest.raises(InvariantViolated):
        assembly.add(1, object())
