"""The page of a history: what changed on top, every figure over the builds, INVALID runs marked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page
from rich.console import Console
from sample_values import HOSTILE, MS
from test_html_report import Outline, assert_sound, charts_of, opened

from replay.analysis.run_history import BaselineChoice, Point, Series, with_changes
from replay.report.history_page import history_page
from replay.report.history_text import history_report

DAY_NS = 86_400 * 10**9
COMMAND = ("peaktape", "history", "runs/", "--html", "history.html")


def series(metric: str, unit: str, values: list[float], **about: str) -> Series:
    """A run a day; the fifth is INVALID and stands in no level."""
    points = [
        Point(f"{n:02}.parquet", f"build-{n}", n * DAY_NS, value, value * 0.97, value * 1.04)
        for n, value in enumerate(values, 1)
    ]
    spoiled = Point("05.parquet", "build-5", 5 * DAY_NS, 3 * values[4], left_out="INVALID")
    names = {"schedule_fingerprint": "s1", "mode": "open", "group_kind": "all", "group": "", **about}
    return Series(
        metric=metric, unit=unit, points=tuple(points[:4] + points[5:]), left_out=(spoiled,), **names
    )


def measured(**about: str) -> tuple[Series, ...]:
    rng = np.random.default_rng(1)
    ttft = (np.array([90.0] * 9 + [117.0] * 9) + rng.normal(0, 1, 18)) * MS
    found = (
        series("ttft:p50", "ns", ttft.tolist(), **about),
        series("error_rate", "1", [0.0] * 18, **about),
        series("achieved", "1/s", (20 + rng.normal(0, 0.1, 18)).tolist(), **about),
    )
    return with_changes(found, np.random.default_rng(0))


def made(found: tuple[Series, ...], **given: Any) -> str:
    return history_page(found, 18, 1, COMMAND, folder="runs/", **given)


def test_the_change_stands_on_top_and_in_a_table() -> None:
    outline = Outline(made(measured()))
    assert outline.open == []
    words = outline.words
    assert words.index("Worse since build-10") < words.index("18 runs on record")
    assert (
        words.index("TTFT p50: 90") < words.index("1 run INVALID or partial") < words.index("Change points")
    )
    assert "▲ worse" in words
    rows = [attributes for tag, attributes in outline.elements if tag == "tr"]
    assert len(rows) == 1 + 1 + 1 + 18


def test_every_figure_is_a_panel_with_levels_and_the_run_that_is_left_out() -> None:
    chart = charts_of(made(measured()))["history"]["0"]
    levels = [trace for trace in chart["data"] if trace["name"] == "level"]
    assert [trace["x"] for trace in levels] == [[-0.4, 8.4], [8.6, 17.4]]
    assert [round(trace["y"][0]) for trace in levels] == [90, 117]
    crosses = [trace for trace in chart["data"] if trace["name"] == "INVALID or partial"]
    assert [trace["x"] for trace in crosses] == [[4]] * 3
    ttft = chart["layout"]["yaxis1"]["range"]
    assert crosses[0]["y"][0] == pytest.approx(ttft[1], rel=1e-3)  # far off: at the edge, not beyond
    assert "INVALID" in crosses[0]["text"][0]
    bars = next(trace for trace in chart["data"] if trace["name"] == "valid runs")["error_y"]
    assert all(value > 0 for value in bars["array"])


def test_the_baseline_and_the_run_to_compare_are_marked() -> None:
    chosen = BaselineChoice("17.parquet", "build-17", "the latest valid run of this schedule before it")
    source = made(measured(), asked="18.parquet", baseline=chosen)
    assert "baseline for 18.parquet: 17.parquet (build-17)" in source
    assert "peaktape diff runs/17.parquet runs/18.parquet" in source
    shapes = charts_of(source)["history"]["0"]["layout"]["shapes"]
    assert [(shape["x0"], shape["x1"]) for shape in shapes if shape["type"] == "rect"] == [
        (16.5, 17.5),
        (15.5, 16.5),
    ]


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ((series("ttft:p50", "ns", [1e8] * 18),), "No change"),
        ((series("ttft:p50", "ns", [1e8] * 5),), "Too few runs to tell"),
        ((), "Too few runs to tell"),
    ],
)
def test_no_change_and_no_way_to_know_are_told_apart(found: tuple[Series, ...], word: str) -> None:
    outline = Outline(made(found))
    assert outline.open == []
    assert word in outline.words


@pytest.mark.slow
async def test_the_page_draws_on_a_desk_and_on_a_phone(chromium: Page, tmp_path: Path) -> None:
    hostile = measured(group_kind="model", group=HOSTILE)
    await chromium.look(390)
    await opened(chromium, tmp_path, "history", made((*measured(group_kind="model", group="a"), *hostile)))
    await assert_sound(chromium, charts=1)
    await chromium.screenshot(tmp_path / "history_390_light.png")
    await chromium.look(1280, dark=True)
    await chromium.value(
        "(s => { s.value = '1'; s.dispatchEvent(new Event('change')); return 1 })"
        "(document.getElementById('history-group'))"
    )
    await chromium.settle()
    await assert_sound(chromium, charts=1)
    await chromium.screenshot(tmp_path / "history_1280_dark.png")
    assert await chromium.value("window.hacked === undefined")
    panels = "document.querySelectorAll('#chart-history .ytitle, #chart-history .annotation-text').length"
    assert await chromium.value(panels) >= 3


def test_the_terminal_claims_no_level_either_where_too_few_runs_are_known() -> None:
    console = Console(file=io.StringIO(), width=120)
    short = (series("ttft:p50", "ns", [1e8] * 5),)
    console.print(history_report(short, 5, 0, folder="runs"))
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "1 of 1 figures have fewer than 6 valid runs: no change could be found in them" in told
    assert "stays on its level" not in told
