"""Sources for tests: an HTTP(S) server that misbehaves on demand, and a source in memory. No dfmq decisions in here.

    with FaultySource() as source:                       # FaultySource(tls=True): https; trust it with source.cacert
        source.put("/x", b"…")                           # ETag, Last-Modified, Content-Length, ranges: a good server
        source.put("/x", b"…", close_after=1000)         # replaces it; see Page for everything that can go wrong
        source.put("/x", b"…", status=503, headers={"Retry-After": "2"}, times=1)    # once, and then well
        source.put("/old", redirect=source.url("/x", host="localhost"))
        dfmq_get(source.url("/x"))
        assert source.requests("/x") == 1                # GETs; requests("/x", "HEAD")
        assert source.bytes_sent("/x") == len(content)   # bytes of bodies, summed over all requests
        source.wait_for_requests("/x", 1)                # until somebody has asked
        assert "range" in source.seen("/x")[0]           # headers of each GET, lower-case names, ":target" as it came

It listens on 127.0.0.1 at a free port, in a thread with a loop of its own; leaving the `with` breaks every connection.
Queries are ignored when a page is looked up. It answers absolute targets too, so it can stand in for an HTTP proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
import threading
import weakref
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dfmq.edges.source.reply import Head, SourceReply
from dfmq.errors import SourceError, SourceRefused
from dfmq.model.task import Request

MODIFIED = "Mon, 23 Nov 2026 10:00:00 GMT"
BLOCK = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a path answers. The faults (status, stall_after, close_after) hold for the first `times`
    requests, or for ever."""

    data: bytes = b""
    #: None: one made of the content, strong; "" none
    etag: str | None = None
    last_modified: str = MODIFIED
    #: False: a range is answered with 200 and everything, and Accept-Ranges is not said
    ranges: bool = True
    #: no Content-Length, chunked transfer
    chunked: bool = False
    #: gzip or deflate: sent so though nobody asked; any other: only said
    encoding: str = ""
    #: more headers, or others; a value "" leaves the header out
    headers: dict[str, str] = field(default_factory=dict)
    #: Location of a 302
    redirect: str = ""
    #: the Authorization wanted; without it 401
    authorization: str = ""
    #: body bytes per second; 0 as fast as it goes
    rate: int = 0
    #: answer with this status and no content
    status: int = 0
    #: body bytes after which nothing more comes, though the connection stays
    stall_after: int | None = None
    #: body bytes after which the connection is closed
    close_after: int | None = None
    times: int | None = None

    @property
    def tag(self) -> str:
        if self.etag is not None:
            return self.etag
        return f'"{zlib.crc32(self.data):08x}-{len(self.data)}"'

    def well(self) -> Page:
        """The same without its faults."""
        plain = {"status": 0, "stall_after": None, "close_after": None}
        return Page(**{**self.__dict__, **plain})


class FaultySource:
    """See the module."""

    def __init__(self, tls: bool = False) -> None:
        self._scheme = "https" if tls else "http"
        self._context: ssl.SSLContext | None = None
        #: PEM text of the authority that signed our certificate; "" without TLS
        self.cacert = ""
        if tls:
            self._make_certificate()
        self._pages: dict[str, Page] = {}
        self._requests: Counter[tuple[str, str]] = Counter()
        self._came = threading.Condition()
        self._bytes_sent: Counter[str] = Counter()
        self._seen: dict[str, list[dict[str, str]]] = defaultdict(list)
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-source", daemon=True)
        self.port = 0
        #: connections accepted so far
        self.connections = 0

    def __enter__(self) -> FaultySource:
        self._thread.start()
        self._loop.set_exception_handler(lambda _loop, _context: None)  # clients break off all the time
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # ── what tests say and ask ──

    def put(self, path: str, data: bytes = b"", **page: Any) -> str:
        """Let `path` answer so from now on; the fields are Page's. Returns its URL."""
        self._pages[path] = Page(data=data, **page)
        return self.url(path)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def requests(self, path: str, method: str = "GET") -> int:
        return self._requests[path, method]

    def wait_for_requests(self, path: str, count: int, seconds: float = 10.0) -> None:
        """Until `count` GETs have come. Call it in a thread when the client runs in your own loop."""
        with self._came:
            assert self._came.wait_for(lambda: self.requests(path) >= count, seconds), f"{path}: {self.requests(path)}"

    def bytes_sent(self, path: str) -> int:
        return self._bytes_sent[path]

    def seen(self, path: str) -> list[dict[str, str]]:
        return list(self._seen[path])

    # ── the server ──

    def _make_certificate(self) -> None:
        import trustme

        authority = trustme.CA()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._context)
        self.cacert = authority.cert_pem.bytes().decode()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context, backlog=1024)

    async def _stop(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for writer in list(self._writers):
            # close() would wait for a client that does not read; an ended TLS connection's abort() stumbles in 3.11.
            with contextlib.suppress(OSError, AttributeError):
                writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while await self._serve_one(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # we are being stopped, and the streams' own callback would complain
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = await reader.readexactly(1)
        if first == b"\x16":  # a TLS client at a plain port
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        said = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        path = urlsplit(target).path
        with self._came:
            self._requests[path, method] += 1
            self._came.notify_all()
        if method == "GET":
            self._seen[path].append({**said, ":target": target})
        page = self._pages.get(path, Page(status=404))
        if page.times is not None and self._requests[path, method] > page.times:
            page = page.well()
        status, headers, body = _answer(page, said)
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items() if value)]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if method == "HEAD" or status == 304:
            await writer.drain()
            return True
        return await self._send(page, path, body, reader, writer)

    async def _send(
        self, page: Page, path: str, body: memoryview, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        stops = [at for at in (page.stall_after, page.close_after) if at is not None and at < len(body)]
        end = min(stops, default=len(body))
        block = min(BLOCK, max(1, page.rate // 20)) if page.rate else BLOCK
        position = 0
        await writer.drain()
        while position < end:
            piece = body[position : min(end, position + block)]
            self._bytes_sent[path] += len(piece)  # before they go: who has them all finds them counted
            writer.write(b"%x\r\n%b\r\n" % (len(piece), bytes(piece)) if page.chunked else piece)
            await writer.drain()
            position += len(piece)
            if page.rate:
                await asyncio.sleep(len(piece) / page.rate)
        if stops and end == page.stall_after:
            await reader.read(1)  # until the client gives up
        if stops:
            return False
        if page.chunked:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return True


def _answer(page: Page, said: dict[str, str]) -> tuple[int, dict[str, str], memoryview]:
    """Status, headers and body."""
    headers = {"Content-Length": "0", **page.headers}
    if page.authorization and said.get("authorization") != page.authorization:
        return 401, headers, memoryview(b"")
    if page.status:
        return page.status, headers, memoryview(b"")
    if page.redirect:
        return 302, {"Location": page.redirect, **headers}, memoryview(b"")
    validators = {"ETag": page.tag, "Last-Modified": page.last_modified}
    if page.tag and said.get("if-none-match") == page.tag:
        return 304, {**validators, **page.headers}, memoryview(b"")
    if "if-none-match" not in said and page.last_modified and said.get("if-modified-since") == page.last_modified:
        return 304, {**validators, **page.headers}, memoryview(b"")
    body = page.data
    if page.encoding in ("gzip", "deflate"):
        body = gzip.compress(body) if page.encoding == "gzip" else zlib.compress(body)
    headers = {**validators, "Content-Encoding": page.encoding}
    if page.ranges:
        headers["Accept-Ranges"] = "bytes"
    status, first = 200, 0
    wanted = said.get("range", "").removeprefix("bytes=").removesuffix("-")
    if page.ranges and wanted and said.get("if-range", page.tag) in (page.tag, page.last_modified):
        status, first = 206, int(wanted)
        if first >= len(body):
            return 416, {**headers, "Content-Length": "0", "Content-Range": f"bytes */{len(body)}"}, memoryview(b"")
        headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
    if page.chunked:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(len(body) - first)
    return status, {**headers, **page.headers}, memoryview(body)[first:]


class MemorySources:
    """What edges.source.sources.Sources promises, over a dictionary: for tests that want no socket."""

    def __init__(self) -> None:
        #: URL → content; a test may change it at any time
        self.contents: dict[str, bytes] = {}
        #: URL → body bytes after which the next answer breaks off; used up by that answer
        self.breaks: dict[str, int] = {}
        #: (URL, offset) of every question
        self.asked: list[tuple[str, int]] = []

    async def ask(
        self,
        request: Request,
        offset: int = 0,
        etag: str = "",
        last_modified: str = "",
        unchanged_will_do: bool = False,
    ) -> SourceReply:
        url = request.url
        self.asked.append((url, offset))
        if url not in self.contents:
            raise SourceRefused(f"there is nothing at {url}", permanent=True)
        data = self.contents[url]
        tag = f'"{zlib.crc32(data):08x}-{len(data)}"'
        length = len(data)
        if unchanged_will_do and etag == tag:
            return _MemoryReply(Head(kind="unchanged", length=length, etag=tag, ranges=True), b"", None)
        if 0 < offset <= length and etag in ("", tag):
            head = Head(kind="partial", offset=offset, length=length, etag=tag, ranges=True)
            return _MemoryReply(head, data[offset:], self.breaks.pop(url, None))
        return _MemoryReply(Head(kind="full", length=length, etag=tag, ranges=True), data, self.breaks.pop(url, None))

    async def close(self) -> None:
        pass


class _MemoryReply(SourceReply):
    def __init__(self, head: Head, data: bytes, breaks_after: int | None) -> None:
        super().__init__(head)
        self._data = data
        self._breaks_after = breaks_after

    async def body(self) -> AsyncIterator[bytes]:
        end = len(self._data) if self._breaks_after is None else self._breaks_after
        for at in range(0, end, BLOCK):
            yield self._data[at : min(end, at + BLOCK)]
        if self._breaks_after is not None:
            raise SourceError(f"broke off at byte {self.offset + end}")

    async def close(self) -> None:
        pass


async def read_all(reply: SourceReply) -> bytes:
    """The whole body; the reply is closed whatever comes of it."""
    try:
        return b"".join([block async for block in reply.body()])
    finally:
        await reply.close()
