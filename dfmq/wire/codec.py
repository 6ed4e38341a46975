"""Messages ⇄ bodies, and the chunk header. Pure: octets in, values out. Whatever comes in, ProtocolError is all that
comes out besides a value. What a message means is not known here."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

import msgpack
import msgspec

from dfmq.errors import ProtocolError
from dfmq.wire import messages
from dfmq.wire.messages import Message
from dfmq.wire.version import PROTOCOL_VERSION

_encoder = msgspec.msgpack.Encoder()

M = TypeVar("M")


def encode(message: Message) -> bytes:
    """A message's body."""
    return _encoder.encode(message)


class Decoder(Generic[M]):
    """Bodies of one socket's grammar → messages. Raises ProtocolError (reason unknown_message or malformed) only."""

    def __init__(self, grammar: Any) -> None:
        self._grammar = grammar

    @cached_property
    def _decoder(self) -> msgspec.msgpack.Decoder[M]:
        # Made when it is needed: each node hears some of the grammars, and a command only one.
        return msgspec.msgpack.Decoder(self._grammar)

    def decode(self, body: bytes | memoryview) -> M:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            text = str(error)
            reason = "unknown_message" if text.startswith("Invalid value") and "`$.op`" in text else "malformed"
            raise ProtocolError(text, reason) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(str(error)) from error


broker_hears: Decoder[messages.CONTROL_TO_BROKER] = Decoder(messages.CONTROL_TO_BROKER)
peer_hears: Decoder[messages.CONTROL_TO_PEER] = Decoder(messages.CONTROL_TO_PEER)
parent_hears: Decoder[messages.EXCHANGE_TO_PARENT] = Decoder(messages.EXCHANGE_TO_PARENT)
child_hears: Decoder[messages.EXCHANGE_TO_CHILD] = Decoder(messages.EXCHANGE_TO_CHILD)
notices: Decoder[messages.NOTICES] = Decoder(messages.NOTICES)
hints: Decoder[messages.HINTS] = Decoder(messages.HINTS)
local_hears: Decoder[messages.LOCAL_TO_PEER] = Decoder(messages.LOCAL_TO_PEER)
client_hears: Decoder[messages.LOCAL_TO_CLIENT] = Decoder(messages.LOCAL_TO_CLIENT)


#: The header of a chunk: a msgpack array of four integers [PROTOCOL_VERSION, lease, piece, chunk]. The offset is not
#: in it: it derives from the indices (complaint 1 of the field: a stale offset from the wire wrote over another piece).
MOST_HEADER_BYTES = 32
MOST_LEASE = 2**63 - 1
MOST_PIECE_INDEX = 2**24 - 1
MOST_CHUNK_INDEX = 1023


def encode_chunk_header(lease: int, piece: int, chunk: int) -> bytes:
    """(lease, piece, chunk) → header frame."""
    packed: bytes = msgpack.packb((PROTOCOL_VERSION, lease, piece, chunk))
    return packed


def decode_chunk_header(frame: bytes | memoryview) -> tuple[int, int, int]:
    """Header frame → (lease, piece, chunk). Raises ProtocolError."""
    if len(frame) > MOST_HEADER_BYTES:
        raise ProtocolError(f"a chunk header of {len(frame)} octets")
    try:
        fields = msgpack.unpackb(frame)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"chunk header: {error}") from error
    if type(fields) is not list or len(fields) != 4 or not all(type(field) is int for field in fields):
        raise ProtocolError("a chunk header is an array of four integers")
    version, lease, piece, chunk = fields
    if version != PROTOCOL_VERSION:
        raise ProtocolError(f"protocol version {version}", "version")
    if not (0 <= lease <= MOST_LEASE and 0 <= piece <= MOST_PIECE_INDEX and 0 <= chunk <= MOST_CHUNK_INDEX):
        raise ProtocolError(f"a chunk header names lease {lease}, piece {piece}, chunk {chunk}")
    return lease, piece, chunk
