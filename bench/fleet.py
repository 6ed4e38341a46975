"""Real processes for benchmarks, and where they live: nginx, a broker, peers. Measures, judges nothing."""

from __future__ import annotations

import compileall
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.meter import ROOT, cpu_seconds

PYTHON = sys.executable


@dataclass
class Process:
    """A started process, and what it had used when it was ready."""

    name: str
    popen: subprocess.Popen[str]
    cpu_ready: float = 0.0
    #: what it said when it was ready, where that is JSON
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.popen.pid


@dataclass
class Fleet:
    """A folder, and the processes that live in it."""

    home: Path
    processes: list[Process] = field(default_factory=list)
    #: command prefix by host name, e.g. ["ip", "netns", "exec", "h1"]
    prefix: dict[str, list[str]] = field(default_factory=dict)
    #: address by host name; a host that is not in it is this one
    addresses: dict[str, str] = field(default_factory=dict)

    def at(self, host: str) -> str:
        """The address of a host."""
        return self.addresses.get(host, "127.0.0.1")

    def place(self, host: str) -> str:
        """ADDRESS:PORT for somebody who will listen on that host."""
        return f"{self.at(host)}:{free_port()}"

    def on(self, host: str, *command: str) -> list[str]:
        """The command as it is run on that host."""
        return [*self.prefix.get(host, []), *command]

    def start(self, name: str, command: Sequence[str], *, host: str = "", wait_for: str = "") -> Process:
        """Start a command; with `wait_for`, until a line of its output has that text."""
        log = self.home / f"{name}.log"
        with log.open("w") as written:
            popen = subprocess.Popen(
                self.on(host, *command),
                stdout=subprocess.PIPE if wait_for else written,
                stderr=written,
                stdin=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
            )
        process = Process(name, popen)
        self.processes.append(process)
        if wait_for:
            assert popen.stdout is not None
            for line in popen.stdout:
                if wait_for in line:
                    process.said = json.loads(line) if line.startswith("{") else {}
                    break
            else:
                raise RuntimeError(f"{name} ended before it was ready:\n{log.read_text()[-2000:]}")
            process.cpu_ready = cpu_seconds(popen.pid)
        return process

    def nginx(self, root: Path, address: str, *, host: str = "") -> Process:
        """nginx serving a folder; one process, so that its seconds are all of them."""
        folder = self.home / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(
            f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 8192; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
              uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
              server {{ listen {address}; root {root}; access_log {folder}/access.log combined; }} }}"""
        )
        process = self.start("nginx", ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], host=host)
        self.until_listening(address, host)
        process.cpu_ready = cpu_seconds(process.pid)
        return process

    def source_bytes(self) -> tuple[int, int]:
        """(requests, bytes) that nginx answered so far with a body."""
        log = self.home / "nginx" / "access.log"
        sent = [int(line.split()[9]) for line in log.read_text().splitlines()]
        return len(sent), sum(sent)

    def broker(self, *flags: str, host: str = "") -> Process:
        """A broker; where it is reached is in `said["control"]`."""
        at = self.at(host)
        command = [PYTHON, "-m", "dfmq.cli.broker", "--home", str(self.home / "broker"), "--advertise", at, "--json"]
        command += ["--listen", f"tcp://{at}:0", "--publish", f"tcp://{at}:0", *flags]
        return self.start("broker", command, host=host, wait_for="{")

    def peer(self, number: int, broker: str, *flags: str, host: str = "") -> Process:
        """A peer with a home of its own, `peer<number>`."""
        command = [PYTHON, "-m", "dfmq.cli.peer", "--home", str(self.home / f"peer{number}"), "--broker", broker]
        command += ["--listen", f"tcp://{self.at(host)}:0", *flags, "--json"]
        return self.start(f"peer{number}", command, host=host, wait_for="{")

    def get(self, number: int, broker: str, *words: str, host: str = "") -> list[str]:
        """The command of a dfmq-get through that peer."""
        command = [PYTHON, str(ROOT / "bin" / "dfmq-get"), "--quiet", "--home", str(self.home / f"peer{number}")]
        return self.on(host, *command, "--broker", broker, *words)

    def until_listening(self, address: str, host: str = "") -> None:
        """Wait until a TCP connection to there is taken."""
        at, _, port = address.rpartition(":")
        probe = f"import socket; socket.create_connection(({at!r}, {port}), 1).close()"
        for _ in range(100):
            if subprocess.run(self.on(host, PYTHON, "-c", probe), stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"nothing listens at {address}")

    def stop(self) -> None:
        """Stop what was started, by pid, newest first."""
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            # aria2 says goodbye to its tracker for a while, unless it is told twice.
            for patience, number in ((2, signal.SIGTERM), (8, signal.SIGKILL), (None, signal.SIGKILL)):
                try:
                    process.popen.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    process.popen.send_signal(number)
            if process.popen.stdout is not None:
                process.popen.stdout.close()
        self.processes.clear()


def free_port() -> int:
    """A TCP port nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def fleet(folder: str | Path) -> Iterator[Fleet]:
    """A fresh folder below `folder`; everything in it is stopped and deleted at the end. dfmq is compiled first, as it
    is where it was installed: else each process would compile it anew where Python may not write what it compiled."""
    compileall.compile_dir(ROOT / "dfmq", quiet=2)
    home = Path(tempfile.mkdtemp(prefix="dfmq-bench-", dir=folder))
    made = Fleet(home)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)
