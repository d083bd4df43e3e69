"""All that lies on the axis of time: its panels, the colours of counts, single requests, and their tables."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_requests import sample_waterfall

from replay.analysis.values import DiffResult, RunSummary
from replay.report.heat_panels import COLOURS, count_classes, count_keys
from replay.report.html import diff_page
from replay.report.page_time import charts, course_words, timeline_section
from replay.report.server_charts import MOST_POINTS, extremes
from replay.report.time_axis import timeline_chart
from replay.report.waterfall_data import choice_words, waterfall_data, window_words


@settings(max_examples=100)
@given(st.integers(1, 10**7))
def test_classes_of_counts_leave_no_gap_and_are_few(largest: int) -> None:
    classes = count_classes(largest)
    assert classes[0][0] == 1
    assert classes[-1][1] == largest
    assert all(low <= high for low, high in classes)
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(classes))
    assert len(count_keys(largest)) == len(classes) <= len(COLOURS)


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of "#rrggbb"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_more_requests_are_farther_from_the_ground_in_lightness(theme: int) -> None:
    """Lightness alone tells the classes: that holds for every kind of colour-blindness, and in print."""
    css = (resources.files("replay.report") / "assets" / "page.css").read_text("utf-8")
    ground = luminance(re.findall(r"--ground: (#\w+)", css)[theme])
    steps = [luminance(re.findall(rf"--heat-{step}: (#\w+)", css)[theme]) for step in "abcdef"]
    contrasts = [(max(ground, step) + 0.05) / (min(ground, step) + 0.05) for step in steps]
    assert contrasts[0] >= 2
    ratios = np.array(contrasts[1:]) / np.array(contrasts[:-1])
    assert (ratios > 1.2).all(), ratios


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5000))
def test_a_thinned_line_keeps_its_peaks_and_its_order(seed: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    at_s = np.sort(rng.uniform(0, 1000, samples))
    values = rng.lognormal(0, 2, samples)
    kept = extremes(at_s.tolist(), values.tolist(), 1000.0)
    assert kept == sorted(set(kept))
    assert len(kept) <= max(MOST_POINTS + 2, 0)
    assert {int(values.argmin()), int(values.argmax())} <= set(kept)
    assert samples > MOST_POINTS or len(kept) == samples


def traces_of(figure: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace["type"] == kind]


def test_everything_lies_on_one_axis_of_time(diff: DiffResult) -> None:
    figure = timeline_chart((diff.baseline, diff.candidate))
    axes = {name: axis for name, axis in figure["layout"].items() if name.startswith("xaxis")}
    assert [axis.get("matches") for axis in axes.values()] == [None, "x"]
    names = {trace["name"] for trace in figure["data"]}
    assert {f"build-b {metric} {p}" for metric in ("E2E", "TTFT") for p in ("p50", "p90", "p99")} <= names
    titles = " ".join(note["text"] for note in figure["layout"]["annotations"])
    for word in ("Requests per second", "in flight", "Errors", "KV cache", "spike", "recover"):
        assert word in titles


def test_two_runs_are_counted_in_the_same_colours_over_the_same_latencies(diff: DiffResult) -> None:
    figure = timeline_chart((diff.baseline, diff.candidate))
    maps = traces_of(figure, "heatmap")
    assert len(maps) == 4  # E2E and TTFT of both
    assert len({json.dumps([one["zmax"], one["colorscale"]]) for one in maps}) == 1
    for pair in (maps[:2], maps[2:]):
        axes = [figure["layout"][f"yaxis{one['yaxis'][1:]}"] for one in pair]
        assert axes[0]["range"] == axes[1]["range"]
        assert all(axis["type"] == "log" for axis in axes)
    assert sum(map(sum, maps[0]["z"])) == diff.baseline.heat[0].counts.sum() == 1200


def test_a_run_without_streams_has_no_panel_of_first_tokens(run: RunSummary) -> None:
    whole = dataclasses.replace(run, heat=run.heat[:1])
    titles = [note["text"] for note in timeline_chart((whole,))["layout"]["annotations"]]
    assert not any("TTFT" in title or "first token" in title for title in titles)


def test_it_says_how_many_requests_are_shown_of_how_many() -> None:
    few = sample_waterfall(1)
    assert choice_words(few).startswith("48 of 1,200 requests can be seen: of every 5 s those that took")
    assert window_words(few, 2) == "due 10–15 s: 4 of 100 requests (2 slowest, 1 failed, 1 of the others)"
    assert choice_words(sample_waterfall(2, due=4)) == "All 48 requests, each in both runs, can be seen."
    assert window_words(sample_waterfall(2, due=4), 0) == "due 0–5 s: all 4 requests"


def test_instants_come_back_from_what_the_page_carries(run: RunSummary) -> None:
    waterfall = sample_waterfall(1)
    carried = waterfall_data(waterfall, (run,))["windows"][1]["requests"][0]["lines"][0]
    (line,) = waterfall.windows[1].shown[0].lines
    instants = np.cumsum(carried["reads"]) + carried["due"]
    assert instants == pytest.approx(np.array(line.read_ns) / 1e3, abs=1)
    assert carried["due"] + carried["at"][3] == pytest.approx(line.end_ns / 1e3, abs=1)
    assert not carried["failed"]


def test_a_page_of_two_thousand_long_streams_stays_small(run: RunSummary) -> None:
    """What a page carries at most: windows, requests and reads are all bounded, whatever the run."""
    (line,) = sample_waterfall(1).windows[0].shown[0].lines
    reads = tuple(np.linspace(0, 90e9, 120).tolist())
    long = dataclasses.replace(line, due_ns=0.0, read_ns=reads, reads=9000, end_ns=90e9)
    whole = sample_waterfall(1, windows=50, due=20_000, shown=40)
    windows = tuple(
        dataclasses.replace(
            window, shown=tuple(dataclasses.replace(one, lines=(long,)) for one in window.shown)
        )
        for window in whole.windows
    )
    carried = json.dumps(charts((run,), dataclasses.replace(whole, windows=windows)), separators=(",", ":"))
    assert len(carried) < 3_000_000


def test_the_lines_and_counts_stand_as_words_and_tables(run: RunSummary) -> None:
    page = timeline_section((run,))
    line = run.timeline
    most = max(line.in_flight)
    assert f"in flight {most:.0f}" in course_words(run).replace(",", "")
    assert page.count("<caption>") == 3
    assert page.count('<th scope="row">') >= len(line.sent_per_s)
    cells = re.findall(r"<td>([\d,]+)</td>", page.split("requests by end to end")[1].split("</table>")[0])
    assert sum(int(cell.replace(",", "")) for cell in cells) == 1200


async def opened(page: Page, folder: Path, source: str) -> None:
    path = folder / "page.html"
    await asyncio.to_thread(path.write_text, source, "utf-8")
    await page.open(path.as_uri())


CHART = "document.getElementById('chart-timeline')"
WORDS = "document.getElementById('waterfall-words').textContent"


async def press(page: Page, name: str, key: str, code: int) -> None:
    """Focus an element and press a key on it."""
    await page.value(f"document.getElementById('{name}').focus()")
    for kind in ("keyDown", "keyUp"):
        await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
    await page.settle()
    await page.settle()


@pytest.mark.slow
async def test_a_click_on_the_counts_shows_the_requests_of_that_window(
    chromium: Page, diff: DiffResult, tmp_path: Path
) -> None:
    await chromium.look(1280)
    await opened(chromium, tmp_path, diff_page(diff, ()))
    assert await chromium.value(WORDS) == window_words(sample_waterfall(2), 11)
    await chromium.value(f"{CHART}.scrollIntoView()")
    panel = f"{CHART}.querySelectorAll('.nsewdrag')[2].getBoundingClientRect()"
    left, top, width = await chromium.value(f"(r => [r.left, r.top, r.width])({panel})")
    place = {"x": left + width * 32.5 / 60, "y": top + 75}
    await chromium.call("Input.dispatchMouseEvent", type="mouseMoved", **place)
    await chromium.until(f"{CHART}.querySelector('.hoverlayer > *')")  # what a click counts as a click on
    for kind in ("mousePressed", "mouseReleased"):
        await chromium.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
    await chromium.settle()
    await chromium.settle()
    assert await chromium.value(WORDS) == window_words(sample_waterfall(2), 6)
    rows = "[...document.querySelectorAll('#waterfall-figures .rowgroup')].map(row => row.textContent)"
    shown = [request.request_id for request in sample_waterfall(2).windows[6].shown]
    assert [row.split()[1] for row in await chromium.value(rows)] == shown
    marked = f"(s => [s.x0, s.x1])({CHART}.layout.shapes.find(s => s.name === 'window'))"
    assert await chromium.value(marked) == [30, 35]
    assert chromium.complaints == []


@pytest.mark.slow
async def test_a_keyboard_reaches_every_window_and_every_zoom_at_a_phone_s_width(
    chromium: Page, diff: DiffResult, tmp_path: Path
) -> None:
    await chromium.look(400, dark=True)
    await opened(chromium, tmp_path, diff_page(diff, ()))
    await press(chromium, "waterfall-window", "ArrowLeft", 37)
    assert await chromium.value(WORDS) == window_words(sample_waterfall(2), 10)
    spoken = "document.getElementById('waterfall-window').getAttribute('aria-valuetext')"
    assert await chromium.value(spoken) == window_words(sample_waterfall(2), 10)
    await press(chromium, "waterfall-before", "Enter", 13)
    seen = f"{CHART}._fullLayout.xaxis.range"
    await chromium.value("document.getElementById('time-in').click()")
    await chromium.settle()
    assert await chromium.value(seen) == pytest.approx([15, 45])
    await chromium.value("document.getElementById('time-right').click()")
    await chromium.settle()
    assert await chromium.value(seen) == pytest.approx([30, 60])
    await chromium.look(400)  # a change of theme draws anew, and keeps what was zoomed to
    assert await chromium.value(seen) == pytest.approx([30, 60])
    phase = "(s => { s.selectedIndex = 1; s.dispatchEvent(new Event('change')) })"
    await chromium.value(f"{phase}(document.getElementById('time-span'))")
    await chromium.settle()
    assert await chromium.value(seen) == pytest.approx([24.4, 37.6])
    named = f"[...{CHART}.querySelectorAll('.annotation-text')].map(t => t.textContent)"
    assert "spike" in await chromium.value(named)
    assert "recover" not in await chromium.value(named)  # what is seen of it has no room for its name
    assert await chromium.value("document.documentElement.scrollWidth") <= 400
    assert chromium.complaints == []
