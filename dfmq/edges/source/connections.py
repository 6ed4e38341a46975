"""Who may talk to a source at once and over which session: places per host, sessions per trust. No requests."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Hashable

import aiohttp

from dfmq.errors import SourceError
from dfmq.model.settings import SourceSettings

#: Sessions kept for private certificates (`--cacert`); each costs a connector and a TLS context of about 50 KiB.
MOST_SESSIONS = 16
#: What aiohttp may hold of one body before it stops reading the socket, twice over. 256 KiB, 1 and 4 MiB were measured
#: alike (2.4 GB/s, 0.35 CPU-s/GiB), 64 KiB slower (1.7, 0.6); and what is held is lost, and read again, when a source
#: breaks off.
READ_BUFFER_BYTES = 256 * 1024


class Places:
    """At most `limit` requests under way at once to one host. Law: a key is in the book while somebody has or waits
    for a place there."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free: dict[Hashable, asyncio.Semaphore] = {}
        self._users: dict[Hashable, int] = {}

    async def take(self, key: Hashable) -> None:
        """Wait for a place; every take is followed by one leave."""
        self._users[key] = self._users.get(key, 0) + 1
        free = self._free.setdefault(key, asyncio.Semaphore(self._limit))
        try:
            await free.acquire()
        except asyncio.CancelledError:
            self._forget(key)
            raise

    def leave(self, key: Hashable) -> None:
        """Give the place back."""
        self._free[key].release()
        self._forget(key)

    def _forget(self, key: Hashable) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key], self._free[key]


class Kept:
    """A session and how many use it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.users = 0

    def give_back(self) -> None:
        """One user less."""
        self.users -= 1


class Sessions:
    """One session for each (authorities, insecure), for connections are pooled by session and trust must not leak from
    one task to another. Least recently used ones that nobody reads from are closed beyond MOST_SESSIONS."""

    def __init__(self, settings: SourceSettings) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=settings.connect_seconds, sock_read=settings.stall_seconds
        )
        self._kept: OrderedDict[tuple[str, bool], Kept] = OrderedDict()

    def take(self, cacert: str, insecure: bool) -> Kept:
        """The session for this trust; every take is followed by one give_back. Raises SourceError for a `cacert` that
        is no PEM."""
        key = (cacert, insecure)
        if key not in self._kept:
            self._kept[key] = Kept(self._made(cacert, insecure))
        kept = self._kept[key]
        kept.users += 1
        self._kept.move_to_end(key)
        return kept

    def _made(self, cacert: str, insecure: bool) -> aiohttp.ClientSession:
        trust: ssl.SSLContext | bool = True
        if insecure:
            trust = False
        elif cacert:
            try:
                trust = ssl.create_default_context(cadata=cacert)
            except (ssl.SSLError, ValueError) as error:
                raise SourceError("--cacert: this is no PEM text of certificates", permanent=True) from error
        # limit=0: Places bounds requests, for all sessions together. No cookie is kept: it would be one user's secret
        # in another's request. No trust_env: it would also take passwords from a .netrc nobody named.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, limit=0),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
        )

    async def close_surplus(self) -> None:
        """Close those that nobody uses, oldest first, until MOST_SESSIONS are left."""
        idle = [key for key, kept in self._kept.items() if not kept.users]
        surplus = [self._kept.pop(key) for key in idle[: max(0, len(self._kept) - MOST_SESSIONS)]]
        for kept in surplus:
            await kept.session.close()

    async def close(self) -> None:
        """Close every session, used or not."""
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.session.close()
