"""HTTP servers as they are: redirecting, refusing, stalling, breaking off, lying. Each failure in our words."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from support.sources import FaultySource, read_all

from dfmq.edges.source.sources import Sources
from dfmq.errors import NotAuthorised, SourceError, SourceRefused, SourceUnreachable
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request

CONTENT = os.urandom(1_000_003)
SETTINGS = SourceSettings(stall_seconds=0.2, connect_seconds=2.0, per_host=2)


@pytest.fixture
def server() -> Iterator[FaultySource]:
    with FaultySource() as server:
        yield server


@pytest.fixture
def secure() -> Iterator[FaultySource]:
    with FaultySource(tls=True) as server:
        yield server


@pytest.fixture
async def sources() -> AsyncIterator[Sources]:
    sources = Sources(SETTINGS)
    yield sources
    await sources.close()


async def _got(sources: Sources, url: str, **more: object) -> bytes:
    return await read_all(await sources.ask(msgspec.convert({"url": url, **more}, Request)))


async def _failure(sources: Sources, request: Request | str, offset: int = 0, etag: str = "") -> SourceError:
    """What asking and reading end in."""
    request = Request(url=request) if isinstance(request, str) else request
    with pytest.raises(SourceError) as caught:
        await read_all(await sources.ask(request, offset, etag))
    return caught.value


# ── what is asked ──


async def test_one_get_with_our_name_and_no_coding(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", CONTENT)
    assert await _got(sources, url + "?sig=a%2Fb%20c#part", headers=(("Accept", "text/x"),)) == CONTENT
    (seen,) = server.seen("/x")
    assert seen["accept-encoding"] == "identity"
    assert seen["user-agent"].startswith("dfmq/")
    assert seen["accept"] == "text/x"
    assert seen[":target"] == "/x?sig=a%2Fb%20c", "a signed query must arrive as it was written"
    assert "range" not in seen and "cookie" not in seen
    assert (server.requests("/x", "HEAD"), server.bytes_sent("/x")) == (0, len(CONTENT))


async def test_a_resume_is_bound_to_the_version(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", CONTENT, etag='"v1"')
    await read_all(await sources.ask(Request(url=url), 10, '"v1"', "yesterday"))
    await read_all(await sources.ask(Request(url=url), 10, 'W/"v1"', "yesterday"))
    await read_all(await sources.ask(Request(url=url), 10, "", "yesterday"))
    strong, weak, dated = server.seen("/x")[:3]
    assert (strong["range"], strong["if-range"]) == ("bytes=10-", '"v1"')
    assert not {"range", "if-range"} & weak.keys(), "neither a weak ETag vouches for bytes, nor a date in its place"
    assert (dated["range"], dated["if-range"]) == ("bytes=10-", "yesterday")


async def test_userinfo_becomes_basic_authorization(server: FaultySource, sources: Sources) -> None:
    wanted = "Basic " + base64.b64encode(b"me:p@ss").decode()
    url = server.put("/x", b"private", authorization=wanted)
    assert await _got(sources, url.replace("http://", "http://me:p%40ss@")) == b"private"
    assert server.seen("/x")[0]["host"] == f"127.0.0.1:{server.port}"
    failure = await _failure(sources, url.replace("http://", "http://me:wr0ng@") + "?key=s3cret")
    assert isinstance(failure, NotAuthorised)
    assert "wr0ng" not in str(failure) and "s3cret" not in str(failure)


async def test_requests_to_one_host_wait_for_a_place(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", CONTENT)
    held = [await sources.ask(Request(url=url)) for _ in range(SETTINGS.per_host)]
    third = asyncio.ensure_future(sources.ask(Request(url=url)))
    elsewhere = server.put("/y", b"another host has places of its own").replace("127.0.0.1", "localhost")
    assert await _got(sources, elsewhere)
    assert not third.done() and server.requests("/x") == 2
    await held[0].close()
    await (await third).close()
    await held[1].close()
    assert server.requests("/x") == 3


async def test_a_question_nobody_waits_for_gives_its_place_back(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", b"content")
    stalled = server.put("/stalled", CONTENT, redirect=server.put("/slow", CONTENT, stall_after=0))
    asking = [asyncio.ensure_future(_got(sources, stalled)) for _ in range(2 * SETTINGS.per_host)]
    await asyncio.to_thread(server.wait_for_requests, "/slow", SETTINGS.per_host)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert await _got(sources, url) == b"content"


# ── redirects ──


async def test_credentials_do_not_go_to_another_host(server: FaultySource, sources: Sources) -> None:
    server.put("/there", b"content")
    server.put("/same", redirect="/here")
    server.put("/here", redirect=server.url("/there", host="localhost"))
    secrets = (
        ("Authorization", "Bearer t"),
        ("Cookie", "c=1"),
        ("X-Api-Key", "k"),
        ("X-Auth-Token", "t"),
        ("X-Plain", "p"),
    )
    assert await _got(sources, server.url("/same"), headers=secrets) == b"content"
    assert server.seen("/here")[0]["authorization"] == "Bearer t", "it is the same host"
    there = server.seen("/there")[0]
    assert there["x-plain"] == "p"
    assert not {"authorization", "cookie", "x-api-key", "x-auth-token"} & there.keys()


async def test_a_circle_and_an_endless_chain_are_named(server: FaultySource, sources: Sources) -> None:
    server.put("/a", redirect="/b")
    server.put("/b", redirect="/a")
    circle = await _failure(sources, server.url("/a"))
    assert circle.permanent and "circle" in str(circle)
    for i in range(20):
        server.put(f"/{i}", redirect=f"/{i + 1}")
    endless = await _failure(sources, server.url("/0"))
    assert endless.permanent and "more than 10" in str(endless)
    assert server.requests("/10") == 1 and server.requests("/11") == 0


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/x", "http://host:x/", "http://[/x"])
async def test_a_redirect_leads_to_http_or_nowhere(server: FaultySource, sources: Sources, location: str) -> None:
    failure = await _failure(sources, server.put("/x", redirect=location))
    assert failure.permanent and "no http or https URL" in str(failure)


async def test_https_is_not_given_up_for_http(server: FaultySource, secure: FaultySource, sources: Sources) -> None:
    url = secure.put("/x", redirect=server.put("/plain", b"content"))
    failure = await _failure(sources, Request(url=url, cacert=secure.cacert))
    assert failure.permanent and server.requests("/plain") == 0


# ── refusals ──


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, SourceRefused),
        (401, NotAuthorised),
        (403, NotAuthorised),
        (404, SourceRefused),
        (407, NotAuthorised),
        (410, SourceRefused),
        (204, SourceError),
        (304, SourceError),
        (399, SourceError),
    ],
)
async def test_no_means_no(server: FaultySource, sources: Sources, status: int, kind: type[SourceError]) -> None:
    failure = await _failure(sources, server.put("/x", status=status))
    assert type(failure) is kind and failure.permanent
    assert server.url("/x") in str(failure) and str(status) in str(failure)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_later_means_later(server: FaultySource, sources: Sources, status: int) -> None:
    url = server.put("/x", b"content", status=status, headers={"Retry-After": "7"}, times=1)
    failure = await _failure(sources, url)
    assert type(failure) is SourceError
    assert (failure.permanent, failure.retry_after) == (False, 7.0)
    assert await _got(sources, url) == b"content"


# ── broken bodies ──


async def test_a_stall_says_where_and_how_long_and_a_resume_gets_the_rest(
    server: FaultySource, sources: Sources
) -> None:
    url = server.put("/x", CONTENT, stall_after=400_000, times=1)
    reply = await sources.ask(Request(url=url))
    got = b""
    with pytest.raises(SourceError, match=r"nothing for 0.2 s at byte 400000 of 1000003") as caught:
        async for block in reply.body():
            got += block
    await reply.close()
    assert not caught.value.permanent
    rest = await sources.ask(Request(url=url), len(got), reply.etag, reply.last_modified)
    assert rest.kind == "partial"
    assert got + await read_all(rest) == CONTENT
    assert server.bytes_sent("/x") == len(CONTENT), "no byte twice"


async def test_a_server_that_never_answers_is_a_stall(sources: Sources) -> None:
    async def listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen_only, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        failure = await _failure(sources, f"http://127.0.0.1:{port}/x")
    assert not failure.permanent and "said nothing for 0.2 s" in str(failure)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_breaks_off_is_never_taken_for_whole(
    server: FaultySource, sources: Sources, chunked: bool
) -> None:
    failure = await _failure(sources, server.put("/x", CONTENT, close_after=300_000, chunked=chunked))
    assert type(failure) is SourceError and not failure.permanent
    assert "broke off at byte" in str(failure)


async def test_what_came_ahead_of_the_break_is_given_however_late_it_is_read(
    server: FaultySource, sources: Sources
) -> None:
    reply = await sources.ask(Request(url=server.put("/x", CONTENT, close_after=60_000)))
    with contextlib.suppress(asyncio.TimeoutError):
        # Nobody reads until the break is long known.
        await asyncio.wait_for(asyncio.Event().wait(), 0.2)
    got = b""
    with pytest.raises(SourceError, match="broke off at byte 60000 "):
        async for block in reply.body():
            got += block
    await reply.close()
    assert got == CONTENT[:60_000]


async def test_a_range_shorter_than_asked_is_no_end(server: FaultySource, sources: Sources) -> None:
    total = len(CONTENT)
    headers = {"Content-Range": f"bytes 5-9/{total}", "Content-Length": "5"}
    server.put("/x", CONTENT, headers=headers, close_after=5)
    failure = await _failure(sources, server.url("/x"), 5)
    assert not failure.permanent and f"at byte 10 of {total}" in str(failure)


@pytest.mark.parametrize("said", ["", "bytes 1001-1000002/1000003", "bytes 1000-1000003/1000003", "octets from 1000"])
async def test_a_part_that_is_not_the_one_asked_for_is_no_part(
    server: FaultySource, sources: Sources, said: str
) -> None:
    url = server.put("/x", CONTENT, headers={"Content-Range": said})
    reply = await sources.ask(Request(url=url), 1000)
    assert (reply.kind, reply.offset) == ("full", 0)
    assert await read_all(reply) == CONTENT
    assert ["range" in seen for seen in server.seen("/x")] == [True, False]


async def test_a_server_without_ranges_sends_everything(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", CONTENT, ranges=False, etag="", last_modified="")
    reply = await sources.ask(Request(url=url), 1000)
    assert (reply.kind, reply.offset, reply.ranges, reply.etag) == ("full", 0, False, "")
    assert await read_all(reply) == CONTENT


async def test_a_part_of_another_version_is_not_mixed_in(server: FaultySource, sources: Sources) -> None:
    # This server ignores If-Range: it compares with a validator that it then does not send.
    url = server.put("/x", CONTENT, etag='"old"', headers={"ETag": '"new"'})
    reply = await sources.ask(Request(url=url), 1000, '"old"')
    assert (reply.kind, reply.etag) == ("full", '"new"')
    assert await read_all(reply) == CONTENT
    assert server.requests("/x") == 2


async def test_an_unknown_length_is_read_to_its_end(server: FaultySource, sources: Sources) -> None:
    reply = await sources.ask(Request(url=server.put("/x", CONTENT, chunked=True)))
    assert (reply.kind, reply.length) == ("full", None)
    assert await read_all(reply) == CONTENT


# ── coded bodies ──


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_coding_nobody_asked_for_is_undone(server: FaultySource, encoding: str) -> None:
    zeros = bytes(20_000_000)  # a thousandth when coded: what comes at once must stay bounded
    url = server.put("/x", zeros, encoding=encoding, etag='"v1"')
    # To code that much takes the server a while.
    patient = Sources(msgspec.structs.replace(SETTINGS, stall_seconds=20.0))
    reply = await patient.ask(Request(url=url), 1000, 'W/"v1"')
    assert (reply.kind, reply.length, reply.ranges, reply.etag) == ("full", None, False, 'W/"v1"')
    blocks = [block async for block in reply.body()]
    await reply.close()
    await patient.close()
    assert b"".join(blocks) == zeros
    assert max(map(len, blocks)) <= 1 << 20


async def test_a_coded_body_that_breaks_off_is_named(server: FaultySource, sources: Sources) -> None:
    failure = await _failure(sources, server.put("/x", CONTENT, encoding="gzip", close_after=500_000))
    assert not failure.permanent
    failure = await _failure(sources, server.put("/x", CONTENT, headers={"Content-Encoding": "gzip"}))
    assert "it is not" in str(failure)


async def test_a_gz_file_stays_one(server: FaultySource, sources: Sources) -> None:
    url = server.put("/logs.tar.gz", CONTENT, headers={"Content-Encoding": "gzip"})
    reply = await sources.ask(Request(url=url))
    assert (reply.length, reply.ranges) == (len(CONTENT), True)
    assert await read_all(reply) == CONTENT


async def test_a_coding_we_cannot_read_is_refused(server: FaultySource, sources: Sources) -> None:
    failure = await _failure(sources, server.put("/x", CONTENT, encoding="br"))
    assert failure.permanent and "'br'" in str(failure)


# ── connections and trust ──


async def test_nobody_there_is_unreachable_with_host_and_port(server: FaultySource, sources: Sources) -> None:
    closed = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    failure = await _failure(sources, f"http://127.0.0.1:{port}/x?key=s3cret")
    assert isinstance(failure, SourceUnreachable) and not failure.permanent
    assert f"127.0.0.1:{port}" in str(failure) and "s3cret" not in str(failure)
    unknown = await _failure(sources, "http://no-such-host.invalid/x")
    assert isinstance(unknown, SourceUnreachable) and "no-such-host.invalid" in str(unknown)


async def test_a_server_that_speaks_no_http_is_named(sources: Sources) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-dropbear\r\n\r\n")
        writer.close()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for manners, words in ((babble, "readable HTTP"), (hang_up, "closed the connection")):
        async with await asyncio.start_server(manners, "127.0.0.1", 0) as strange:
            port = strange.sockets[0].getsockname()[1]
            assert words in str(await _failure(sources, f"http://127.0.0.1:{port}/x"))


async def test_an_unknown_authority_is_not_trusted_unless_told(secure: FaultySource, sources: Sources) -> None:
    url = secure.put("/x", CONTENT)
    assert await _got(sources, url, insecure=True) == CONTENT
    assert await _got(sources, url, cacert=secure.cacert) == CONTENT
    failure = await _failure(sources, url)
    assert failure.permanent and "--cacert" in str(failure), "another task's trust must not be used"
    with FaultySource(tls=True) as other:
        assert (await _failure(sources, Request(url=url, cacert=other.cacert))).permanent
    failure = await _failure(sources, Request(url=url, cacert="no PEM"))
    assert failure.permanent and "--cacert" in str(failure)


async def test_https_to_a_plain_port_is_named(server: FaultySource, sources: Sources) -> None:
    failure = await _failure(sources, server.url("/x").replace("http:", "https:"))
    assert failure.permanent and "no TLS" in str(failure)


async def test_a_connection_is_used_again(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", CONTENT)
    for _ in range(3):
        await _got(sources, url)
    assert (server.requests("/x"), server.connections) == (3, 1)


async def test_sessions_for_private_trust_are_bounded(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmq.edges.source.connections.MOST_SESSIONS", 3)
    with contextlib.ExitStack() as servers:
        reading = []
        for _ in range(6):
            server = servers.enter_context(FaultySource(tls=True))
            request = Request(url=server.put("/x", CONTENT), cacert=server.cacert)
            reading.append(await sources.ask(request))
        # Six are read from, so six are kept; what is in use is never closed.
        assert [hashlib.md5(await read_all(reply)).digest() for reply in reading] == [hashlib.md5(CONTENT).digest()] * 6
        assert await _got(sources, request.url, cacert=request.cacert) == CONTENT
        http = sources._http
        assert http is not None and len(http._sessions._kept) == 3


async def test_the_proxy_of_the_environment_is_used(
    server: FaultySource, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("/x", b"through the proxy")
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{server.port}")
    assert await _got(sources, "http://content.invalid/x") == b"through the proxy"
    seen = server.seen("/x")[0]
    assert seen[":target"] == "http://content.invalid/x"
    assert seen["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    await _got(sources, server.url("/x"))
    assert (server.seen("/x")[1][":target"], "proxy-authorization" in server.seen("/x")[1]) == ("/x", False)


async def test_a_proxy_of_another_kind_is_refused(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
    assert "no http proxy" in str(await _failure(sources, "http://content.invalid/x"))


async def test_https_goes_through_a_tunnel_of_the_proxy(
    secure: FaultySource, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        inner, outer = await asyncio.open_connection("127.0.0.1", secure.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_pipe(reader, outer), _pipe(inner, writer))

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
        request = Request(url=secure.put("/x", CONTENT), cacert=secure.cacert, headers=(("Authorization", "for x"),))
        assert await read_all(await sources.ask(request)) == CONTENT
        await sources.close()
    assert "proxy-authorization: basic" in heads[0] and "for x" not in heads[0]
    assert "proxy-authorization" not in secure.seen("/x")[0]


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()


async def test_closing_breaks_what_is_being_read(server: FaultySource, sources: Sources) -> None:
    reply = await sources.ask(Request(url=server.put("/x", CONTENT, stall_after=10_000)))
    reading = asyncio.ensure_future(read_all(reply))
    await asyncio.sleep(0)
    await sources.close()
    with pytest.raises(SourceError):
        await reading
