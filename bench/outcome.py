"""What a bench came to: one table, one JSON, one figure, and the machine they are of. Measures nothing."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

from bench import figure
from bench.figure import Panel

#: A system's or a case's figures by name; text where a figure is none.
Row = Mapping[str, float | str]
FIGURES = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def setup() -> dict[str, Any]:
    """Machine, versions, date, command: what every printed figure carries."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": " ".join(["python -m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "cpu": model.group(1).strip() if model else platform.machine(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "commit": first_line("git", "-C", str(FIGURES.parent), "describe", "--always", "--dirty") or "unknown",
    }


def first_line(*command: str) -> str:
    """The first line a command prints, as one that tells its version; "" when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return next(iter((done.stdout or done.stderr).splitlines()), "") if not done.returncode else ""


def median(values: Sequence[float]) -> float:
    """The middle one; of an even count the upper of both."""
    return sorted(values)[len(values) // 2]


def share(values: Sequence[float], part: float) -> float:
    """The value that `part` of all are at most (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered) - 1e-9) - 1)]


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figure by figure, the median over rounds."""
    return {key: median([row[key] for row in rows]) for key in rows[0]}


def table(rows: Mapping[str, Row]) -> str:
    """Rows by name as a Markdown table; a row may lack a column."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|" + " --- |" * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append("| " + " | ".join([name, *(_shown(row.get(column, "–")) for column in columns)]) + " |")
    return "\n".join(lines)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what every bench takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write set-up and figures as JSON")
    parser.add_argument(
        "--figure", type=Path, metavar="DIR", nargs="?", const=FIGURES,
        help="draw the figure as DIR/BENCH.svg (DIR: docs/benchmarks)",
    )  # fmt: skip
    return parser


def report(
    name: str,
    title: str,
    rows: Mapping[str, Row],
    panels: Sequence[Panel],
    chosen: argparse.Namespace,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Print set-up and table; write what --json and --figure ask for. `name` is the bench's, `versions` of what was
    measured beside dfmq."""
    made = setup() | ({"versions": dict(versions)} if versions else {})
    note = f"{made['cores']} × {made['cpu']}, Linux {made['kernel']}, Python {made['python']}, {made['date']}"
    print(json.dumps(made))
    print(title)
    print(table(rows))
    if chosen.json:
        found = {"bench": name, "setup": made, "title": title, "note": note, "rows": rows}
        found["panels"] = msgspec.to_builtins(panels)
        Path(chosen.json).parent.mkdir(parents=True, exist_ok=True)
        Path(chosen.json).write_text(json.dumps(found, indent=1) + "\n")
    if chosen.figure:
        chosen.figure.mkdir(parents=True, exist_ok=True)
        (chosen.figure / f"{name}.svg").write_text(figure.draw(title, note, panels), encoding="utf-8")
