"""A host of the simulated world: what outlives its peer's process. The process itself is in sim/peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfmq.machines.events import ClientSaid
from dfmq.model.ids import HostId
from dfmq.model.task import Request, task_id
from dfmq.sim.peer import PeerProcess
from dfmq.sim.shelf import Shelf
from dfmq.sim.truth import flaw
from dfmq.wire.messages import Done, Get, Receipt, Release, Sorry

if TYPE_CHECKING:
    from dfmq.sim.network import Card
    from dfmq.sim.world import World

#: A host's first port; every life that does not come back at the same ports takes ten more.
FIRST_PORT = 7000
#: A host that lost its power closes no connection: that long after, heartbeats have shown that it is gone; seconds.
VANISHED_SECONDS = 15.0


class Errand:
    """A client that wants one content on one host, and asks again when the peer's process dies under it."""

    def __init__(self, number: int, request: Request, starts_at: float) -> None:
        self.number = number
        self.client = b"client-%d" % number
        self.request = request
        self.starts_at = starts_at
        self.done_at: float | None = None
        #: done, refused for good, or its host is gone
        self.is_over = False
        self.receipt = Receipt()
        #: refusals so far, the last one's code and text
        self.refusals = 0
        self.sorry: Sorry | None = None


class SimHost:
    """A host: card, disk, clients; at most one peer's process at a time."""

    def __init__(self, world: World, number: int, name: str, card: Card, *, is_seed: bool = False) -> None:
        self.world = world
        self.number = number
        self.name = name
        self.id = HostId(world.rng.randbytes(16))
        self.card = card
        self.zone = card.zone
        self.is_seed = is_seed
        self.shelf = Shelf()
        #: what its node kept of the night before
        self.remembered = world.remembered.get(name, 0)
        self.errands: list[Errand] = []
        self.process: PeerProcess | None = None
        self.lies = False
        #: no chunk reaches it: a firewall, or it advertises a wrong address
        self.is_unreached = False
        #: it will not come back: nobody waits for it
        self.is_gone = False
        self._port = FIRST_PORT

    def boot(self, *, same_ports: bool = False) -> None:
        """Start a peer's process; its clients ask (again) for what is not done."""
        if not same_ports:
            self._port += 10
        process = self.process = PeerProcess(self.world, self, is_seed=self.is_seed, port=self._port)
        process.lies = self.lies
        self.world.enrol(process)
        process.start()
        for errand in self.errands:
            if errand.done_at is None and errand.starts_at <= self.world.agenda.now:
                self.ask(errand)

    def crash(self, *, silently: bool = False) -> None:
        """Kill the process. `silently`: no connection is closed, so nobody knows for a while."""
        process = self.process
        if process is None:
            return
        process.kill()
        self.process = None
        if silently:
            self.world.agenda.after(VANISHED_SECONDS, self.world.dismiss, process)
        else:
            self.world.dismiss(process)

    def come_back(self, same_ports: bool) -> None:
        """The host starts again after a crash."""
        if self.process is None:
            self.boot(same_ports=same_ports)

    def leave(self) -> None:
        """The host will not come back: its clients wait for nothing any more."""
        self.is_gone = True
        for errand in self.errands:
            self._end(errand)

    def _end(self, errand: Errand) -> None:
        if not errand.is_over:
            errand.is_over = True
            self.world.errand_over()

    def run_errand(self, errand: Errand) -> None:
        """A client begins."""
        self.errands.append(errand)
        self.world.agenda.at(errand.starts_at, self.ask, errand)

    def ask(self, errand: Errand) -> None:
        """The client says Get to the host's peer, if there is one."""
        if self.process is not None and errand.done_at is None:
            self.process.hear(ClientSaid(errand.client, Get(get=errand.number, request=errand.request)))

    def hear_as_client(self, process: PeerProcess, client: bytes, message: Any) -> None:
        """A client of this host is told something."""
        if process is not self.process:
            return
        errand = next(errand for errand in self.errands if errand.client == client)
        if isinstance(message, Done):
            self._done(process, errand, message)
        elif isinstance(message, Sorry):
            errand.refusals += 1
            errand.sorry = message
            if errand.refusals <= self.world.plan.tries:
                self.world.agenda.after(max(1.0, message.retry_after), self.ask, errand)
            else:
                self._end(errand)

    def _done(self, process: PeerProcess, errand: Errand, done: Done) -> None:
        world = self.world
        if errand.done_at is not None:
            raise world.failure(f"{self.name}: {errand.client!r} is told Done twice")
        file = world.source.files[errand.request.url]
        stored = self.shelf.tasks.get(task_id(errand.request))
        if stored is None:
            raise world.failure(f"{self.name}: Done, and nothing is stored")
        wrong = flaw(stored.in_order(), file.url, file.length)
        if wrong or done.length != file.length:
            raise world.failure(f"{self.name}: Done with {done.length} bytes, but the content is wrong: {wrong}")
        receipt = done.receipt
        total = receipt.from_source + receipt.from_seed + receipt.from_peers + receipt.from_store
        if total != file.length:
            raise world.failure(f"{self.name}: the receipt {receipt} does not add up to {file.length}")
        errand.done_at = world.agenda.now
        errand.receipt = receipt
        process.hear(ClientSaid(errand.client, Release(get=errand.number)))
        self._end(errand)

    def told(self) -> str:
        """Why this host is not done, as far as can be seen from outside its machine."""
        lines = [f"  {self.name}: {'no process' if self.process is None else 'alive'}"]
        for errand in self.errands:
            stored = self.shelf.tasks.get(task_id(errand.request))
            lines.append(
                f"    errand {errand.number} since {errand.starts_at:.4f}, {errand.refusals} refusals {errand.sorry}"
            )
            if stored is not None:
                held, partial, _ = stored.books()
                count = stored.content.cut.count
                missing = [piece for piece in range(count) if not held >> piece & 1]
                lines.append(f"    holds {held.bit_count()} of {count}, misses {missing[:20]}, partly {partial}")
        if self.process is not None:
            process = self.process
            lines.append(
                f"    frozen {process.is_frozen} connected {process.is_connected} next deadline "
                f"{process.machine.next_deadline()} uplink waits {self.world.network.waiting(self.card)}"
            )
            lines.append(process.told())
        return "\n".join(lines)
