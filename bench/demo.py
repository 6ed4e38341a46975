"""Five peers on this machine get one file at once, and its source is read once: watch it, then see who got what whence.

    make demo
    python bench/demo.py --peers 8 --size 256 --limit 0

Everything is on the loopback and in a temporary directory; what was started is stopped. The limit is what the seed may
send in all, and what each get may receive: so the peers need one another, as hosts do whose uplinks are what they are.
`--limit 0` shows how fast it goes without. Ends with 1 if any output differs, or if the source was read more than once.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dfmq.cli.amounts import show_bytes, show_rate
from dfmq.cli.quantities import parse_rate

MIB = 1 << 20
WORDS = ("source", "seed", "peers", "store")
COLOURS = {"source": "red", "seed": "cyan", "peers": "green", "store": "yellow"}
PATIENCE_SECONDS = 120.0


class Source:
    """A web server of the standard library on a directory, that counts what it is asked and what it sends."""

    def __init__(self, directory: Path) -> None:
        self.requests = 0
        self.bytes = 0
        #: (seconds since the start, bytes sent), for a picture
        self.samples: list[tuple[float, int]] = []
        counts = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                counts.requests += 1
                super().do_GET()

            def copyfile(self, source: Any, outputfile: Any) -> None:
                while block := source.read(256 * 1024):
                    outputfile.write(block)
                    counts.bytes += len(block)

            def log_message(self, format: str, *args: Any) -> None:
                """The terminal belongs to the swarm."""

        def handler(*arguments: Any) -> Handler:
            return Handler(*arguments, directory=str(directory))

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/content.bin"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Getting:
    """One dfmq-get: reads its JSON lines as they come."""

    def __init__(self, number: int, home: Path, url: str, limit: str) -> None:
        self.number = number
        self.output = home / "content.bin"
        self.line: dict[str, Any] = {}
        self.begun_at = time.monotonic()
        self.seconds = 0.0
        #: (seconds since the start, receipt), for a picture
        self.samples: list[tuple[float, dict[str, int]]] = []
        arguments = [url, "-o", str(self.output), "--home", str(home), "--json"]
        self._process = start("get", *arguments, *(["--limit", limit] if limit != "0" else []))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self.line = json.loads(text)
            self.samples.append((time.monotonic() - self.begun_at, self.receipt()))
        self._process.wait()
        self.seconds = time.monotonic() - self.begun_at

    def receipt(self) -> dict[str, int]:
        """Bytes by where they came from."""
        receipt = self.line.get("receipt", {})
        return {word: receipt.get(f"from_{word}", 0) for word in WORDS}

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        stop([self._process])

    def is_right(self, digest: str) -> bool:
        """It said done, and what it brought is what was asked for."""
        if self.line.get("event") != "done" or not self.output.exists():
            return False
        with self.output.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest


def start(node: str, *arguments: str) -> subprocess.Popen[str]:
    """A dfmq command of this checkout, by its module, in this very interpreter; its JSON lines on a pipe."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DFMQ_")}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", f"dfmq.cli.{node}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def stop(processes: list[subprocess.Popen[str]]) -> None:
    """Ask each to go, and see that it is gone."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line a node says when it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{' '.join(process.args)} ended before it was ready")  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads(line)
    return found


@contextlib.contextmanager
def swarm(directory: Path, peers: int, limit: str) -> Iterator[list[Path]]:
    """A broker and peers, each with a home of its own; gives the peers' homes."""
    processes = []
    try:
        here = ["--advertise", "127.0.0.1", "--json", "--listen", "tcp://127.0.0.1:0"]
        publish = ["--publish", "tcp://127.0.0.1:0"]
        seed = ["--home", str(directory / "broker"), "--seed-up-limit", limit]
        # A seed with no more bandwidth than a peer has no more slots than one.
        seed += ["--seed-slots", "4"] if limit != "0" else []
        processes.append(start("broker", *here, *publish, *seed))
        broker = ready(processes[0])["control"]
        homes = [directory / f"peer{number}" for number in range(1, peers + 1)]
        processes += [start("peer", *here, "--broker", broker, "--home", str(home)) for home in homes]
        for process in processes[1:]:
            ready(process)
        yield homes
    finally:
        stop(processes)


def drawing(gettings: list[Getting], size: int, source: Source) -> Group:
    """The swarm as it is now: a bar a peer, a colour for each place its bytes came from."""
    table = Table.grid(padding=(0, 1))
    for getting in gettings:
        receipt = getting.receipt()
        bar, drawn, total = Text(), 0, 0
        for word in WORDS:
            total += receipt[word]
            upto = round(50 * total / size)
            bar.append("█" * (upto - drawn), style=COLOURS[word])
            drawn = upto
        bar.append("░" * (50 - drawn), style="dim")
        table.add_row(f"peer {getting.number}", bar, f"{100 * total // size:3d} %")
    legend = Text("from ", style="dim")
    for word in WORDS:
        legend.append("█ ", style=COLOURS[word])
        legend.append(f"{word}  ", style="dim")
    read = f"the source has sent {show_bytes(source.bytes)} in {source.requests} requests"
    return Group(table, legend, Text(read))


def watch(gettings: list[Getting], size: int, source: Source, console: Console) -> None:
    """Draw until every get is over. Where nobody watches, a line a second."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    drawn: Any = Live(console=console, refresh_per_second=10) if console.is_terminal else contextlib.nullcontext()
    with drawn as live:
        next_line = 0.0
        begun_at = gettings[0].begun_at
        while not all(getting.is_over() for getting in gettings):
            source.samples.append((time.monotonic() - begun_at, source.bytes))
            if time.monotonic() > deadline:
                break
            if live is not None:
                live.update(drawing(gettings, size, source))
            elif time.monotonic() >= next_line:
                next_line = time.monotonic() + 1
                held = " ".join(f"{100 * sum(getting.receipt().values()) // size:3d} %" for getting in gettings)
                console.print(f"{held}   source: {show_bytes(source.bytes)}")
            time.sleep(0.05)
        if live is not None:
            live.update(drawing(gettings, size, source))


def report(gettings: list[Getting], digest: str, size: int, source: Source, console: Console) -> int:
    """Who got what from where; the exit status."""
    table = Table(title=f"{show_bytes(size)} to {len(gettings)} peers, and where it came from")
    for heading in ("", *WORDS, "time", "rate", "sha256"):
        table.add_column(heading, justify="right", no_wrap=True)
    right = 0
    for getting in gettings:
        is_right = getting.is_right(digest)
        right += is_right
        cells = [show_bytes(count) if count else "–" for count in getting.receipt().values()]
        rate = show_rate(size / max(getting.seconds, 1e-6))
        verdict = "right" if is_right else f"WRONG {getting.line.get('text', '')}"
        table.add_row(f"peer {getting.number}", *cells, f"{getting.seconds:.1f} s", rate, verdict)
    console.print(table)
    ratio = source.bytes / size
    asked = "1 request" if source.requests == 1 else f"{source.requests} requests"
    console.print(f"The source sent {show_bytes(source.bytes)} in {asked}: {ratio:.2f} × the content, for all of them.")
    if right == len(gettings) and source.bytes == size:
        return 0
    console.print("This is not as it should be: every output must be right, and the source read exactly once.")
    return 1


def end_on_term(_: int, __: Any) -> None:
    """Unwind, so that what was started is stopped."""
    raise SystemExit(143)


def main() -> int:
    signal.signal(signal.SIGTERM, end_on_term)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, metavar="MIB")
    parser.add_argument("--limit", default="16MB/s", metavar="RATE", help="of the seed and of each get; 0: none")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what was seen as JSON, for a picture")
    options = parser.parse_args()
    console = Console()
    size = options.size * MIB
    with tempfile.TemporaryDirectory(prefix="dfmq-demo-") as name, contextlib.ExitStack() as ending:
        directory = Path(name)
        (directory / "source").mkdir()
        content = random.Random(64).randbytes(size)
        (directory / "source" / "content.bin").write_bytes(content)
        source = Source(directory / "source")
        ending.callback(source.close)
        homes = ending.enter_context(swarm(directory, options.peers, options.limit))
        gettings = [Getting(n, home, source.url, options.limit) for n, home in enumerate(homes, 1)]
        for getting in gettings:
            ending.callback(getting.stop)
        watch(gettings, size, source, console)
        status = report(gettings, hashlib.sha256(content).hexdigest(), size, source, console)
        if rate := parse_rate(options.limit):
            alone = size * len(gettings) / rate
            console.print(f"The seed alone, at {show_rate(rate)}, would have taken {alone:.0f} s to serve them all.")
        if options.record:
            seen = {"size": size, "source": source.samples, "peers": [getting.samples for getting in gettings]}
            options.record.write_text(json.dumps(seen))
        return status


if __name__ == "__main__":
    sys.exit(main())
