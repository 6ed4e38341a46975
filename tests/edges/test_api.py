"""The HTTP API shows what its views see, and says no in JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from dfmq.edges.api import HttpApi
from dfmq.errors import SettingsError


class _Views:
    is_healthy = True
    is_broken = False

    def healthy(self) -> bool:
        return self.is_healthy

    def tasks(self) -> list[dict[str, Any]]:
        return [{"task": b"\x01\xff", "peers": 2, "url": "http://hôst/x"}]

    def peers(self) -> list[dict[str, Any]]:
        if self.is_broken:
            raise ValueError("broken")
        return []

    def metrics(self) -> bytes:
        return b"dfmq_peers 2\n"


@pytest.fixture
async def views() -> _Views:
    return _Views()


@pytest.fixture
async def url(views: _Views) -> AsyncIterator[str]:
    api = HttpApi("127.0.0.1:0", views)
    yield "http://" + await api.start()
    await api.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_lists_are_json_with_ids_in_hex(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(url + "/v1/tasks") as answer:
        assert answer.content_type == "application/json"
        assert await answer.json() == [{"task": "01ff", "peers": 2, "url": "http://hôst/x"}]
    async with client.get(url + "/v1/peers") as answer:
        assert await answer.json() == []


async def test_a_node_that_is_not_well_says_503(url: str, views: _Views, client: aiohttp.ClientSession) -> None:
    async with client.get(url + "/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"healthy": True})
    views.is_healthy = False
    async with client.get(url + "/healthz") as answer:
        assert (answer.status, await answer.json()) == (503, {"healthy": False})


async def test_metrics_come_as_prometheus_text(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(url + "/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.read() == b"dfmq_peers 2\n"


async def test_other_paths_and_methods_are_refused_in_json(url: str, client: aiohttp.ClientSession) -> None:
    async with client.get(url + "/v1/secrets") as answer:
        assert (answer.status, (await answer.json())["status"]) == (404, 404)
    async with client.post(url + "/v1/tasks") as answer:
        assert (answer.status, (await answer.json())["status"]) == (405, 405)
        assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("octets", [b"\x16\x03\x01" + bytes(200), b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n"])
async def test_what_is_no_http_is_answered_and_leaves_no_story(
    url: str, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(octets)
    assert b" 400 " in await reader.read(64)
    writer.close()
    assert not caplog.records


async def test_a_view_that_breaks_is_a_500_with_its_story(
    url: str, views: _Views, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    views.is_broken = True
    async with client.get(url + "/v1/peers") as answer:
        assert (answer.status, (await answer.json())["status"]) == (500, 500)
    assert "/v1/peers could not be shown" in caplog.text and "Traceback" in caplog.text


async def test_an_address_in_use_is_a_settings_error(url: str, views: _Views) -> None:
    taken = url.removeprefix("http://")
    with pytest.raises(SettingsError, match=taken):
        await HttpApi(taken, views).start()


@pytest.mark.parametrize("address", ["", "7480", ":7480", "host:", "host:http", "host:65536", "host:-1"])
def test_an_address_that_is_none_is_a_settings_error(address: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        HttpApi(address, _Views())
