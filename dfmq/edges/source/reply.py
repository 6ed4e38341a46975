"""A question to a source, and its answer: what each source promises. Who asks which is in sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from dfmq.model.task import Request

Kind = Literal["full", "partial", "unchanged"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a source. `offset` in bytes; the validators are those of an earlier answer, "" none. With an
    offset, `last_modified` without an ETag is a strong one (see Head)."""

    request: Request
    offset: int = 0
    etag: str = ""
    last_modified: str = ""
    unchanged_will_do: bool = False

    def from_zero(self) -> Asked:
        """The same question for the whole content."""
        return Asked(request=self.request)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a source says before its body."""

    #: "full" the body is the whole content · "partial" it begins at `offset`, as asked · "unchanged" there is none,
    #: for the validators still hold
    kind: Kind
    offset: int = 0
    #: of the whole content, bytes; None unknown
    length: int | None = None
    etag: str = ""
    last_modified: str = ""
    #: `last_modified` is so much older than the answer that it names these very octets
    strong_date: bool = False
    #: how long the answer may be used without asking again; None: the source does not say
    fresh_seconds: float | None = None
    #: the source says it takes byte ranges
    ranges: bool = False


class SourceReply(ABC):
    """An answer: its head is here, its body waits. Whoever has one closes it, read to the end or not."""

    def __init__(self, head: Head) -> None:
        self.kind = head.kind
        self.offset = head.offset
        self.length = head.length
        self.etag = head.etag
        self.last_modified = head.last_modified
        self.strong_date = head.strong_date
        self.fresh_seconds = head.fresh_seconds
        self.ranges = head.ranges

    @abstractmethod
    def body(self) -> AsyncIterator[bytes]:
        """The body in blocks as they come, none of them empty; once. It ends only after the last byte: raises
        SourceError when it breaks off, stalls, or is not as long as promised."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection or file. Any number of times."""
