"""What the benches print and draw is what they measured."""

from __future__ import annotations

import argparse
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import figure, outcome
from bench.figure import Bars, Lines

LINES = Lines(title="wall", x="receivers", series={"dfmq": [(1, 2.0), (8, 4.0)], "a <b>": [(1, 1.0)]}, target=3.0)
BARS = Bars(title="cost", bars={"encode": 100.0, "decode": 50.0})


@pytest.mark.parametrize("most", [0.003, 0.9, 1.0, 7.0, 12.0, 999.0, 123_456.0])
def test_an_axis_has_a_few_round_steps_and_ends_at_or_above_the_most(most: float) -> None:
    ticks = figure.steps(most)
    assert ticks[0] == 0
    assert ticks[-2] < most <= ticks[-1]
    assert 2 <= len(ticks) <= 8


def test_a_higher_value_stands_higher_and_twice_the_value_twice_as_high() -> None:
    drawn = figure.draw("title", "note", [LINES])
    paths = re.findall(r'<polyline points="([^"]*)"', drawn)
    (x1, low), (x2, high) = [tuple(map(float, point.split(","))) for point in paths[0].split()]
    floor = figure.PANEL_HEIGHT - figure.BOTTOM
    assert x1 < x2
    assert floor - high == pytest.approx(2 * (floor - low), abs=0.2)


def test_a_bar_is_as_long_as_its_value_in_proportion() -> None:
    drawn = figure.draw("title", "note", [BARS])
    widths = [float(width) for width in re.findall(r'<rect x="18" [^>]*width="([\d.]+)"', drawn)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)


def test_a_figure_is_well_formed_whatever_names_it_gets() -> None:
    empty = Lines(title="", x="", series={}, log_x=True)
    several: list[list[figure.Panel]] = [[], [LINES], [LINES, BARS, LINES], [empty]]
    for panels in several:
        ElementTree.fromstring(figure.draw("a & b", "<note>", panels))


def test_a_figure_can_be_drawn_again_from_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "build" / "result.json"
    chosen = argparse.Namespace(json=str(written), figure=tmp_path / "figures")
    outcome.report("loopback", "Title", {"dfmq": {"wall": 1.0}, "curl": {"wall": 2.0, "rss": "–"}}, [LINES], chosen)
    assert json.loads(written.read_text())["rows"]["curl"]["wall"] == 2.0
    again = tmp_path / "again.svg"
    monkeypatch.setattr("sys.argv", ["figure", str(written), str(again)])
    assert figure.main() == 0
    assert again.read_text() == (tmp_path / "figures" / "loopback.svg").read_text()


def test_shares_and_medians_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert outcome.share(values, 0.5) == 50
    assert outcome.share(values, 0.99) == 99
    assert outcome.share(values, 1.0) == 100
    assert outcome.share([7.0], 0.01) == 7
    assert outcome.median([3.0, 1.0, 2.0]) == 2
