"""http:// and https:// as sources: one question, its redirects, one reply. Importing this imports aiohttp; meanings of
answers are in answers, of errors in faults."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

import dfmq
from dfmq.edges.source import redirects
from dfmq.edges.source.answers import Answer, if_range, read_answer
from dfmq.edges.source.connections import Places, Sessions
from dfmq.edges.source.decoding import decoded
from dfmq.edges.source.faults import FAULTS, broken, unanswered
from dfmq.edges.source.reply import Asked, SourceReply
from dfmq.errors import SourceError
from dfmq.model.settings import SourceSettings
from dfmq.model.task import shown

#: Read ahead of us, at most twice this much.
READ_AHEAD_BYTES = 1 << 20
#: Characters a URL may have on the wire (RFC 3986, section 2); others are quoted first.
_WIRE = frozenset(string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%")


class HttpSource:
    """Asks HTTP sources. Belongs to one event loop."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._places = Places(settings.per_host)
        self._sessions = Sessions(settings)
        #: replies not closed yet
        self._open: set[SourceReply] = set()
        #: the environment's; to go through that for every request takes as long as to read a short answer
        self._proxies = getproxies()

    async def ask(self, asked: Asked) -> SourceReply:
        """See Sources.ask."""
        reply = await self._ask_once(asked) or await self._ask_once(asked.from_zero())
        if reply is None:
            raise SourceError(f"{shown(asked.request.url)} answers a plain request with a part", permanent=True)
        return reply

    async def _ask_once(self, asked: Asked) -> SourceReply | None:
        own = _own_headers(asked)
        hop = redirects.first_hop(asked.request, own)
        while True:
            with ExitStack() as held:
                response = await self._get(hop, asked, held)
                location = response.headers.get("Location", "") if response.status in redirects.STATUSES else ""
                if location:
                    hop = hop.to(location)
                    continue
                answer = read_answer(asked, response.status, response.headers, hop.url)
                if answer is None:
                    return None
                reply = HttpReply(answer, response, held.pop_all(), shown(hop.url), self._settings, self._open.discard)
                self._open.add(reply)
                return reply

    async def _get(self, hop: redirects.Hop, asked: Asked, held: ExitStack) -> aiohttp.ClientResponse:
        """Send the request; what it holds is put on `held`."""
        place = scheme, host, port = hop.place
        await self._places.take(place)
        held.callback(self._places.leave, place)
        trust = (asked.request.cacert, asked.request.insecure) if scheme == "https" else ("", False)
        kept = self._sessions.take(*trust)
        held.callback(kept.give_back)
        await self._sessions.close_surplus()
        proxy, to_proxy = _proxy_for(self._proxies, scheme, host, port)
        through = [(n, v) for n, v in hop.headers if n.lower() == "proxy-authorization"] or to_proxy
        headers = [(n, v) for n, v in hop.headers if n.lower() != "proxy-authorization"]
        if proxy and scheme == "http":
            headers += through  # there is no CONNECT: the proxy reads the request itself
        try:
            response = await kept.session.get(
                _on_the_wire(hop.url),
                headers=headers,
                allow_redirects=False,
                proxy=proxy,
                proxy_headers=through if proxy and scheme == "https" else None,
                # aiohttp stops reading at twice this; with its own 64 KiB it stops and goes on at every read.
                read_bufsize=READ_AHEAD_BYTES,
            )
        except FAULTS as error:
            raise unanswered(error, host, port, shown(hop.url), self._settings) from error
        held.callback(response.close)
        return response

    async def close(self) -> None:
        """Close every connection."""
        # Replies first: aiohttp leaves a body's reader waiting for ever when its session goes away under it.
        for reply in list(self._open):
            await reply.close()
        await self._sessions.close()


class HttpReply(SourceReply):
    """An HTTP answer whose body waits on its connection."""

    def __init__(
        self,
        answer: Answer,
        response: aiohttp.ClientResponse,
        held: ExitStack,
        url: str,
        settings: SourceSettings,
        closed: Callable[[SourceReply], None],
    ) -> None:
        super().__init__(answer.head)
        held.callback(closed, self)
        self._encoding = answer.encoding
        self._has_body = not answer.empty and self.kind != "unchanged"
        self._response = response
        self._held = held
        self._url = url
        self._settings = settings
        self._position = self.offset

    async def body(self) -> AsyncIterator[bytes]:
        """See SourceReply.body."""
        if not self._has_body:
            return
        blocks = self._blocks()
        async for block in decoded(blocks, self._encoding, self._url) if self._encoding else blocks:
            self._position += len(block)
            if self.length is not None and self._position > self.length:
                raise SourceError(f"{self._url} sends more than the {self.length} bytes it announced", permanent=True)
            yield block
        if self.length is not None and self._position < self.length:
            raise SourceError(f"{self._url} broke off at byte {self._position} of {self.length}")
        await self.close()

    async def _blocks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while block := await content.readany():
                yield block
        except FAULTS as error:
            # What came in ahead of the fault is good. A source that breaks off each time would else bring nothing.
            if ahead := _unread(content):
                yield ahead
            raise broken(error, self._url, self._position, self.length, self._settings) from error

    async def close(self) -> None:
        """See SourceReply.close. A connection read to the end is kept for the next request."""
        self._held.close()


def _unread(content: aiohttp.StreamReader) -> bytes:
    """The octets that wait behind a fault: aiohttp raises it before it gives them."""
    content.set_exception(None)  # type: ignore[arg-type]
    return content.read_nowait()


def _own_headers(asked: Asked) -> tuple[tuple[str, str], ...]:
    own = [
        # Coded content has no length and no ranges we could use, and its digest is not the one users know.
        ("Accept-Encoding", "identity"),
        ("Accept", "*/*"),
        ("User-Agent", f"dfmq/{dfmq.__version__}"),
    ]
    if asked.unchanged_will_do:
        if asked.etag:
            own.append(("If-None-Match", asked.etag))
        else:
            own.append(("If-Modified-Since", asked.last_modified))
    validator = if_range(asked)
    # A condition that cannot be put is not left out: then all of it is asked for.
    if asked.offset and (validator or not asked.etag):
        own.append(("Range", f"bytes={asked.offset}-"))
        if validator:
            own.append(("If-Range", validator))
    return tuple(own)


def _on_the_wire(url: str) -> URL:
    """As the user wrote it where that can be sent: re-quoting would break a signed URL."""
    return URL(url, encoded=_WIRE.issuperset(url))


def _proxy_for(proxies: dict[str, str], scheme: str, host: str, port: int) -> tuple[str | None, list[tuple[str, str]]]:
    """The proxy the environment names for this place (http_proxy, https_proxy, all_proxy, no_proxy), without its
    userinfo, and the headers that carry it."""
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(f"{host}:{port}"):
        return None, []
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(
            f"the {scheme} proxy of the environment is no http proxy: dfmq uses no others", permanent=True
        )
    userinfo, _, address = parts.netloc.rpartition("@")
    authorization = [("Proxy-Authorization", redirects.basic(userinfo))] if userinfo else []
    return urlunsplit((parts.scheme, address, "", "", "")), authorization
