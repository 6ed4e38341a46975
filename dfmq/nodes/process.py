"""One process: its loop, signals, home, journal and metrics, and the nodes that live in it together."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dfmq.edges import addresses, background, keepsakes, metrics
from dfmq.edges.bus import sockets
from dfmq.edges.bus.local import INPROC, local_endpoint
from dfmq.edges.journal import Journal
from dfmq.edges.store.lock import HomeLock, unusable
from dfmq.errors import InvariantViolated
from dfmq.model.settings import BrokerSettings, PeerSettings
from dfmq.nodes.peer import PeerNode

if TYPE_CHECKING:
    from dfmq.nodes.broker import BrokerNode

log = logging.getLogger(__name__)

Ready = Callable[[dict[str, Any]], None]

#: records of every lease and piece are written together, so late at most: at 0.05 a peer on a slow link woke as often
#: for them as for its chunks
RECORDS_SECONDS = 0.25
#: what a kill -9 may take of what was measured; a file of twenty bytes, written when something has changed
RATE_SECONDS = 60.0
#: Python's own are 700, 10, 10: for a node that makes some hundred objects a chunk and hardly a cycle
GARBAGE_THRESHOLDS = (20_000, 20, 20)


def run_peer(settings: PeerSettings, ready: Ready) -> int:
    """One peer, until a signal or its idle exit; with no broker configured, a broker of its own in the same process."""

    async def inhabit(house: _House) -> dict[str, Any]:
        alone = not settings.brokers
        # Alone it reads for its own user, who may read what it may; a broker's permits may be for anybody.
        source = settings.source if alone else msgspec.structs.replace(settings.source, files=())
        advertise = settings.advertise or addresses.own_address(settings.listen, settings.brokers)
        if alone:
            own = BrokerSettings(home=settings.home, store=settings.store, source=settings.source)
            house.add_broker(own, listens=False, advertise=advertise)
        local = local_endpoint(house.home)
        peer = house.add_peer(
            msgspec.structs.replace(settings, source=source),
            (INPROC,) if alone else settings.brokers,
            advertise=advertise,
            local=local,
            is_seed=alone,
        )
        if settings.idle_exit:
            house.exit_when_idle(peer, settings.idle_exit)
        return {"exchange": peer.exchange, "local": local, "alone": alone}

    return _run(settings.home, "peer", inhabit, ready)


def run_broker(settings: BrokerSettings, ready: Ready) -> int:
    """One broker and its embedded seed, until a signal."""

    async def inhabit(house: _House) -> dict[str, Any]:
        advertise = settings.advertise or addresses.own_address(settings.listen, ())
        broker = house.add_broker(settings, listens=True, advertise=advertise)
        listen_host = settings.listen.removeprefix("tcp://").rpartition(":")[0]
        seed = PeerSettings(
            home=settings.home,
            brokers=(INPROC,),
            listen=f"tcp://{listen_host}:0",
            advertise=advertise,
            up_limit=settings.seed_up_limit,
            slots=settings.seed_slots,
            zone=settings.zone,
            store=settings.store,
            source=msgspec.structs.replace(settings.source, files=settings.files),
        )
        peer = house.add_peer(seed, (INPROC,), advertise=advertise, local="", is_seed=True)
        api = await house.serve_api(settings.api, broker) if settings.api else ""
        house.prepare(peer)
        return {"control": broker.endpoint, "notices": broker.notices, "exchange": peer.exchange, "api": api}

    return _run(settings.home, "broker", inhabit, ready)


def _run(home: str, node: str, inhabit: Callable[[_House], Awaitable[dict[str, Any]]], ready: Ready) -> int:
    # Before there are other threads: they are scheduled as this one is.
    background.stand_back()
    lock = HomeLock(Path(home))
    lock.acquire()
    try:
        return asyncio.run(_live(Path(home), node, inhabit, ready))
    finally:
        lock.release()


async def _live(home: Path, node: str, inhabit: Callable[[_House], Awaitable[dict[str, Any]]], ready: Ready) -> int:
    loop = asyncio.get_running_loop()
    try:
        house = _House(home, node, loop)
    except OSError as error:
        raise unusable(home, error) from error
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, house.leave)
    try:
        try:
            said = await inhabit(house)
        except OSError as error:
            raise unusable(home, error) from error
        ready(said)
        # What is there now stays: going through it again and again for garbage is only work.
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        failure = await house.end
    finally:
        await house.close()
    if failure is not None:
        raise InvariantViolated(f"{type(failure).__name__}: {failure}") from failure
    return 0


class _House:
    """The nodes of one process and what they share. `end` is done when the process should go."""

    def __init__(self, home: Path, node: str, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.end: asyncio.Future[BaseException | None] = loop.create_future()
        self._loop = loop
        self._context = sockets.new_context()
        self._journal = Journal(home / "journal.jsonl", node)
        self._metrics = metrics.Metrics(node)
        self._peer: PeerNode | None = None
        self._broker: BrokerNode | None = None
        self._api: Any = None
        self._idle: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._keeping: asyncio.TimerHandle | None = None
        self._preparing: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """Go in order."""
        if not self.end.done():
            self.end.set_result(None)

    def failed(self, error: BaseException) -> None:
        """A bug: go, and say so."""
        if not self.end.done():
            self.end.set_result(error)

    def note(self, name: str, fields: dict[str, Any]) -> None:
        """A record of any of our machines."""
        self._journal.add(name, fields)
        self._metrics.see(name, fields)
        if self._writing is None:
            self._writing = self._loop.call_later(RECORDS_SECONDS, self._write_records)

    def _write_records(self) -> None:
        self._writing = None
        self._journal.flush()

    def add_broker(self, settings: BrokerSettings, *, listens: bool, advertise: str) -> BrokerNode:
        # A peer of somebody else's broker loads none: an eighth of its start.
        from dfmq.nodes.broker import BrokerNode

        self._broker = BrokerNode(
            settings,
            self._context,
            self._loop,
            listens=listens,
            advertise=advertise,
            note=self.note,
            failed=self.failed,
        )
        return self._broker

    def add_peer(
        self, settings: PeerSettings, brokers: tuple[str, ...], *, advertise: str, local: str, is_seed: bool
    ) -> PeerNode:
        self._peer = PeerNode(
            settings,
            keepsakes.host_id(self.home),
            self._context,
            self._loop,
            broker_endpoints=brokers,
            advertise=advertise,
            local=local,
            is_seed=is_seed,
            remembered=keepsakes.down_rate(self.home),
            note=self.note,
            failed=self.failed,
        )
        self._keeping = self._loop.call_later(RATE_SECONDS, self._keep_rate)
        return self._peer

    def _keep_rate(self) -> None:
        self._keeping = self._loop.call_later(RATE_SECONDS, self._keep_rate)
        if self._peer is not None:
            keepsakes.keep_down_rate(self.home, self._peer.machine.lasting_rate)

    async def serve_api(self, address: str, broker: BrokerNode) -> str:
        """The HTTP API; its library is only loaded here."""
        from dfmq.edges.api import HttpApi

        self._api = HttpApi(address, _Views(broker, self._metrics))
        return str(await self._api.start())

    def prepare(self, peer: PeerNode) -> None:
        """The first task shall not wait for what a source needs: it is loaded once the process is ready."""
        self._preparing = self._loop.create_task(peer.prepare_sources())

    def exit_when_idle(self, peer: PeerNode, seconds: float) -> None:
        """Look when the peer could have been idle for long enough, and go if it was."""
        now = self._loop.time()
        since = peer.machine.is_idle_since(now)
        if since is not None and now - since >= seconds:
            self.leave()
            return
        wait = seconds if since is None else since + seconds - now
        self._idle = self._loop.call_later(wait, self.exit_when_idle, peer, seconds)

    async def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._writing is not None:
            self._writing.cancel()
        if self._preparing is not None:
            await self._preparing
        if self._api is not None:
            await self._api.close()
        if self._keeping is not None:
            self._keeping.cancel()
        if self._peer is not None:
            keepsakes.keep_down_rate(self.home, self._peer.machine.lasting_rate)
            await self._peer.close()
        if self._broker is not None:
            self._broker.close()
        # And what a node had made that then could not be born: a socket left open would hold the process here for ever.
        self._context.destroy(linger=0)
        self._journal.close()


class _Views:
    """What the HTTP API may see."""

    def __init__(self, broker: BrokerNode, counted: metrics.Metrics) -> None:
        self._broker = broker
        self._metrics = counted

    def healthy(self) -> bool:
        return True

    def tasks(self) -> list[dict[str, Any]]:
        return self._broker.machine.tasks()

    def peers(self) -> list[dict[str, Any]]:
        return self._broker.machine.peers()

    def metrics(self) -> bytes:
        self._metrics.set_gauges(self._broker.machine.counts())
        return self._metrics.render()
