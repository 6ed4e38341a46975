"""Any message there can be, within its bounds: drawn from the types by one seed, leaning to names that are in use."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from msgspec import inspect
from support.talk import CUT, GENERATION, OTHER_GENERATION, REQUEST, TASK, digest, exchange, peer_id, proofs

from dfmq.model.task import Request, task_id
from dfmq.wire.messages import Message

NAMES = ("seed", "a", "b", "c")
OTHER_REQUEST = Request(url="http://source.example/other", headers=(("Authorization", "Bearer x"),))
CODES = (
    *("stalled", "corrupt", "refused", "cancelled", "unreachable", "done", "not_held", "busy"),
    *("digest_mismatch", "not_authorised", "source_refused", "store", "no_space"),
    *("unknown_peer", "unknown_task", "version", "malformed", "?"),
)

#: a field's name → what is likely to be meant; of every other field, anything its type allows
LIKELY: dict[str, Sequence[Any]] = {
    "task": [TASK] * 6 + [task_id(OTHER_REQUEST)],
    "request": [REQUEST] * 6 + [OTHER_REQUEST],
    "generation": [GENERATION] * 6 + [OTHER_GENERATION],
    "piece": [0, 0, 1, 1, 2],
    "pieces": [[0], [1], [0, 1], [2], []],
    "lease": range(1, 12),
    "leases": [[number] for number in range(1, 12)],
    "permit": [1, 1, 1, 2, 3],
    "held": [b"", b"", b"\x01", b"\x02", b"\x03", b"\xff"],
    "chunks": [b"\x0f", b"\x0f", b"\x05", b"", b"\xff"],
    "proofs": [proofs(0), proofs(1), proofs(0), proofs(1), b"", b"x" * 64],
    "length": [CUT.length] * 6 + [CUT.piece_length + 1, 0, None],
    "piece_length": [CUT.piece_length],
    "chunk_length": [CUT.chunk_length],
    "algorithm": ["xxh3_128"],
    "credit": [CUT.piece_length, CUT.chunk_length, 1, 0, 1 << 40],
    "count": [1, 2, 3, 20],
    "want": [1, 2, 3, 20],
    "get": [1, 2],
    "endpoint": [exchange(name) for name in NAMES],
    "parent": [peer_id(name) for name in NAMES],
    "peer": [peer_id(name) for name in NAMES],
    "host": [name.encode().rjust(16, b"-") for name in NAMES],
    "epoch": [1, 1, 1, 2],
    "beat_seconds": [2.0, 0.5, 0.0],
    "seconds": [30.0, 1.0, 0.0],
    "code": CODES,
}
#: one in so many numbers is not the likely one but an end of its range
ODDS = 12


class Speaker:
    """Draws messages. The same seed draws the same."""

    def __init__(self, rng: random.Random, *, honest: bool = False) -> None:
        """`honest`: speaks only of pieces there are, and of the length what is true, or that it is not known. A broker
        is believed that."""
        self._is_honest = honest
        self._rng = rng
        self._lengths: Sequence[Any] = [CUT.length, CUT.length, None] if honest else LIKELY["length"]

    def one_of(self, kinds: Sequence[type[Message]], often: Sequence[type[Message]] = ()) -> Message:
        """A message of one of these kinds; of some, more often."""
        message: Message = self._struct(self._rng.choice([*kinds, *often, *often, *often]))
        return message

    def _struct(self, kind: type[Any]) -> Any:
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        return kind(**{field.encode_name: self._field(field, kind.__name__) for field in info.fields})

    def _field(self, field: inspect.Field, owner: str) -> Any:
        likely = None if owner == "Grant" else LIKELY.get(field.name)
        is_number = isinstance(field.type, inspect.IntType) and field.name not in ("piece_length", "chunk_length")
        if likely is None or (is_number and not self._is_honest and self._rng.randrange(ODDS) == 0):
            if owner == "Grant" and field.name in ("task", "generation"):
                return self._rng.choice(LIKELY[field.name])
            return self._of_type(field.type)
        if self._is_honest and field.name in ("piece", "pieces"):
            likely = [one for one in likely if one not in (2, [2])]
        if field.name == "length":
            return self._rng.choice(self._lengths) if isinstance(field.type, inspect.UnionType) else CUT.length
        return self._rng.choice(likely)

    def _of_type(self, kind: Any) -> Any:
        rng = self._rng
        if isinstance(kind, inspect.StructType):
            return self._struct(kind.cls)
        if isinstance(kind, inspect.UnionType):
            return self._of_type(rng.choice(kind.types))
        if isinstance(kind, inspect.ListType):
            return [self._of_type(kind.item_type) for _ in range(rng.randint(0, 3))]
        if isinstance(kind, inspect.VarTupleType):
            return tuple(self._of_type(kind.item_type) for _ in range(rng.randint(0, 2)))
        if isinstance(kind, inspect.TupleType):
            return tuple(map(self._of_type, kind.item_types))
        if isinstance(kind, inspect.BytesType):
            return rng.randbytes(kind.min_length or rng.randint(0, 8))
        if isinstance(kind, inspect.StrType):
            return "".join(rng.choices("abc/:.", k=rng.randint(0, 8)))
        if isinstance(kind, inspect.IntType):
            most = kind.le if kind.le is not None else (kind.lt or 1) - 1
            return rng.choice([kind.ge or 0, min(most, 3), most])
        if isinstance(kind, inspect.FloatType):
            return rng.choice([0.0, 0.5, float(kind.le or 1)])
        return rng.random() < 0.5 if isinstance(kind, inspect.BoolType) else None


def a_digest(rng: random.Random) -> bytes:
    """Of a chunk of the content, maybe of another than is meant."""
    return digest(rng.choice([0, 0, 1, 1, 2]), rng.randrange(4))
