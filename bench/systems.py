"""dfmq and its rivals, each set up to bring one content to N receivers, on whatever hosts a fleet has: the hosts
`source`, `broker` and `h0` … . What is measured is the same for all. The content is verified in every round."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import content
from bench.fleet import PYTHON, Fleet, Process
from bench.meter import ROOT, Crowd, Memory, Receiver, Round, Watch, cpu_seconds, idle_seconds
from bench.outcome import first_line
from bench.tracker import make_torrent


@dataclass
class Stage:
    """What is to be brought to whom, and where."""

    fleet: Fleet
    content: Path
    digest: str
    receivers: int
    #: seconds between the first and the last start
    spread: float = 0.0
    #: as much page cache as the round fills is written and given back first
    warm_files: bool = False
    #: the content is not in the page cache when the clock starts
    cold_source: bool = False
    #: what has left a host so far, octets with headers; None: systems count for themselves
    octets: Callable[[str], int] | None = None

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Inside, processes are started; after it, files are as warm or cold as they should be."""
        with contextlib.ExitStack() as ending:
            if self.warm_files:
                size = self.content.stat().st_size * (self.receivers + 1)
                ending.enter_context(content.warmed(self.fleet.home, size))
            yield
        if self.cold_source:
            content.forget(self.content)
        else:
            content.read_through(self.content)

    def each(self) -> list[tuple[int, str, Path]]:
        """(number, host, output) of every receiver."""
        return [(n, f"h{n}", self.fleet.home / f"out{n}") for n in range(self.receivers)]


@dataclass
class Ready:
    """A system, set up."""

    receivers: list[Receiver]
    outputs: list[Path]
    #: every process beside the receivers
    nodes: list[Process]
    #: octets that have left the source, or the torrent's seeder; asked after the round
    source_bytes: Callable[[], int]
    #: CPU seconds of the receivers' own start, where it can be told apart
    startup: Callable[[], float] = field(default=lambda: 0.0)
    #: the node that belongs to each receiver, if any
    beside: list[Process] = field(default_factory=list)
    #: the host of a seed that is not the source
    seed_host: str = ""


def measure(stage: Stage, build: Callable[[Stage], Ready]) -> Round:
    """One round: build, run, count, verify."""
    with stage.prepared():
        ready = build(stage)
    crowd = Crowd(ready.receivers, stage.fleet.home / "receivers.log", stage.spread)
    hosts = ["source", *filter(None, [ready.seed_host])]
    before = {host: stage.octets(host) for host in hosts} if stage.octets else {}
    with Watch() as watch:
        watch.add(*(node.pid for node in ready.nodes))
        try:
            idle = idle_seconds()
            crowd.run(watch)
            idle = idle_seconds() - idle
            sent = {host: stage.octets(host) - before[host] for host in hosts} if stage.octets else {}
            cpu = crowd.cpu() + sum(cpu_seconds(node.pid) for node in ready.nodes)
            memory = [
                watch.of(receiver.pid, *(node.pid for node in ready.beside[number : number + 1]))
                for number, receiver in enumerate(ready.receivers)
            ]
        finally:
            crowd.stop()
    content.verify(ready.outputs, stage.digest)
    return Round(
        wall=crowd.wall,
        each=crowd.each(),
        cpu=cpu,
        cpu_startup=sum(node.cpu_ready for node in ready.nodes) + ready.startup(),
        memory=Memory(max(one.whole for one in memory), max(one.own for one in memory)),
        source_bytes=sent["source"] if sent else ready.source_bytes(),
        seed_bytes=sent.get(ready.seed_host),
        idle=min(1.0, idle / crowd.wall / (os.cpu_count() or 1)),
    )


# ── the systems ───────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def get_startup() -> float:
    """CPU seconds of a dfmq-get that does nothing but start: the middle of three."""
    took = []
    for _ in range(3):
        crowd = Crowd([Receiver([PYTHON, str(ROOT / "bin" / "dfmq-get"), "--version"])], Path("/dev/null"))
        with Watch() as watch:
            crowd.run(watch)
        took.append(crowd.cpu())
    return sorted(took)[1]


def dfmq(stage: Stage) -> Ready:
    """nginx, a broker, a peer a host; one dfmq-get through each."""
    made = stage.fleet
    startup = get_startup()
    place = made.place("source")
    nginx = made.nginx(stage.content.parent, place, host="source")
    broker = made.broker(host="broker")
    control = broker.said["control"]
    peers = [made.peer(number, control, host=host) for number, host, _ in stage.each()]
    url = f"http://{place}/{stage.content.name}"
    receivers = [
        Receiver(made.get(number, control, url, "-o", str(out), host=host)) for number, host, out in stage.each()
    ]
    return Ready(
        receivers=receivers,
        outputs=[out for _, _, out in stage.each()],
        nodes=[nginx, broker, *peers],
        source_bytes=lambda: made.source_bytes()[1],
        startup=lambda: startup * stage.receivers,
        beside=peers,
        seed_host="broker",
    )


def _plain(stage: Stage, *command: str) -> Ready:
    """nginx, and a command a receiver: it gets the output's name and the URL."""
    made = stage.fleet
    place = made.place("source")
    nginx = made.nginx(stage.content.parent, place, host="source")
    url = f"http://{place}/{stage.content.name}"
    return Ready(
        receivers=[Receiver(made.on(host, *command, str(out), url)) for _, host, out in stage.each()],
        outputs=[out for _, _, out in stage.each()],
        nodes=[nginx],
        source_bytes=lambda: made.source_bytes()[1],
    )


def curl(stage: Stage) -> Ready:
    """A plain curl each."""
    return _plain(stage, "curl", "-sS", "-o")


def wget(stage: Stage) -> Ready:
    """A plain wget each."""
    return _plain(stage, "wget", "-q", "-O")


def ring(stage: Stage) -> Ready:
    """Everybody sends the content to the next, with plain sockets: what the links and the kernel take of themselves."""
    made = stage.fleet
    command = [PYTHON, str(ROOT / "bench" / "ring.py"), str(stage.content)]
    places = [made.place(host) for _, host, _ in stage.each()]
    return Ready(
        receivers=[
            Receiver(made.on(host, *command, str(out), places[number], places[number - 1]))
            for number, host, out in stage.each()
        ],
        outputs=[out for _, _, out in stage.each()],
        nodes=[],
        source_bytes=lambda: 0,
    )


def _torrent(stage: Stage) -> tuple[Path, Process]:
    """The content's torrent, and the tracker it names, on the source's host."""
    made = stage.fleet
    place = made.place("source")
    torrent = made.home / "content.torrent"
    make_torrent(stage.content, f"http://{place}/announce", torrent)
    tracker = made.start("tracker", [PYTHON, "-m", "bench.tracker", place], host="source", wait_for="{")
    return torrent, tracker


def libtorrent(stage: Stage) -> Ready:
    """A seeder, a tracker, and a libtorrent session a receiver, each serving on until all are done."""
    made = stage.fleet
    torrent, tracker = _torrent(stage)
    python = torrent_python()
    assert python is not None
    node = [python, str(ROOT / "bench" / "torrent.py"), "--torrent", str(torrent)]
    account = made.home / "seeder.account"
    words = ["--save", str(stage.content.parent), "--listen", made.place("source"), "--seed", "--account", str(account)]
    seeder = made.start("seeder", [*node, *words], host="source", wait_for="{")
    receivers = []
    for number, host, out in stage.each():
        marker = made.home / f"done{number}"
        words = ["--save", str(out), "--listen", made.place(host), "--marker", str(marker)]
        receivers.append(Receiver(made.on(host, *node, *words), marker))

    def sent() -> int:
        seeder.popen.terminate()
        seeder.popen.wait()
        return int(account.read_text())

    return Ready(
        receivers=receivers,
        outputs=[out / stage.content.name for _, _, out in stage.each()],
        nodes=[tracker, seeder],
        source_bytes=sent,
        startup=lambda: sum(float(receiver.marker.read_text()) for receiver in receivers if receiver.marker),
    )


def aria2(stage: Stage) -> Ready:
    """A seeder, a tracker, and an aria2c a receiver, each serving on until all are done."""
    made = stage.fleet
    torrent, tracker = _torrent(stage)
    plain = ["aria2c", "--no-conf", "--quiet", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]
    # More peers than its 55, and looking for more as long as it gets less than 100 MB/s: else a swarm of 80 is slow.
    plain += ["--seed-ratio=0.0", "--bt-max-peers=128", "--bt-request-peer-speed-limit=100M", "--file-allocation=none"]
    port = made.place("source").rpartition(":")[2]
    control = made.place("source").rpartition(":")[2]
    seeding = ["--bt-seed-unverified=true", f"--dir={stage.content.parent}", f"--listen-port={port}"]
    seeding += ["--enable-rpc", f"--rpc-listen-port={control}", str(torrent)]
    seeder = made.start("seeder", [*plain, *seeding], host="source")
    made.until_listening(f"{made.at('source')}:{port}", "source")
    seeder.cpu_ready = cpu_seconds(seeder.pid)
    receivers = []
    for number, host, out in stage.each():
        marker = made.home / f"done{number}"
        hook = made.home / f"hook{number}"
        hook.write_text(f"#!/bin/sh\n: > {marker}\n")
        hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
        port = made.place(host).rpartition(":")[2]
        words = [f"--dir={out}", f"--listen-port={port}", f"--on-bt-download-complete={hook}", str(torrent)]
        receivers.append(Receiver(made.on(host, *plain, *words), marker))
    return Ready(
        receivers=receivers,
        outputs=[out / stage.content.name for _, _, out in stage.each()],
        nodes=[tracker, seeder],
        source_bytes=lambda: _aria2_sent(int(control)),
    )


def _aria2_sent(port: int) -> int:
    """What an aria2 on this host has sent of its torrent."""
    body = {"jsonrpc": "2.0", "id": "bench", "method": "aria2.tellActive", "params": [["uploadLength"]]}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/jsonrpc", json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return sum(int(active["uploadLength"]) for active in json.load(answer)["result"])


@functools.cache
def torrent_python() -> str | None:
    """A Python that has libtorrent: this one, or the distribution's."""
    if importlib.util.find_spec("libtorrent"):
        return PYTHON
    other = shutil.which("python3", path="/usr/bin")
    if other and subprocess.run([other, "-c", "import libtorrent"], capture_output=True).returncode == 0:
        return other
    return None


#: name → (how it is set up, the program it needs, how that is installed)
SYSTEMS: dict[str, tuple[Callable[[Stage], Ready], str, str]] = {
    "dfmq": (dfmq, "nginx", "apt install nginx-light"),
    "ring": (ring, "python3", "apt install python3"),
    "curl": (curl, "curl", "apt install curl"),
    "wget": (wget, "wget", "apt install wget"),
    "aria2": (aria2, "aria2c", "apt install aria2"),
    "libtorrent": (libtorrent, "libtorrent", "pip install libtorrent, or apt install python3-libtorrent"),
}


def present(names: list[str]) -> list[str]:
    """Those of the systems that can run here; says of the others what to install. Ends without nginx."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin") is None:
        raise SystemExit("nginx is not installed, and is the source of all: apt install nginx-light")
    found = []
    for name in names:
        _, program, install = SYSTEMS[name]
        if torrent_python() if program == "libtorrent" else shutil.which(program) or program == "nginx":
            found.append(name)
        else:
            print(f"{name}: skipped, {program} is not installed: {install}", flush=True)
    return found


def versions(names: list[str]) -> dict[str, str]:
    """What each of the systems says it is; and nginx."""
    asked = {"nginx": ["nginx", "-v"]}
    for name in names:
        program = SYSTEMS[name][1]
        if program == "libtorrent":
            asked[name] = [torrent_python() or PYTHON, "-c", "import libtorrent; print(libtorrent.__version__)"]
        elif name != "dfmq":
            asked[name] = [program, "--version"]
    return {name: first_line(*command) for name, command in asked.items()}


def run(name: str, stage: Stage) -> Round:
    """One round of a system by name."""
    return measure(stage, SYSTEMS[name][0])
