"""A world of the production machines on a virtual clock: one broker with its seed, many peers, one source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from random import Random
from types import MappingProxyType

from dfmq.model.ids import PeerId, TaskId
from dfmq.model.settings import BrokerSettings
from dfmq.model.task import Request
from dfmq.sim import faults
from dfmq.sim.agenda import Agenda
from dfmq.sim.broker import BrokerProcess
from dfmq.sim.host import Errand, SimHost
from dfmq.sim.network import Card, Network, Pipe
from dfmq.sim.peer import PeerProcess
from dfmq.sim.plan import Plan
from dfmq.sim.source import Source, SourceFile
from dfmq.sim.truth import content_hex
from dfmq.wire import topics

#: A source's answer takes a WAN's round trip.
SOURCE_LATENCY = 0.02


class WorldFailed(AssertionError):
    """Somebody got wrong content, somebody got none in time, or a machine's books do not balance."""


class World:
    """Everything there is, and who is reached where.

    Law: `exchanges`, `inboxes` and `_peers` name living processes, and for a while those that vanished silently.
    """

    def __init__(
        self,
        plan: Plan,
        traced: frozenset[str] = frozenset(),
        remembered: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`traced`: names of processes whose events and effects are printed; `remembered`: of an earlier night, as
        `measured` gives it."""
        self.plan = plan
        self.traced = traced
        self.remembered = remembered
        self.rng = Random(plan.seed)
        self.agenda = Agenda()
        self.network = Network(self.agenda, self.rng, jitter=plan.jitter, uplink_queue=plan.uplink_queue)
        self.source = Source(self.agenda, rate=plan.source_rate, latency=SOURCE_LATENCY, stall_seconds=10.0)
        self.check_every = plan.check
        #: what is counted for the report
        self.counts: Counter[str] = Counter()
        self.machine_turns = 0
        self.broker_heard = 0
        self.broker_said = 0
        self.chunks = 0
        self.seed_bytes = 0
        # who is where
        self.broker: BrokerProcess | None = None
        self.exchanges: dict[str, PeerProcess] = {}
        self.inboxes: dict[str, PeerProcess] = {}
        self._peers: dict[PeerId, PeerProcess] = {}
        #: hints endpoint → who speaks there
        self._speakers: dict[str, PeerProcess] = {}
        #: (hints endpoint, topic) → who listens; process → what it listens to
        self._ears: dict[tuple[str, bytes], dict[PeerProcess, None]] = {}
        self._heard: dict[tuple[PeerProcess, TaskId], list[str]] = {}
        self._epoch = 0
        self._open_errands = 0
        self.errands: list[Errand] = []
        self._furnish()

    # ── setting up ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def seed_slots(self) -> int:
        """The seed's leases at once: its bandwidth over a peer's, times three (model/settings)."""
        plan = self.plan
        return plan.seed_slots or max(4, min(65535, round(3 * plan.seed_rate / plan.rate)))

    def _furnish(self) -> None:
        plan = self.plan
        for number in range(plan.files):
            file = SourceFile(f"https://source.example/file-{number}", plan.size)
            file.tells_length, file.takes_ranges = plan.tells_length, plan.takes_ranges
            file.has_validators = plan.has_validators
            file.refusals = [("source_failed", False, 1.0)] * plan.refusals
            self.source.files[file.url] = file
        zones = [f"zone-{number}" for number in range(plan.zones)] if plan.zones > 1 else [""]
        at_home = "zone-seed" if plan.seed_apart else zones[0]
        if plan.zone_rate:
            for pair in combinations(sorted({*zones, at_home}), 2):
                self.network.pipes[pair] = Pipe(self.agenda, float(plan.zone_rate))
        half = plan.latency / 2
        self.seed = SimHost(self, 0, "seed", Card("seed", plan.seed_rate, plan.seed_rate, half, at_home), is_seed=True)
        self.hosts = [self._host(number, half, zones[number % plan.zones]) for number in range(1, plan.peers + 1)]
        for host in self.rng.sample(self.hosts, min(plan.liars, len(self.hosts))):
            host.lies = True
        for host in self.rng.sample(self.hosts, min(plan.unreached, len(self.hosts))):
            host.is_unreached = True
        self.start_broker()
        for host in self.hosts:
            self._settle(host)
        faults.enter(self)

    def _host(self, number: int, half: float, zone: str) -> SimHost:
        plan = self.plan
        slow = (number * plan.slow) % 1.0 + plan.slow >= 1.0 if plan.slow else False
        rate = plan.slow_rate if slow else plan.rate
        return SimHost(self, number, f"host-{number}", Card(f"host-{number}", rate, rate, half, zone))

    def _settle(self, host: SimHost) -> None:
        plan = self.plan
        at = self.rng.uniform(0.0, plan.spread) if plan.spread and not host.is_unreached else 0.0
        if plan.late and not host.is_unreached and self.rng.random() < plan.late:
            at += plan.unit * self.rng.uniform(0.5, 2.0)
        self.agenda.at(at, host.boot)
        url = f"https://source.example/file-{host.number % plan.files}"
        digest = "sha256:" + content_hex(url, 1, plan.size) if plan.digest else ""
        errand = Errand(host.number, Request(url=url, digest=digest), at)
        self.errands.append(errand)
        errand.is_over = host.is_unreached
        self._open_errands += not errand.is_over
        host.run_errand(errand)

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Until every errand is over. Raises WorldFailed when they are not within the plan's limit."""
        self.agenda.run(self.plan.limit_seconds)
        if self._open_errands:
            raise self.failure(f"{self._open_errands} of {len(self.errands)} errands are not over")
        if self.check_every:
            for process in self.processes():
                process.check()
            if self.broker is not None:
                self.broker.check()

    def processes(self) -> list[PeerProcess]:
        """Every living peer, the seed first."""
        return [host.process for host in (self.seed, *self.hosts) if host.process is not None]

    def measured(self) -> dict[str, int]:
        """What the hosts keep of this night: name → bytes per second received, of those whose peer lives."""
        return {host.name: host.process.peer_machine.lasting_rate for host in self.hosts if host.process is not None}

    def errand_over(self) -> None:
        """Done, refused for good, or nobody is left to wait for it."""
        self._open_errands -= 1
        if not self._open_errands:
            self.agenda.is_over = True

    def failure(self, text: str) -> WorldFailed:
        """What to raise: what is wrong, who is stuck and why, and the line that shows it again."""
        lines = [f"{text} (at {self.agenda.now:.4f} s)", f"replay: {self.plan.command()}"]
        stuck = [host for host in self.hosts if not host.is_gone and any(e.done_at is None for e in host.errands)]
        for host in stuck[:4]:
            lines.append(host.told())
        if self.broker is not None:
            lines.append(f"  {self.broker.name}:\n{self.broker.told()}")
        if self.seed.process is not None:
            lines.append(f"  seed:\n{self.seed.process.told()}")
        return WorldFailed("\n".join(lines))

    # ── who is where ──────────────────────────────────────────────────────────────────────────────────────────

    def enrol(self, process: PeerProcess) -> None:
        """A peer's process has bound its sockets."""
        self._peers[process.peer] = process
        self.exchanges[process.exchange] = process
        self._speakers[process.hints] = process
        self.inboxes[process.inbox] = process
        process.is_connected = self.broker is not None

    def dismiss(self, process: PeerProcess) -> None:
        """Its connections are known to be gone."""
        self._peers.pop(process.peer, None)
        if self.exchanges.get(process.exchange) is process:
            del self.exchanges[process.exchange]
        if self._speakers.get(process.hints) is process:
            del self._speakers[process.hints]
        if self.inboxes.get(process.inbox) is process:
            del self.inboxes[process.inbox]
            for other in self.processes():
                self.network.forget(other.card, process.inbox)
        for task in [task for who, task in self._heard if who is process]:
            self.listen(process, task, [])

    def peer_of(self, peer: PeerId) -> PeerProcess | None:
        """The process with this routing id, as far as its connections are not known to be gone."""
        return self._peers.get(peer)

    def listen(self, process: PeerProcess, task: TaskId, endpoints: list[str]) -> None:
        """The process hears these endpoints' hints on the task from now on, and no others."""
        topic = topics.of_task(task)
        before = self._heard.pop((process, task), [])
        for endpoint in before:
            self._ears[endpoint, topic].pop(process, None)
        if endpoints:
            self._heard[process, task] = endpoints
        for endpoint in endpoints:
            self._ears.setdefault((endpoint, topic), {})[process] = None
            if endpoint not in before and endpoint in self._speakers:
                speaker = self._speakers[endpoint]
                self.network.control(process.card, speaker.card, len(topic), speaker.arrive_listener, task)

    def publish_hint(self, process: PeerProcess, topic: bytes, body: bytes) -> None:
        """To every neighbour that listens; some are lost."""
        for ear in list(self._ears.get((process.hints, topic), {})):
            if not self._is_lost():
                self.network.control(process.card, ear.card, len(body), ear.arrive_hint, body)

    def publish_notice(self, broker: BrokerProcess, body: bytes) -> None:
        """To every peer; some are lost."""
        for process in self.processes():
            if process.is_connected and not self._is_lost():
                self.network.control(broker.card, process.card, len(body), process.arrive_notice, body)

    def _is_lost(self) -> bool:
        return bool(self.plan.hint_loss) and self.rng.random() < self.plan.hint_loss

    # ── the broker's lives ────────────────────────────────────────────────────────────────────────────────────

    def start_broker(self) -> None:
        """The broker and its seed start; peers that wait for it connect."""
        self._epoch += 1
        settings = BrokerSettings(home="/sim/broker", beat_seconds=self.plan.beat, seed_slots=self.seed_slots)
        self.broker = BrokerProcess(self, self.seed.card, settings, self._epoch)
        for process in self.processes():
            self.agenda.after(self.rng.uniform(0.0, 0.2), process.connect)
        self.seed.boot()

    def kill_broker(self) -> None:
        """Kill the broker's process, and so its seed."""
        if self.broker is not None:
            self.broker.kill()
            self.broker = None
        self.seed.crash()
        for process in self.processes():
            process.is_connected = False


def play(plan: Plan, traced: frozenset[str] = frozenset()) -> World:
    """The plan's last night, run to its end. Raises WorldFailed when one of the nights did not come to it."""
    world = World(plan, traced)
    world.run()
    for _ in range(1, plan.nights):
        world = World(plan, traced, world.measured())
        world.run()
    return world
