"""Draws docs/swarm.svg: what `python bench/demo.py --record FILE` saw, as one area a peer over time.

python bench/demo.py --record seen.json
python bench/picture.py seen.json docs/swarm.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WIDTH, ROW, LEFT, RIGHT, TOP = 860, 58, 92, 24, 64
SEED, PEERS, SOURCE, INK, DIM = "#0969da", "#2da44e", "#cf222e", "#1f2328", "#6e7781"
MIB = 1 << 20


class Frame:
    """Where a moment and an amount stand on the paper."""

    def __init__(self, seconds: float, size: int) -> None:
        self.seconds = seconds
        self.size = size

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(at, self.seconds) / self.seconds

    def y(self, row: int, amount: float) -> float:
        return TOP + row * ROW + (ROW - 14) * (1 - amount / self.size)

    def area(self, row: int, low: list[tuple[float, float]], high: list[tuple[float, float]], colour: str) -> str:
        points = [(self.x(at), self.y(row, amount)) for at, amount in high]
        points += [(self.x(at), self.y(row, amount)) for at, amount in reversed(low)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        return f'<polygon points="{path}" fill="{colour}"/>'


def text(x: float, y: float, words: str, colour: str = INK, *, anchor: str = "start", weight: int = 400) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{words}</text>'


def draw(seen: dict[str, Any]) -> str:
    seen = from_first_byte(seen)
    size, peers = seen["size"], seen["peers"]
    end = max(samples[-1][0] for samples in peers)
    frame = Frame(end * 1.01, size)
    height = TOP + (len(peers) + 1) * ROW + 34
    font = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
    paper = f'viewBox="0 0 {WIDTH} {height}" font-size="13" font-family="{font}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {paper}>',
        f"<title>{size // MIB} MiB reach {len(peers)} peers while the source is read once</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 24, f"{size // MIB} MiB to {len(peers)} peers at once", weight=600),
    ]
    legend = ((SOURCE, "read from the source"), (SEED, "received from the seed"), (PEERS, "from other peers"))
    for at, (colour, words) in enumerate(legend):
        left = LEFT + at * 190
        parts += [f'<rect x="{left}" y="36" width="11" height="11" fill="{colour}"/>', text(left + 17, 46, words, DIM)]
    parts += rows(frame, seen)
    foot = TOP + (len(peers) + 1) * ROW + 8
    for second in range(int(end) + 1):
        x = round(frame.x(second), 1)
        parts.append(f'<path d="M{x} {TOP}V{foot - 14}" stroke="#d0d7de" stroke-width=".6"/>')
        parts.append(text(x, foot + 4, f"{second} s", DIM, anchor="middle"))
    return "\n".join([*parts, "</svg>\n"])


def from_first_byte(seen: dict[str, Any]) -> dict[str, Any]:
    """The same, with time counted from the source's first byte: starting Python five times is nobody's news."""
    begun_at = max(at for at, amount in seen["source"] if not amount)
    moved = [[[at - begun_at, receipt] for at, receipt in samples if at >= begun_at] for samples in seen["peers"]]
    return seen | {"peers": moved, "source": [[at - begun_at, n] for at, n in seen["source"] if at >= begun_at]}


def rows(frame: Frame, seen: dict[str, Any]) -> list[str]:
    """The source, then each peer."""
    sent = [(at, float(amount)) for at, amount in seen["source"]]
    whole_at = next((number for number, (_, amount) in enumerate(sent, 1) if amount >= frame.size), len(sent))
    sent = sent[:whole_at]
    ground = [(at, 0.0) for at, _ in sent]
    parts = [text(LEFT - 12, TOP + 28, "source", anchor="end"), frame.area(0, ground, sent, SOURCE)]
    x = frame.x(sent[-1][0])
    parts.append(text(x + 8, TOP + 28, f"{sent[-1][1] / MIB:.0f} MiB, all of it, once", SOURCE))
    for row, samples in enumerate(seen["peers"], 1):
        done = samples[-1][0]
        seed = [(at, float(receipt["seed"])) for at, receipt in samples]
        whole = [(at, float(sum(receipt.values()))) for at, receipt in samples]
        parts.append(text(LEFT - 12, TOP + row * ROW + 28, f"peer {row}", anchor="end"))
        parts.append(frame.area(row, [(at, 0.0) for at, _ in seed], seed, SEED))
        parts.append(frame.area(row, seed, whole, PEERS))
        x = frame.x(done)
        y0, y1 = frame.y(row, frame.size), frame.y(row, 0)
        parts.append(f'<line x1="{x:.1f}" y1="{y0:.1f}" x2="{x:.1f}" y2="{y1:.1f}" stroke="{INK}" stroke-width="1.4"/>')
    return parts


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
