"""Real nodes for system tests: start, kill, freeze, resume, wait for a record of their journals. Loopback only.

    with House(tmp_path) as house:
        broker = house.broker()
        peer = house.peer("a", broker)
        got = house.get(peer, source.url("/x"), output)            # runs dfmq-get to its end
        running = house.start_get(peer, source.url("/x"), output)  # does not wait
        peer.wait_for("piece.held", count=3)                       # a record of its journal, with a deadline
        peer.kill(); peer.freeze(); peer.resume()

    @side_by_side("how", ["killed", "frozen"])                     # like pytest.mark.parametrize, but all at once
    def test_…(house, source, tmp_path, how): …

Everything started is stopped at the end, and a process that died of a bug (exit status 70, a traceback on its standard
error, an abort) fails the test.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from support.sources import FaultySource

ROOT = Path(__file__).resolve().parent.parent.parent
#: the most a test waits for anything; a loaded machine of 2 cores needs some of it
PATIENCE = 30.0


def environment(**more: str) -> dict[str, str]:
    """The tests' environment for a node: no setting of the user's own, the checkout importable."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("DFMQ_")}
    return {**plain, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def until(what: str, found: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until `found()` gives something true, and give that; AssertionError names what was waited for."""
    deadline = time.monotonic() + patience
    while not (thing := found()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.02)
    return thing


@dataclass
class Got:
    """What a dfmq-get left."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The objects of --json."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def last(self) -> dict[str, Any]:
        """The final object: done or failed."""
        return self.events[-1]

    @property
    def receipt(self) -> dict[str, int]:
        """Where its bytes came from."""
        assert self.status == 0, self
        found: dict[str, int] = self.last["receipt"]
        assert sum(found.values()) == self.last["bytes"], found
        return found


@dataclass
class Node:
    """A started broker or peer."""

    name: str
    home: Path
    popen: subprocess.Popen[str]
    said: dict[str, Any]
    log: Path

    @property
    def control(self) -> str:
        return str(self.said["control"])

    def records(self, name: str = "") -> list[dict[str, Any]]:
        """The journal's records so far, of one name or all. A line being written is not there yet."""
        path = self.home / "journal.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().split("\n")[:-1]
        return [record for record in map(json.loads, lines) if not name or record["record"] == name]

    def wait_for(self, name: str, count: int = 1, patience: float = PATIENCE, **fields: Any) -> list[dict[str, Any]]:
        """Records of a name, with these fields, when there are `count` of them."""

        def found() -> list[dict[str, Any]]:
            matching = [r for r in self.records(name) if all(r.get(key) == value for key, value in fields.items())]
            return matching if len(matching) >= count else []

        return list(until(f"{count} {name} {fields} of {self.name}", found, patience))

    @property
    def has_crashed(self) -> bool:
        """It ended by a bug of its own, or of a library."""
        bad = (70, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL)
        return self.popen.poll() in bad or "Traceback" in self.log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.popen.wait()

    def freeze(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE)

    def end(self) -> bool:
        """Wait for its end, SIGTERM being said, and leave nothing of it; False: it had to be killed."""
        try:
            self.popen.wait(PATIENCE)
            is_obedient = True
        except subprocess.TimeoutExpired:
            self.kill()
            is_obedient = False
        if self.popen.stdout is not None:
            # Still open when nobody waited for it to get ready: one that was launched with it had not.
            self.popen.stdout.close()
        return is_obedient


@dataclass
class House:
    """A folder with nodes in it."""

    folder: Path
    #: where nodes listen
    address: str = "127.0.0.1"
    #: node's name → words before its commands, so that they run on another host (see bench/network)
    before: dict[str, list[str]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    gets: list[subprocess.Popen[str]] = field(default_factory=list)

    def broker(self, name: str = "broker", *flags: str, listen: str = "", **env: str) -> Node:
        home = self.folder / name
        anywhere = f"tcp://{self.address}:0"
        words = ["--listen", listen or anywhere, "--publish", anywhere, *flags]
        return self._ready(self._launch(name, home, ["-m", "dfmq.cli.broker", "--home", str(home), *words], env))

    def peer(self, name: str, broker: Node | str | None, *flags: str, **env: str) -> Node:
        """`broker` None: the peer runs one of its own."""
        return self.peers([name], broker, *flags, **env)[0]

    def peers(self, names: Sequence[str], broker: Node | str | None, *flags: str, **env: str) -> list[Node]:
        """Several at once, which takes less time than one after the other."""
        launched = [self._launch_peer(name, broker, flags, env) for name in names]
        return [self._ready(node) for node in launched]

    def _launch_peer(self, name: str, broker: Node | str | None, flags: Sequence[str], env: dict[str, str]) -> Node:
        home = self.folder / name
        words = ["--listen", f"tcp://{self.address}:0", *flags]
        if broker is not None:
            words += ["--broker", broker if isinstance(broker, str) else broker.control]
        return self._launch(name, home, ["-m", "dfmq.cli.peer", "--home", str(home), *words], env)

    def _launch(self, name: str, home: Path, words: list[str], env: dict[str, str]) -> Node:
        log = self.folder / f"{name}.err"
        with log.open("a") as errors:
            popen = subprocess.Popen(
                [*self.before.get(name, ()), sys.executable, *words, "--json"],
                stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True, env=environment(**env),
            )  # fmt: skip
        node = Node(name, home, popen, {}, log)
        self.nodes.append(node)
        return node

    def _ready(self, node: Node) -> Node:
        assert node.popen.stdout is not None
        line = node.popen.stdout.readline()
        node.popen.stdout.close()
        assert line.startswith("{"), f"{node.name} did not get ready: {node.log.read_text()}"
        node.said.update(json.loads(line))
        return node

    def start_get(self, peer: Node | Path, *words: str | Path, **env: str) -> subprocess.Popen[str]:
        """dfmq-get through a peer's home, with --json; not waited for."""
        home = peer if isinstance(peer, Path) else peer.home
        words_before = self.before.get(home.name, [])
        command = [*words_before, sys.executable, "-m", "dfmq.cli.get", "--json", "--home", str(home), *map(str, words)]
        popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment(**env),
        )  # fmt: skip
        self.gets.append(popen)
        return popen

    def get(self, peer: Node | Path, *words: str | Path, typed: str = "", **env: str) -> Got:
        """Run dfmq-get to its end; `typed` is its standard input."""
        return finish(self.start_get(peer, *words, **env), typed)

    def get_together(self, wanted: Sequence[tuple[Node | Path, Sequence[str | Path]]]) -> list[Got]:
        """Start several at once, wait for all."""
        running = [self.start_get(peer, *words) for peer, words in wanted]
        return [finish(popen) for popen in running]

    def __enter__(self) -> House:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for popen in self.gets:
            if popen.poll() is None:
                popen.kill()
            popen.communicate()
        for node in self.nodes:
            if node.popen.poll() is None:
                node.resume()
                node.popen.send_signal(signal.SIGTERM)
        stubborn = [node.name for node in self.nodes if not node.end()]
        stop_started_peers(self.folder)
        crashed = [node for node in self.nodes if node.has_crashed]
        for node in crashed:
            print(f"{node.name} ended with {node.popen.returncode}: {node.log.read_text()[-3000:]}")
        if kind is None:
            assert not stubborn, f"{stubborn} did not end on SIGTERM"
            assert not crashed, [node.name for node in crashed]


def side_by_side(names: str, cases: Sequence[Any]) -> Callable[[Callable[..., None]], Callable[[Path], None]]:
    """One test of these cases, which mostly wait: each in a thread, with a house, a source and a folder of its own.

    All run to their ends; what failed is raised together, and each failure says of which case it is.
    """

    def decorate(scenario: Callable[..., None]) -> Callable[[Path], None]:
        wanted = inspect.signature(scenario).parameters.keys()

        def run(folder: Path, case: dict[str, Any]) -> None:
            with House(folder) as house, FaultySource() as source:
                given = {"house": house, "source": source, "tmp_path": folder, **case}
                scenario(**{name: value for name, value in given.items() if name in wanted})

        def test(tmp_path: Path) -> None:
            with ThreadPoolExecutor(len(cases)) as pool:
                running = []
                for number, values in enumerate(cases):
                    case = dict(zip(names.split(", "), values if ", " in names else [values], strict=True))
                    folder = tmp_path / f"{number}"
                    folder.mkdir()
                    running.append((case, pool.submit(run, folder, case)))
            failures = []
            for case, one in running:
                if (failure := one.exception()) is not None:
                    failure.add_note(f"with {case}")
                    failures.append(failure)
            if failures:
                raise BaseExceptionGroup(f"{len(failures)} of {len(cases)} failed", failures)

        test.__name__, test.__qualname__, test.__doc__ = scenario.__name__, scenario.__qualname__, scenario.__doc__
        test.__module__ = scenario.__module__
        return test

    return decorate


#: Below the ports that the kernel gives to whoever asks for any (32768 and up): what is found free stays so.
_ports = iter(random.sample(range(20_000, 30_000), 10_000))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens at, nor will before the test does."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def receipts(got: Iterable[Got]) -> Counter[str]:
    """Where the bytes of several gets came from, added up."""
    total: Counter[str] = Counter()
    for one in got:
        total.update(one.receipt)
    return total


def until_it_holds(getting: subprocess.Popen[str], least: int) -> int:
    """Read a get's progress until it holds so many bytes; how many it holds."""
    assert getting.stdout is not None
    for line in getting.stdout:
        held: int = json.loads(line).get("held", 0)
        if held >= least:
            return held
    raise AssertionError("it ended before")


def finish(popen: subprocess.Popen[str], typed: str = "") -> Got:
    """Wait for a dfmq-get."""
    out, err = popen.communicate(typed, timeout=2 * PATIENCE)
    return Got(popen.returncode, out, err)


def stop_started_peers(folder: Path) -> None:
    """Peers that dfmq-get started below this folder: known by the pid in their home's lock, and by their command."""
    for pid in _started_below(folder):
        os.kill(pid, signal.SIGTERM)
    until("peers that dfmq-get started end", lambda: not list(_started_below(folder)))


def _started_below(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"dfmq.cli.peer" in command and state != "Z" and any(w.startswith(bytes(folder)) for w in command):
            yield int(entry.name)
