"""What one turn says to many receivers: gathered while the turn lasts, taken together at its end. Sends nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from dfmq.wire import codec, envelope
from dfmq.wire.messages import Message

K = TypeVar("K", bound=Hashable)


class Mail(Generic[K]):
    """Messages by receiver, in the order in which they were put.

    Law: what was put is taken once, in no message of more than MOST_BODIES bodies.
    """

    def __init__(self) -> None:
        self._bodies: dict[K, list[bytes]] = {}

    def put(self, receiver: K, message: Message) -> None:
        """Say this to them at the turn's end."""
        self._bodies.setdefault(receiver, []).append(codec.encode(message))

    def take(self) -> Iterator[tuple[K, list[list[bytes]]]]:
        """(receiver, the frames of each message to it) of all that is to go out now."""
        taken, self._bodies = self._bodies, {}
        for receiver, bodies in taken.items():
            starts = range(0, len(bodies), envelope.MOST_BODIES)
            yield receiver, [envelope.wrap(bodies[first : first + envelope.MOST_BODIES]) for first in starts]

    def __bool__(self) -> bool:
        return bool(self._bodies)

    def clear(self) -> None:
        """Say none of it."""
        self._bodies.clear()
