"""Lines and bars as SVG, in panels of one size. Knows numbers and names, not what they measure.

python -m bench.figure RESULT.json FIGURE.svg      draw again what a bench wrote with --json
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

import msgspec

PANEL_WIDTH, PANEL_HEIGHT, HEAD, FOOT = 440, 300, 64, 26
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 62, 40
ROW = 24
#: A bar's name stands above it, its number behind it.
NUMBER_WIDTH = 84
INK, DIM, GRID, TARGET = "#1f2328", "#6e7781", "#d0d7de", "#8250df"
#: Ours first, so that it has the same colour everywhere; rivals by name, others in turn.
COLOURS = {"dfmq": "#0969da", "curl": "#cf222e", "wget": "#bc4c00", "aria2": "#9a6700", "libtorrent": "#2da44e"}
OTHERS = ("#0969da", "#cf222e", "#2da44e", "#9a6700", "#bf3989", "#1b7c83", "#57606a")


class Lines(msgspec.Struct, frozen=True, kw_only=True, tag="lines"):
    """One panel: for each name, points (x, y). Both axes start at 0 unless `log_x`."""

    title: str
    x: str
    series: dict[str, list[tuple[float, float]]]
    log_x: bool = False
    #: a dashed line, and what it says
    target: float | None = None
    target_name: str = "target"


class Bars(msgspec.Struct, frozen=True, kw_only=True, tag="bars"):
    """One panel: a horizontal bar for each name."""

    title: str
    bars: dict[str, float]
    target: float | None = None


Panel = Lines | Bars


def steps(most: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to at least `most`, about so many: 1, 2 or 5 times a power of ten apart."""
    if most <= 0:
        return [0.0, 1.0]
    raw = most / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    count = math.ceil(most / step - 1e-9)
    return [round(number * step, 12) for number in range(count + 1)]


def shown(value: float) -> str:
    """A number as a reader wants it: three digits, thousands apart, no exponent."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def colour(name: str, number: int) -> str:
    return COLOURS.get(name.partition(" ")[0], OTHERS[number % len(OTHERS)])


def words(x: float, y: float, said: str, ink: str = INK, *, anchor: str = "start", weight: int = 400) -> str:
    shape = f'x="{x:.1f}" y="{y:.1f}" fill="{ink}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {shape}>{escape(said)}</text>"


def draw(title: str, note: str, panels: Sequence[Panel]) -> str:
    """The whole figure; `note` stands small below the title: where and how it was measured."""
    columns = min(2, len(panels)) or 1
    heights = [PANEL_HEIGHT if isinstance(panel, Lines) else TOP + ROW * 2 * len(panel.bars) + 8 for panel in panels]
    rows = [max(heights[at : at + columns]) for at in range(0, len(panels), columns)]
    width, height = max(columns, 2) * PANEL_WIDTH, HEAD + sum(rows) + FOOT
    font = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
    paper = f'viewBox="0 0 {width} {height}" font-size="12" font-family="{font}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {paper}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<g font-size="16">{words(18, 28, title, weight=600)}</g>',
        words(18, 48, note, DIM),
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        body = _lines(panel) if isinstance(panel, Lines) else _bars(panel)
        parts += [f'<g transform="translate({column * PANEL_WIDTH} {HEAD + sum(rows[:row])})">', *body, "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], float(LEFT)
    for number, name in enumerate(names):
        parts.append(f'<rect x="{x:.0f}" y="32" width="10" height="10" fill="{colour(name, number)}"/>')
        parts.append(words(x + 14, 41, name, DIM))
        x += 30 + 6.4 * len(name)
    return parts


def _lines(panel: Lines) -> list[str]:
    points = [point for series in panel.series.values() for point in series]
    xs = sorted({x for x, _ in points})
    ticks = steps(max([y for _, y in points] + [panel.target or 0.0], default=1.0))
    right, floor = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM

    def across(x: float) -> float:
        if panel.log_x and len(xs) > 1:
            share = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        else:
            share = x / xs[-1] if xs and xs[-1] else 0.5
        return LEFT + 8 + (right - LEFT - 16) * share

    def up(y: float) -> float:
        return floor - (floor - TOP) * y / ticks[-1]

    parts = [words(LEFT, 20, panel.title, weight=600), *_legend(list(panel.series))]
    for tick in ticks:
        parts.append(f'<path d="M{LEFT} {up(tick):.1f}H{right}" stroke="{GRID}" stroke-width=".7"/>')
        parts.append(words(LEFT - 6, up(tick) + 4, shown(tick), DIM, anchor="end"))
    free = -math.inf
    for x in xs:
        # Names that would stand in one another are left out.
        if across(x) - free >= 26 or x == xs[-1]:
            parts.append(words(across(x), floor + 16, shown(x), DIM, anchor="middle"))
            free = across(x)
    parts.append(words((LEFT + right) / 2, floor + 32, panel.x, DIM, anchor="middle"))
    if panel.target is not None:
        y = up(panel.target)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{TARGET}" stroke-dasharray="5 4"/>')
        parts.append(words(right, y - 4, panel.target_name, TARGET, anchor="end"))
    for number, (name, series) in enumerate(panel.series.items()):
        ink = colour(name, number)
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in series)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{ink}"/>' for x, y in series]
    return parts


def _bars(panel: Bars) -> list[str]:
    most = max([*panel.bars.values(), panel.target or 0.0], default=1.0) or 1.0
    room = PANEL_WIDTH - 18 - RIGHT - NUMBER_WIDTH
    parts = [words(18, 20, panel.title, weight=600)]
    for number, (name, value) in enumerate(panel.bars.items()):
        y = TOP - 24 + ROW * 2 * number
        parts.append(words(18, y + 12, name, DIM))
        long = room * value / most
        parts.append(f'<rect x="18" y="{y + 18}" width="{max(1.0, long):.1f}" height="14" fill="{colour(name, 0)}"/>')
        parts.append(words(24 + long, y + 29, shown(value)))
    if panel.target is not None:
        x, end = 18 + room * panel.target / most, TOP - 24 + ROW * 2 * len(panel.bars)
        parts.append(f'<path d="M{x:.1f} {TOP - 8}V{end}" stroke="{TARGET}" stroke-dasharray="5 4"/>')
    return parts


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    seen = json.loads(Path(sys.argv[1]).read_text())
    panels = msgspec.convert(seen["panels"], list[Panel])
    Path(sys.argv[2]).write_text(draw(seen["title"], seen["note"], panels), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
