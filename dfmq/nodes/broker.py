"""The broker node: a BrokerMachine with its control ROUTER and notices PUB. Its embedded seed is a peer node."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from dfmq.edges.bus import sockets
from dfmq.edges.bus.local import INPROC
from dfmq.edges.bus.loop import Drain
from dfmq.edges.census import Census
from dfmq.errors import ProtocolError
from dfmq.machines.broker.machine import BrokerMachine
from dfmq.machines.effects import Publish, Record, Send
from dfmq.machines.events import CaughtUp, FellBehind, PeerSaid, PeerUnreachable
from dfmq.model.ids import PEER_ID_BYTES, PeerId
from dfmq.model.settings import BrokerSettings
from dfmq.nodes.driver import Driver
from dfmq.nodes.mail import Mail
from dfmq.wire import codec, envelope
from dfmq.wire.messages import Error, Message

log = logging.getLogger(__name__)


class BrokerNode:
    """Owns the control ROUTER and the notices PUB."""

    def __init__(
        self,
        settings: BrokerSettings,
        context: zmq.Context[zmq.Socket[bytes]],
        loop: asyncio.AbstractEventLoop,
        *,
        listens: bool,
        advertise: str,
        note: Callable[[str, dict[str, Any]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`listens` False: only the peer of this very process can reach it (no broker is configured)."""
        router = sockets.router(context)
        self._publisher = sockets.publisher(context)
        self.endpoint = self.notices = ""
        try:
            if listens:
                self.endpoint = sockets.bind(router, settings.listen)
                self.notices = sockets.bind(self._publisher, settings.publish)
            sockets.bind(router, INPROC)
        except Exception:
            router.close()
            self._publisher.close()
            raise
        reachable = self.notices.replace("//0.0.0.0:", f"//{advertise}:").replace("//[::]:", f"//{advertise}:")
        self._census = Census(Path(settings.home)) if listens else None
        self.machine = BrokerMachine(
            settings,
            secrets.randbits(62) + 1,
            random.Random(secrets.randbits(64)),
            reachable,
            self._census.hosts if self._census is not None else 0,
        )
        self._note = note
        self._loop = loop
        self._beat_seconds = settings.beat_seconds
        #: more has come in than was read
        self._is_flooded = False
        #: it stood still, and will soon have heard what was said meanwhile
        self._waking: asyncio.TimerHandle | None = None
        self._outgoing = Mail[PeerId]()
        hands: dict[type, Callable[[Any], None]] = {Send: self._send, Publish: self._publish, Record: self._record}
        self._driver = Driver(self.machine, loop, hands, self._flush, failed, self._stood_still)
        self._drain = Drain(loop, router, self._take, turn=self._driver, lag=self)
        self._reaping = loop.call_soon(self._reap_subscribers)

    def fell_behind(self, since: float) -> None:
        """More has come in than was read in a row."""
        self._is_flooded = True
        if self._waking is None:
            self._driver.feed(FellBehind(since))

    def caught_up(self) -> None:
        """All of it is read."""
        self._is_flooded = False
        if self._waking is None:
            self._driver.feed(CaughtUp())

    def _stood_still(self, since: float) -> None:
        """Nothing was read since then, and what peers said meanwhile has yet to come out of the sockets: nobody is
        judged by his silence before each had the time to beat once more."""
        if self._waking is not None:
            self._waking.cancel()
        elif not self._is_flooded:
            self._driver.feed(FellBehind(since))
        self._note("broker.stood_still", {"seconds": round(self._loop.time() - since, 3)})
        self._waking = self._loop.call_later(self._beat_seconds, self._awake)

    def _awake(self) -> None:
        self._waking = None
        if not self._is_flooded:
            self._driver.feed(CaughtUp())

    def _take(self, frames: list[bytes]) -> None:
        peer = PeerId(frames[0])
        if len(peer) != PEER_ID_BYTES:
            return
        try:
            bodies = envelope.unwrap(frames[1:])
        except envelope.Stranger:
            self._note("message.refused", {"code": "stranger"})
            return
        except ProtocolError as error:
            self._refuse(peer, error)
            return
        for body in bodies:
            try:
                message: Message = codec.broker_hears.decode(body)
            except ProtocolError as error:
                self._refuse(peer, error)
                continue
            self._driver.feed(PeerSaid(peer, message))

    def _refuse(self, peer: PeerId, error: ProtocolError) -> None:
        self._note("message.refused", {"peer": peer, "code": error.reason})
        self._outgoing.put(peer, Error(code=error.reason, text=str(error)[:200]))
        self._flush()

    def _send(self, effect: Send) -> None:
        self._outgoing.put(effect.peer, effect.message)

    def _publish(self, effect: Publish) -> None:
        self._publisher.send_multipart([effect.topic, *envelope.wrap([codec.encode(effect.message)])], zmq.NOBLOCK)

    def _reap_subscribers(self) -> None:
        """Subscribers that came or left are looked at when something is published, which may be never, or else here."""
        self._publisher.get(zmq.EVENTS)
        self._reaping = self._loop.call_later(self._beat_seconds, self._reap_subscribers)

    def _record(self, effect: Record) -> None:
        self._note(effect.name, effect.fields)

    def _flush(self) -> None:
        if not self._outgoing:
            return
        for peer, messages in self._outgoing.take():
            try:
                for frames in messages:
                    sockets.send(self._drain.socket, peer, *frames)
            except zmq.ZMQError as error:
                # EHOSTUNREACH: no such connection. EAGAIN: it does not read what we say. Either way it is gone.
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                self._driver.feed(PeerUnreachable(peer))
        self._drain.look()
        if self._census is not None:
            self._census.note(self.machine.most_hosts)

    def close(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
        self._reaping.cancel()
        self._driver.stop()
        self._drain.close()
        self._publisher.close()
