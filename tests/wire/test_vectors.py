"""Golden vectors: one file a message, so that another implementation can be held against this one."""

from __future__ import annotations

import json

import msgpack
import pytest
from support import examples, vectors

from dfmq.wire import codec, envelope, messages, topics

NAMES = sorted(examples.EXAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_our_codec_writes_and_reads_the_vector(name: str) -> None:
    frames, _ = vectors.read_vector(name)
    message = examples.EXAMPLES[name]
    assert frames[-2:] == envelope.wrap([codec.encode(message)]), (
        "run tests/support/vectors.py --rewrite, read the diff"
    )
    (body,) = envelope.unwrap(frames[-2:])
    heard_by = [grammar for grammar in examples.GRAMMARS.values() if _hears(grammar, body, message)]
    assert heard_by, f"no socket hears {name}"


def _hears(grammar: codec.Decoder[messages.Message], body: bytes | memoryview, message: messages.Message) -> bool:
    try:
        return bool(grammar.decode(body) == message)
    except codec.ProtocolError as error:
        assert error.reason == "unknown_message"
        return False


@pytest.mark.parametrize("name", [*NAMES, "chunk"])
def test_an_independent_library_reads_the_same(name: str) -> None:
    frames, body = vectors.read_vector(name)
    octets = frames[0] if name == "chunk" else frames[-1]
    assert vectors.as_json(msgpack.unpackb(octets)) == body
    assert json.dumps(body)


def test_the_vectors_are_those_of_the_examples_and_no_others() -> None:
    texts = vectors.all_vectors()
    assert {path.name: path.read_text() for path in vectors.VECTORS.glob("*.hex")} == texts


def test_every_message_has_an_example_with_every_field_set() -> None:
    kinds = {kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Message)}
    assert {type(message) for message in examples.EXAMPLES.values()} == kinds - {messages.Message}
    for name, message in examples.EXAMPLES.items():
        _, body = vectors.read_vector(name)
        assert set(body) - {"op"} == set(message.__struct_fields__), name


@pytest.mark.clause("CHUNK-1")
def test_the_chunk_header_is_an_array_and_the_payload_a_frame_of_its_own() -> None:
    frames, body = vectors.read_vector("chunk")
    assert frames == [codec.encode_chunk_header(*examples.CHUNK), examples.PAYLOAD]
    assert codec.decode_chunk_header(frames[0]) == examples.CHUNK
    assert body == [messages.PROTOCOL_VERSION, *examples.CHUNK]


@pytest.mark.clause("ENV-5")
def test_what_is_published_has_its_topic_first() -> None:
    notice, _ = vectors.read_vector("notice")
    hint, _ = vectors.read_vector("hint")
    assert notice[0] == topics.ALL
    assert hint[0] == topics.TASK_PREFIX + examples.TASK
    assert notice[1] == hint[1] == envelope.SIGNATURE
