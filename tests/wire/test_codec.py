"""Octets from anybody: a message within its bounds comes out, or a ProtocolError, never anything else."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect
from support import examples, vectors

from dfmq.errors import ProtocolError
from dfmq.wire import codec, messages

NAMES = sorted(examples.EXAMPLES)


def grammar_of(name: str) -> codec.Decoder[Any]:
    """A decoder that hears the message."""
    body = codec.encode(examples.EXAMPLES[name])
    for grammar in examples.GRAMMARS.values():
        try:
            grammar.decode(body)
        except ProtocolError:
            continue
        return grammar
    raise AssertionError(name)


def offer(octets: bytes) -> None:
    """Every decoder takes the octets or says ProtocolError."""
    for grammar in examples.GRAMMARS.values():
        try:
            assert isinstance(grammar.decode(octets), messages.Message)
        except ProtocolError as error:
            assert error.reason in ("malformed", "unknown_message")
    try:
        codec.decode_chunk_header(octets)
    except ProtocolError as error:
        assert error.reason in ("malformed", "version")


@pytest.mark.clause("MSG-1")
@pytest.mark.parametrize("name", NAMES)
def test_a_message_cut_short_anywhere_is_malformed(name: str) -> None:
    body = codec.encode(examples.EXAMPLES[name])
    for end in range(len(body)):
        for grammar in examples.GRAMMARS.values():
            with pytest.raises(ProtocolError):
                grammar.decode(body[:end])
    with pytest.raises(ProtocolError):
        grammar_of(name).decode(body + b"\0")


@given(st.binary(max_size=200))
def test_garbage_gives_a_protocol_error_or_nothing_else(octets: bytes) -> None:
    offer(octets)


@given(st.sampled_from(NAMES), st.data())
def test_a_message_with_octets_changed_gives_nothing_else_either(name: str, data: st.DataObject) -> None:
    body = bytearray(codec.encode(examples.EXAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    offer(bytes(body))


numbers = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
plain = st.recursive(
    numbers | st.text(max_size=8) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(NAMES), st.data())
def test_fields_of_any_other_type_give_nothing_else_either(name: str, data: st.DataObject) -> None:
    _, fields = vectors.read_vector(name)
    body = msgpack.unpackb(codec.encode(examples.EXAMPLES[name]))
    for field in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        body[field] = data.draw(plain)
    offer(msgpack.packb(body))


def test_nesting_without_end_is_malformed() -> None:
    for opening in (b"\x91", b"\x81\xa1a", b"\x82\xa2op\xa5hello\xa1x\x91"):
        offer(opening * 20_000)


@pytest.mark.clause("MSG-2")
@pytest.mark.parametrize("name", NAMES)
def test_fields_from_the_future_are_ignored(name: str) -> None:
    message = examples.EXAMPLES[name]
    body = msgpack.unpackb(codec.encode(message))
    body["from_the_future"] = {"deep": [1, {"x": b"\0"}], "n": None}
    assert grammar_of(name).decode(msgpack.packb(body)) == message
    backwards = dict(reversed(body.items()))
    assert grammar_of(name).decode(msgpack.packb(backwards)) == message


@pytest.mark.clause("MSG-3")
def test_a_message_from_the_future_is_unknown_and_not_malformed() -> None:
    for grammar in examples.GRAMMARS.values():
        with pytest.raises(ProtocolError) as caught:
            grammar.decode(msgpack.packb({"op": "from-the-future", "x": 1}))
        assert caught.value.reason == "unknown_message"
        with pytest.raises(ProtocolError) as caught:
            grammar.decode(msgpack.packb({"x": 1}))
        assert caught.value.reason == "malformed"


def bounded_fields() -> list[Any]:
    """(message, path, at the bound, one past it) for every bound of every field, nested ones too."""
    found = []
    for name, message in examples.EXAMPLES.items():
        info = inspect.type_info(type(message))
        assert isinstance(info, inspect.StructType)
        for path, kind in _leaves(info, ()):
            found += [
                pytest.param(name, path, good, bad, id=f"{name}.{'.'.join(map(str, path))}-{_size(bad)}")
                for good, bad in _edges(kind)
            ]
    return found


def _size(value: Any) -> str:
    return f"{len(value)}" if isinstance(value, (str, bytes, list)) else f"{value}"


def _leaves(kind: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(kind, inspect.StructType):
        return [leaf for field in kind.fields for leaf in _leaves(field.type, (*path, field.encode_name))]
    if isinstance(kind, inspect.UnionType):
        return [leaf for inner in kind.types for leaf in _leaves(inner, path)]
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        return [(path, kind), *_leaves(kind.item_type, (*path, 0))]
    if isinstance(kind, inspect.TupleType):
        return [leaf for at, inner in enumerate(kind.item_types) for leaf in _leaves(inner, (*path, at))]
    return [(path, kind)]


def _edges(kind: Any) -> list[tuple[Any, Any]]:
    """(allowed, refused) values at each end of a type's range."""
    if isinstance(kind, inspect.IntType):
        assert kind.ge is not None, "an integer without a lower bound"
        most = kind.le if kind.le is not None else kind.lt - 1 if kind.lt is not None else None
        assert most is not None, "an integer without an upper bound"
        return [(kind.ge, kind.ge - 1), (most, most + 1)]
    if isinstance(kind, inspect.FloatType):
        assert kind.ge is not None, "a float without a lower bound"
        assert kind.le is not None, "a float without an upper bound"
        return [(float(kind.ge), -0.001), (float(kind.le), kind.le * 1.001), (float(kind.ge), float("nan"))]
    if isinstance(kind, (inspect.BytesType, inspect.StrType)):
        assert kind.max_length is not None, "octets or text without an upper bound"
        unit: Any = b"x" if isinstance(kind, inspect.BytesType) else "x"
        edges = [(unit * kind.max_length, unit * (kind.max_length + 1))]
        return edges + ([(unit * kind.min_length, unit * (kind.min_length - 1))] if kind.min_length else [])
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        assert kind.max_length is not None, "a list without an upper bound"
        return [(kind.max_length, kind.max_length + 1)]
    return []


@pytest.mark.clause("MSG-4")
@pytest.mark.parametrize(("name", "path", "good", "bad"), bounded_fields())
def test_a_bound_is_kept_and_one_past_it_is_refused(name: str, path: tuple[Any, ...], good: Any, bad: Any) -> None:
    body = codec.encode(examples.EXAMPLES[name])
    assert grammar_of(name).decode(_with(body, path, good))
    with pytest.raises(ProtocolError) as caught:
        grammar_of(name).decode(_with(body, path, bad))
    assert caught.value.reason == "malformed"


def _with(body: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    """The body with another value at the path; for a list, with its first item repeated so often."""
    fields = msgpack.unpackb(body)
    place = fields
    for key in path[:-1]:
        place = place[key]
    here = place[path[-1]]
    place[path[-1]] = [here[0]] * value if isinstance(here, list) and isinstance(value, int) else value
    return bytes(msgpack.packb(fields))


@pytest.mark.clause("CHUNK-2")
@pytest.mark.parametrize(
    "header",
    [
        msgpack.packb(fields)
        for fields in (
            [],
            [1, 2, 3],
            [1, 2, 3, 4, 5],
            [1, 2, 3, -1],
            [1, -2, 3, 4],
            [1, 2, 3, 1024],
            [1, 2, 2**24, 4],
            [1, 2**63, 3, 4],
            [1, 2.0, 3, 4],
            [1, True, 3, 4],
            [1, None, 3, 4],
            {"lease": 1},
            7,
            None,
        )
    ]
    + [b"", b"\x94\x01\x02\x03", b"\x94\x01\x02\x03\x04\x05", b"\xdd\xff\xff\xff\xff", b"\x94" * 33, bytes(33)],
    ids=bytes.hex,
)
def test_a_chunk_header_that_is_not_four_small_integers_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.decode_chunk_header(header)
    assert caught.value.reason == "malformed"


@pytest.mark.clause("CHUNK-2")
def test_a_chunk_header_of_another_version_is_refused_as_such() -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.decode_chunk_header(msgpack.packb([messages.PROTOCOL_VERSION + 1, 2, 3, 4]))
    assert caught.value.reason == "version"


@given(
    st.integers(0, codec.MOST_LEASE),
    st.integers(0, codec.MOST_PIECE_INDEX),
    st.integers(0, codec.MOST_CHUNK_INDEX),
)
def test_a_chunk_header_survives_the_bus_and_is_short(lease: int, piece: int, chunk: int) -> None:
    header = codec.encode_chunk_header(lease, piece, chunk)
    assert len(header) <= codec.MOST_HEADER_BYTES
    assert codec.decode_chunk_header(header) == codec.decode_chunk_header(memoryview(header)) == (lease, piece, chunk)


@pytest.mark.clause("MSG-5")
def test_defaults_are_left_out_and_come_back() -> None:
    beat = messages.Beat()
    assert codec.encode(beat) == msgpack.packb({"op": "beat"})
    assert codec.broker_hears.decode(codec.encode(beat)) == beat
    assert msgspec.structs.asdict(beat)["stamp"] == 0


@pytest.mark.clause("MSG-5")
@pytest.mark.parametrize("name", NAMES)
def test_a_field_without_a_default_must_be_there(name: str) -> None:
    message = examples.EXAMPLES[name]
    body = msgpack.unpackb(codec.encode(message))
    for field in msgspec.structs.fields(type(message)):
        less = msgpack.packb({key: value for key, value in body.items() if key != field.name})
        if field.required:
            with pytest.raises(ProtocolError):
                grammar_of(name).decode(less)
        else:
            assert grammar_of(name).decode(less)
