"""The HTTP API for people and monitors: health, metrics, tasks, peers; read only. What they show comes from views."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from aiohttp import web

from dfmq.errors import SettingsError

log = logging.getLogger(__name__)

#: The format prometheus_client writes.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: How long a request may hold up the end of the process, seconds.
_SHUTDOWN_SECONDS = 1.0


class Views(Protocol):
    """What there is to see. Called in the node's own loop: they look and do not wait."""

    def healthy(self) -> bool:
        """The node does its work."""
        ...

    def tasks(self) -> Sequence[dict[str, Any]]:
        """One plain dictionary a task; ids may be bytes."""
        ...

    def peers(self) -> Sequence[dict[str, Any]]:
        """One plain dictionary a peer; ids may be bytes."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text."""
        ...


class HttpApi:
    """Serves views at HOST:PORT. It has no authentication: listen where only those who may see it can reach it."""

    def __init__(self, address: str, views: Views) -> None:
        self._host, self._port = _split(address)
        self._views = views
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; answers with the address in fact, HOST:PORT (a port 0 is replaced). Raises SettingsError."""
        app = web.Application(middlewares=[_errors_as_json])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/tasks", self._tasks)
        app.router.add_get("/v1/peers", self._peers)
        # What is no HTTP is answered with 400 and is nobody's fault here: aiohttp would log where it stopped reading.
        silent = logging.getLogger(f"{__name__}.requests")
        silent.disabled = True
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS, logger=silent
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            where = _joined(self._host, self._port)
            raise SettingsError(f"--api {where}: cannot listen there ({error.strerror}); choose another") from error
        self._runner = runner
        host, port = runner.addresses[0][:2]
        return _joined(str(host), int(port))

    async def close(self) -> None:
        """Stop listening; requests under way get a second."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        healthy = self._views.healthy()
        return _answer({"healthy": healthy}, 200 if healthy else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._views.metrics(), headers={"Content-Type": _METRICS_TYPE})

    async def _tasks(self, _: web.Request) -> web.Response:
        return _answer(self._views.tasks())

    async def _peers(self, _: web.Request) -> web.Response:
        return _answer(self._views.peers())


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _answer({"error": error.reason, "status": error.status}, error.status, allowed)
    except Exception:
        # A bug of ours; nothing else that may go wrong is silenced with what strangers send.
        log.exception("%s could not be shown", request.path)
        return _answer({"error": "Internal Server Error", "status": 500}, 500)


def _answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    text = json.dumps(content, default=_plain, ensure_ascii=False)
    return web.Response(text=text + "\n", status=status, headers=headers, content_type="application/json")


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"a view shows a {type(value).__name__}, which is not plain")


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingsError(f"--api {address}: write it as HOST:PORT, as in 127.0.0.1:7480")
    return host, int(port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
