"""What HTTP servers send that is no text: the content is got all the same, and nobody stumbles over it later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from support.sources import FaultySource, read_all

from dfmq.edges.source.sources import Sources
from dfmq.errors import SourceError
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def server() -> Iterator[FaultySource]:
    with FaultySource() as server:
        yield server


@pytest.fixture
async def sources() -> AsyncIterator[Sources]:
    sources = Sources(SourceSettings())
    yield sources
    await sources.close()


async def test_a_validator_that_is_no_text_is_as_good_as_none(server: FaultySource, sources: Sources) -> None:
    url = server.put("/x", CONTENT, etag='"caf\xe9"', last_modified="g\xe9stern")
    reply = await sources.ask(Request(url=url))
    assert (reply.etag, reply.last_modified) == ("", "")
    assert await read_all(reply) == CONTENT


async def test_a_validator_in_utf_8_goes_back_as_it_came(server: FaultySource, sources: Sources) -> None:
    etag = '"café"'.encode().decode("latin-1")
    url = server.put("/x", CONTENT, etag=etag)
    reply = await sources.ask(Request(url=url))
    assert reply.etag == '"café"'
    await reply.close()
    assert (await sources.ask(Request(url=url), 0, reply.etag, "", True)).kind == "unchanged"
    assert server.seen("/x")[1]["if-none-match"] == etag


async def test_a_part_under_a_name_that_is_no_text_is_another_versions(server: FaultySource, sources: Sources) -> None:
    # This server ignores If-Range: it compares with a validator that it then does not send.
    url = server.put("/x", CONTENT, etag='"old"', headers={"ETag": '"\xff"'})
    reply = await sources.ask(Request(url=url), 1000, '"old"')
    assert (reply.kind, reply.etag) == ("full", "")
    assert await read_all(reply) == CONTENT


@pytest.mark.parametrize("octets", ["\xe9", "\xc3\xa9\xe9"])
async def test_a_redirect_with_stray_octets_leads_where_they_are_quoted(
    server: FaultySource, sources: Sources, octets: str
) -> None:
    quoted = "/caf" + "".join(f"%{ord(octet):02X}" for octet in octets)
    server.put(quoted, CONTENT)
    reply = await sources.ask(Request(url=server.put("/x", redirect=f"/caf{octets}")))
    assert await read_all(reply) == CONTENT
    assert server.requests(quoted) == 1


@pytest.mark.parametrize("location", ["/no\xe9", "/x?\xe9", "ftp://caf\xe9/", "http://caf\xe9.invalid/"])
async def test_a_failure_behind_a_redirect_with_stray_octets_can_be_told(
    server: FaultySource, sources: Sources, location: str
) -> None:
    with pytest.raises(SourceError) as caught:
        await sources.ask(Request(url=server.put("/x", redirect=location)))
    assert str(caught.value).encode()
