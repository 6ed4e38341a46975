"""How dfmq-get's process ends, and what it does not load before."""

from __future__ import annotations

import subprocess
import sys

LEAVE = "import sys; from dfmq.cli import ending; print('x' * 5000, end=''); print('y', file=sys.stderr); "


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_who_leaves_has_said_everything_and_gives_the_status() -> None:
    ended = python(LEAVE + "ending.leave(5); print('never')")
    assert (ended.returncode, ended.stdout, ended.stderr) == (5, "x" * 5000, "y\n")


def test_who_leaves_with_nobody_hearing_gives_the_status_all_the_same() -> None:
    ended = python(
        "import sys; sys.stdout.close(); " + LEAVE.replace("print('x' * 5000, end=''); ", "ending.leave(7); ")
    )
    assert (ended.returncode, ended.stdout) == (7, "")


def test_a_get_loads_nothing_that_only_nodes_need() -> None:
    loads = "import sys, dfmq.cli.get, dfmq.cli.progress, dfmq.nodes.errands, dfmq.nodes.starting, dfmq.edges.output; "
    heavy = "asyncio", "hashlib", "logging", "secrets", "psutil", "rich", "aiohttp", "xxhash"
    assert python(loads + f"print([name for name in {heavy} if name in sys.modules])").stdout == "[]\n"


def test_a_peer_of_somebody_elses_broker_loads_no_broker() -> None:
    loads = "import sys, dfmq.cli.peer, dfmq.nodes.process; "
    assert python(loads + "print([m for m in sys.modules if m.startswith('dfmq.machines.broker')])").stdout == "[]\n"
