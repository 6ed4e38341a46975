"""How a length is cut: the laws of partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.model import pieces
from dfmq.model.pieces import KIB, MIB, PieceMap, chunk_length_for, cut, piece_length_for

lengths = st.one_of(st.integers(0, 64 * MIB), st.integers(0, 1 << 45))


@st.composite
def small_cuts(draw: st.DrawFn) -> PieceMap:
    """Cuts of our own and of any other implementation, small enough to be walked through."""
    piece_length = draw(st.integers(1, 40))
    return PieceMap(draw(st.integers(0, 400)), piece_length, draw(st.integers(1, piece_length + 3)))


@given(small_cuts())
def test_pieces_partition_the_content_and_chunks_each_piece(content: PieceMap) -> None:
    at = 0
    for piece in range(content.count):
        offset, length = content.piece_span(piece)
        assert offset == at
        assert 0 < length <= content.piece_length
        assert length == content.piece_length or piece == content.count - 1
        for chunk in range(content.chunks_in(piece)):
            chunk_offset, chunk_length = content.chunk_span(piece, chunk)
            assert chunk_offset == at
            assert 0 < chunk_length <= content.chunk_length
            assert chunk_length == content.chunk_length or chunk == content.chunks_in(piece) - 1
            at += chunk_length
        assert at == offset + length
    assert at == content.length


@pytest.mark.clause("TASK-3")
@given(lengths)
def test_our_own_cut_keeps_its_bounds(length: int) -> None:
    content = cut(length)
    assert content.piece_length & (content.piece_length - 1) == 0
    assert pieces.LEAST_PIECE <= content.piece_length <= pieces.MOST_PIECE
    assert pieces.LEAST_CHUNK <= content.chunk_length <= pieces.MOST_CHUNK
    assert content.piece_length % content.chunk_length == 0
    if content.piece_length < pieces.MOST_PIECE:
        assert content.count <= pieces.MOST_PIECES
    if content.piece_length > pieces.LEAST_PIECE:
        assert content.count > pieces.MOST_PIECES // 2, "a longer piece than the pieces' number asks for"


@pytest.mark.parametrize(
    ("length", "piece_length", "chunk_length", "count"),
    [
        (0, 256 * KIB, 64 * KIB, 0),
        (1, 256 * KIB, 64 * KIB, 1),
        (256 * KIB, 256 * KIB, 64 * KIB, 1),
        (256 * KIB + 1, 256 * KIB, 64 * KIB, 2),
        (128 * MIB, 2 * MIB, 128 * KIB, 64),
        (128 * MIB + 1, 4 * MIB, 256 * KIB, 33),
        (100 << 30, 64 * MIB, 1 * MIB, 1600),
    ],
)
def test_known_lengths_are_cut_as_the_protocol_says(
    length: int, piece_length: int, chunk_length: int, count: int
) -> None:
    content = cut(length)
    assert (content.piece_length, content.chunk_length, content.count) == (piece_length, chunk_length, count)


@pytest.mark.clause("TASK-3")
@given(lengths, st.integers(0, 65_535))
def test_many_hosts_make_longer_pieces_of_the_same_chunks_and_never_fewer_than_eight(length: int, hosts: int) -> None:
    few, many = cut(length), cut(length, hosts)
    assert many.chunk_length == few.chunk_length
    assert not pieces.flaw(many) or pieces.flaw(few)
    if many.piece_length == few.piece_length:
        assert (
            hosts < pieces.MANY_HOSTS
            or few.piece_length >= min(hosts * pieces.BYTES_PER_HOST, pieces.MOST_PIECE_OF_MANY)
            or length < 2 * few.piece_length * pieces.FEWEST_PIECES
        )
    else:
        assert many.piece_length < 2 * hosts * pieces.BYTES_PER_HOST
        assert many.piece_length <= pieces.MOST_PIECE_OF_MANY
        assert many.piece_length & (many.piece_length - 1) == 0
        assert many.count >= pieces.FEWEST_PIECES


@pytest.mark.parametrize(
    ("length", "hosts", "piece_length", "count"),
    [
        (200 * MIB, 255, 4 * MIB, 50),
        (200 * MIB, 256, 4 * MIB, 50),
        (200 * MIB, 1000, 16 * MIB, 13),
        (200 * MIB, 7000, 16 * MIB, 13),
        (20 * 10**9, 2000, 64 * MIB, 299),
        (20 * 10**9, 7000, 128 * MIB, 150),
        (1 * MIB, 1000, 256 * KIB, 4),
    ],
)
def test_the_pieces_for_many_hosts(length: int, hosts: int, piece_length: int, count: int) -> None:
    content = cut(length, hosts)
    assert (content.piece_length, content.count) == (piece_length, count)


@pytest.mark.clause("TASK-3")
def test_a_growing_content_counts_no_piece_and_takes_every_piece_as_whole() -> None:
    growing = cut(None)
    assert growing.count == 0
    assert growing.piece_length == piece_length_for(None) == pieces.GROWING_PIECE
    assert growing.chunk_length == chunk_length_for(pieces.GROWING_PIECE)
    assert growing.piece_span(7) == (7 * growing.piece_length, growing.piece_length)
    assert growing.chunks_in(7) == growing.piece_length // growing.chunk_length


@pytest.mark.clause("TASK-4")
@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (PieceMap(2**16, 1, 1), ""),
        (PieceMap(2**16 + 1, 1, 1), "65537 bytes are more than 65536 pieces of 1"),
        (PieceMap(2**59, 1, 1), "576460752303423488 bytes are more than 65536 pieces of 1"),
        (PieceMap(None, 1024, 1), ""),
        (PieceMap(None, 1025, 1), "a piece of 1025 bytes is more than 1024 chunks of 1"),
        (PieceMap(5, 1, 2), "pieces of 1 bytes cannot be cut into chunks of 2"),
        (PieceMap(5, 1, 0), "pieces of 1 bytes cannot be cut into chunks of 0"),
        (PieceMap(-1, 1, 1), "pieces of 1 bytes cannot be cut into chunks of 1"),
        (cut(4 << 40), ""),
        (cut(None), ""),
    ],
)
def test_a_cut_that_no_set_could_name_is_told_from_others(content: PieceMap, wrong: str) -> None:
    assert pieces.flaw(content) == wrong


@given(small_cuts(), st.integers(0, 50))
def test_beyond_the_end_there_is_nothing(content: PieceMap, beyond: int) -> None:
    assert content.piece_span(content.count + beyond)[1] == 0
    assert content.chunks_in(content.count + beyond) == 0
