"""Sources: where content comes from first. What each promises and which is asked; reading is in http and file."""

from __future__ import annotations

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlsplit

import msgspec

from dfmq.errors import SettingsError, SourceError
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request, validate

if TYPE_CHECKING:
    from dfmq.edges.source.http import HttpSource

Kind = Literal["full", "partial", "unchanged"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a source. `offset` in bytes; the validators are those of an earlier answer, "" none."""

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
        self.fresh_seconds = head.fresh_seconds
        self.ranges = head.ranges

    @abstractmethod
    def body(self) -> AsyncIterator[bytes]:
        """The body in blocks as they come, none of them empty; once. It ends only after the last byte: raises
        SourceError when it breaks off, stalls, or is not as long as promised."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection or file. Any number of times."""


class Sources:
    """All the sources a node can read, whatever the scheme. Belongs to one event loop."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._http: HttpSource | None = None

    async def ask(
        self,
        request: Request,
        offset: int = 0,
        etag: str = "",
        last_modified: str = "",
        unchanged_will_do: bool = False,
    ) -> SourceReply:
        """Ask for the content from `offset` on. With validators the question is conditional: what has changed comes
        "full", from its beginning; what has not may come as "unchanged" when that will do. Raises SourceError,
        SourceUnreachable, SourceRefused, NotAuthorised and nothing else."""
        try:
            validate(request)
        except SettingsError as error:
            raise SourceError(str(error), permanent=True) from error
        asked = Asked(
            request=request,
            offset=offset,
            etag=etag,
            last_modified=last_modified,
            unchanged_will_do=unchanged_will_do and bool(etag or last_modified),
        )
        if urlsplit(request.url.strip()).scheme.lower() == "file":
            from dfmq.edges.source.file import ask_file

            return await ask_file(asked, self._settings.files)
        return await (await self._http_source()).ask(asked)

    async def prepare(self) -> None:
        """Load what reading HTTP needs, before somebody waits for it."""
        await self._http_source()

    async def _http_source(self) -> HttpSource:
        if self._http is None:
            # aiohttp costs 0.19 CPU-s to import: who never reads a source does not pay, and no loop waits for it.
            http = await asyncio.to_thread(importlib.import_module, "dfmq.edges.source.http")
            if self._http is None:
                self._http = cast("HttpSource", http.HttpSource(self._settings))
        return self._http

    async def close(self) -> None:
        """Close every connection; replies that are still open break."""
        if self._http is not None:
            await self._http.close()
            self._http = None
