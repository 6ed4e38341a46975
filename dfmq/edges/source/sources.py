"""All the sources a node can read: which is asked. Reading is in http and file."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from dfmq.edges.source.reply import Asked, SourceReply
from dfmq.errors import SettingsError, SourceError
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request, validate

if TYPE_CHECKING:
    from dfmq.edges.source.http import HttpSource


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
