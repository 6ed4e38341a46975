"""What a peer node makes of the frames that come: garbage costs itself, and nothing that came with it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dfmq.nodes.peer import PeerNode
from dfmq.wire import codec, envelope
from dfmq.wire.messages import Error, Quit, Welcome

NEWER = msgspec.msgpack.encode({"op": "of a later release", "x": 1})


class Ears:
    """As much of a node as reading takes."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.flushes = 0

    def _note(self, _: str, fields: dict[str, Any]) -> None:
        self.notes.append(fields)

    def _flush(self) -> None:
        self.flushes += 1


def hear(*bodies: bytes) -> tuple[list[Any], list[Error], Ears]:
    ears, answers = Ears(), list[Error]()
    messages = PeerNode._messages(ears, envelope.wrap(list(bodies)), codec.peer_hears, answers.append)  # type: ignore[arg-type]
    return messages, answers, ears


@pytest.mark.clause("MSG-3")
@pytest.mark.parametrize(("garbage", "code"), [(NEWER, "unknown_message"), (b"\xc1", "malformed")])
def test_what_is_not_understood_is_answered_and_the_rest_is_taken(garbage: bytes, code: str) -> None:
    before, after = Welcome(epoch=7), Quit(permit=1, task=bytes(16))
    messages, answers, ears = hear(codec.encode(before), garbage, codec.encode(after))
    assert messages == [before, after]
    assert [answer.code for answer in answers] == [code]
    assert (ears.notes, ears.flushes) == ([{"code": code}], 1)


def test_much_garbage_in_one_message_is_answered_once() -> None:
    messages, answers, ears = hear(*[NEWER] * 200)
    assert (messages, len(answers), len(ears.notes)) == ([], 1, 200)


def test_what_is_no_message_of_ours_is_not_answered() -> None:
    ears, answers = Ears(), list[Error]()
    assert PeerNode._messages(ears, [b"GET / HTTP/1.1"], codec.peer_hears, answers.append) == []  # type: ignore[arg-type]
    assert (answers, ears.flushes) == ([], 0)
