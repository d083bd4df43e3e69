"""The page: one file that needs nothing else, safe whatever its labels hold, legible in every window."""

from __future__ import annotations

import asyncio
import dataclasses
import html.parser
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from sample_values import HOSTILE

from replay.analysis.values import DiffResult, RunSummary
from replay.report.charts import effect_charts
from replay.report.distribution_charts import distribution_charts
from replay.report.html import diff_page, run_page
from replay.report.shift_charts import shift_charts
from replay.report.time_axis import timeline_chart

COMMAND = ("peaktape", "diff", "runs/a.parquet", "runs/b 2.parquet", "--html", "diff.html")
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Outline(html.parser.HTMLParser):
    """What a parser makes of a page: its elements, its text, and whether all that opens is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["script"] and self.open[-1:] != ["style"]:
            self.words += f"{data}\n"


def charts_of(source: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', source, re.S)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_verdict_and_its_doubt_stand_on_top(diff: DiffResult) -> None:
    words = Outline(diff_page(diff, COMMAND)).words
    order = [
        "Regression",
        diff.reasons[0],
        "How far to trust it",
        "1,240 pairs",
        "Key figures",
        "What changed",
    ]
    places = [words.index(text) for text in order]
    assert places == sorted(places)


def test_the_page_says_how_to_reproduce_it(diff: DiffResult) -> None:
    words = Outline(diff_page(diff, COMMAND)).words
    assert "peaktape diff runs/a.parquet 'runs/b 2.parquet' --html diff.html" in words
    for fact in (diff.baseline.target, "speed 5 → spike", "2,000 stationary block resamples", "seed 1"):
        assert fact in words


def test_every_effect_is_in_a_real_table(diff: DiffResult) -> None:
    outline = Outline(diff_page(diff, COMMAND))
    assert outline.open == []
    rows = sum(tag == "tr" for tag, _ in outline.elements)
    assert rows > len(diff.effects)
    headings = [attributes for tag, attributes in outline.elements if tag == "th"]
    assert all(attributes.get("scope") for attributes in headings)
    captions = sum(tag == "caption" for tag, _ in outline.elements)
    assert captions == sum(tag == "table" for tag, _ in outline.elements)


def test_no_element_refers_to_anything_outside(diff: DiffResult) -> None:
    outline = Outline(diff_page(diff, COMMAND))
    for tag, attributes in outline.elements:
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert not {"src", "href", "srcset", "action"} & set(attributes), (tag, attributes)


def test_the_policy_forbids_every_fetch_and_foreign_script(diff: DiffResult) -> None:
    policy = next(
        a["content"]
        for tag, a in Outline(diff_page(diff, ())).elements
        if "content" in a and a.get("http-equiv")
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_hostile_text_stays_text(spoiled_diff: DiffResult) -> None:
    source = diff_page(spoiled_diff, (HOSTILE,))
    outline = Outline(source)
    assert outline.open == []
    assert [tag for tag, _ in outline.elements].count("script") == 3  # the data, plotly.js, ours
    assert not [tag for tag, _ in outline.elements if tag == "img"]
    assert HOSTILE in outline.words
    assert "<script>window.hacked" not in source
    names = [trace.get("name", "") for trace in charts_of(source)["timeline"]["data"]]
    assert not any("<" in name for name in names)


def test_missing_quantities_leave_gaps_and_break_nothing(run: RunSummary, diff: DiffResult) -> None:
    drawn = {trace.get("name"): trace for trace in timeline_chart((run,))["data"]}
    assert drawn["build-a TTFT p50"]["y"][3] is None
    effect = diff.effects[0]
    names = ("effect_ns", "low_ns", "high_ns", "noise_floor_ns", "minimum_detectable_ns", "p_value")
    unknown = dataclasses.replace(effect, **dict.fromkeys(names, math.nan))
    without_floor = dataclasses.replace(effect, noise_floor_ns=math.nan)
    spoiled = dataclasses.replace(diff, effects=(unknown, without_floor))
    assert effect_charts(spoiled)["0"]["data"][1]["x"] == [None]
    assert "NaN" not in json.dumps(charts_of(diff_page(spoiled, ())))


def test_a_value_between_two_gaps_is_a_dot(run: RunSummary) -> None:
    p99 = (1e8, math.nan, 2e8, math.nan, 3e8, 4e8)
    chart = timeline_chart(
        (dataclasses.replace(run, timeline=dataclasses.replace(run.timeline, e2e_p99_ns=p99)),)
    )
    (trace,) = [trace for trace in chart["data"] if trace["name"].endswith("E2E p99")]
    assert trace["mode"] == "lines+markers"
    assert [size > 0 for size in trace["marker"]["size"]] == [True, False, True, False, False, False]


def test_a_number_and_its_unit_stay_on_one_line(run: RunSummary) -> None:
    check = dataclasses.replace(
        run.validity.checks[0], found="1.25 → 1.25 at 10 s, 60 s", wanted="below 1 % of it"
    )
    page = run_page(dataclasses.replace(run, validity=dataclasses.replace(run.validity, checks=(check,))), ())
    assert "1.25 → 1.25 at 10&nbsp;s, 60&nbsp;s" in page
    assert "below 1&nbsp;% of it" in page


def test_an_empty_run_makes_a_page(run: RunSummary) -> None:
    nothing = dict.fromkeys(("scheduled_per_s", "sent_per_s", "errors_per_s", "in_flight"), ()) | {
        f"{metric}_p{p}_ns": () for metric in ("e2e", "ttft") for p in (50, 90, 99)
    }
    empty = dataclasses.replace(
        run,
        scheduled=0,
        sent=0,
        ok=0,
        groups=(),
        objectives=(),
        distributions=(),
        timeline=dataclasses.replace(run.timeline, **nothing, phases=()),
        heat=(),
        waterfall=None,
        lateness_quantile_ns={},
    )
    assert Outline(run_page(empty, ())).open == []


def percentiles_of(figure: dict[str, Any]) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace.get("fill") != "toself"]


def test_percentiles_end_where_the_run_no_longer_bounds_them(diff: DiffResult) -> None:
    runs = (diff.baseline, diff.candidate)
    charts = distribution_charts(runs)
    known = {(one.group.name, one.metric): one.known_to for one in diff.baseline.distributions}
    chat, few = charts["1|ttft|percentiles"], charts["3|e2e|percentiles"]
    for figure, group, metric in (
        (chat, "POST /v1/chat/completions", "ttft"),
        (few, "POST /v2/models/churn/infer", "e2e"),
    ):
        one, other = percentiles_of(figure)
        end = 1 / (1 - known[group, metric])
        assert one["x"][0] == 2
        assert one["x"][-1] == pytest.approx(end, rel=1e-3)
        assert figure["layout"]["shapes"][0]["x0"] == pytest.approx(
            max(one["x"][-1], other["x"][-1]), rel=1e-3
        )
        assert "not known beyond p9" in figure["layout"]["annotations"][0]["text"]
        assert len(one["x"]) == len(one["y"]) == len(one["text"])
    assert known["POST /v2/models/churn/infer", "e2e"] < known["POST /v1/chat/completions", "ttft"] < 0.9999


def test_the_shift_has_its_band_its_tolerance_and_its_certain_quantiles(diff: DiffResult) -> None:
    (shift,) = [
        one for one in diff.shifts if (one.metric, one.group.name) == ("ttft", "POST /v1/chat/completions")
    ]
    tolerance, band, line = shift_charts(diff)["1|ttft|share"]["data"]
    assert max(tolerance["y"]) == 2.0
    assert len(band["x"]) == 2 * len(shift.quantiles)
    assert line["y"][-1] == pytest.approx(100 * shift.effect_ns[-1] / shift.baseline_ns[-1], rel=1e-4)
    certain = [symbol == "circle" for symbol in line["marker"]["symbol"]]
    assert certain == [low > 0 or high < 0 for low, high in zip(shift.low_ns, shift.high_ns, strict=True)]
    (few,) = [one for one in diff.shifts if one.group.name == "POST /v2/models/churn/infer"]
    _, band, line = shift_charts(diff)["3|e2e|time"]["data"]
    assert len(band["x"]) == 2 * sum(map(math.isfinite, few.low_ns)) < 2 * len(few.quantiles)
    assert "too few requests for an interval" in line["text"][0]


def test_what_the_charts_show_is_in_tables_too(diff: DiffResult) -> None:
    words = " ".join(Outline(diff_page(diff, ())).words.split())
    for caption in ("Percentiles from due with 95 % intervals", "Change of each quantile in percent"):
        assert caption in words


def test_without_distributions_there_is_no_empty_section(diff: DiffResult) -> None:
    bare = dataclasses.replace(
        diff,
        baseline=dataclasses.replace(diff.baseline, distributions=()),
        candidate=dataclasses.replace(diff.candidate, distributions=()),
        shifts=(),
    )
    words = Outline(diff_page(bare, ())).words
    assert "Shift function" not in words
    assert "Latency distribution" not in words


async def opened(page: Page, folder: Path, name: str, source: str) -> None:
    path = folder / f"{name}.html"
    await asyncio.to_thread(path.write_text, source, "utf-8")
    await page.open(path.as_uri())


async def assert_sound(page: Page, charts: int) -> None:
    """No complaint, no request but the file, no sideways scrolling, and every chart has drawn its traces."""
    assert page.complaints == []
    assert {url.split(":")[0] for url in page.requests} <= {"file", "data", "blob"}
    assert sum(url.startswith("file:") for url in page.requests) == 1
    assert await page.value("document.documentElement.scrollWidth") <= await page.value("window.innerWidth")
    drawn = await page.value(
        "[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('.trace').length)"
    )
    assert len(drawn) == charts
    assert all(drawn), drawn


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
async def test_the_comparison_draws_in_both_themes(
    chromium: Page, diff: DiffResult, tmp_path: Path, width: int
) -> None:
    await chromium.look(width)
    await opened(chromium, tmp_path, "diff", diff_page(diff, COMMAND))
    await assert_sound(chromium, charts=5)
    await chromium.screenshot(tmp_path / f"diff_{width}_light.png")
    colour = "getComputedStyle(document.querySelector('#chart-distribution .js-line')).stroke"
    light = await chromium.value(colour)
    await chromium.look(width, dark=True)  # the reader changes the theme, and the page is not loaded anew
    await assert_sound(chromium, charts=5)
    await chromium.screenshot(tmp_path / f"diff_{width}_dark.png")
    assert light == "rgb(0, 114, 178)"
    assert await chromium.value(colour) == "rgb(86, 180, 233)"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
async def test_tables_are_legible_or_say_that_they_go_on(
    chromium: Page, diff: DiffResult, tmp_path: Path, width: int
) -> None:
    await chromium.look(width)
    await opened(chromium, tmp_path, "diff", diff_page(diff, COMMAND))
    await chromium.value("[...document.querySelectorAll('details')].map(d => d.open = true).length")
    await chromium.settle()
    frames = await chromium.value(
        "[...document.querySelectorAll('.frame')].map(f => [f.firstChild.className, f.scrollWidth > "
        "f.clientWidth, getComputedStyle(f.querySelector('caption'), '::after').content.includes('scroll')])"
    )
    assert all(goes_on == marked for _, goes_on, marked in frames), frames
    assert not any(goes_on for kind, goes_on, _ in frames if width == 1280 or kind == "checks"), frames
    one_line = ".once, .choice > span"
    lines = await chromium.value(
        f"[...document.querySelectorAll('{one_line}')].map(e => e.getClientRects().length)"
    )
    assert len(lines) > 4
    assert set(lines) <= {0, 1}, "a kind and its count, or a label, is broken in two"
    if width == 390:
        kept = "getComputedStyle(document.querySelector('.effects tbody th[scope=row]')).position"
        assert await chromium.value(kept) == "sticky"


@pytest.mark.slow
async def test_choices_change_the_charts(chromium: Page, diff: DiffResult, tmp_path: Path) -> None:
    await chromium.look(1280)
    await opened(chromium, tmp_path, "diff", diff_page(diff, COMMAND))

    async def choose(name: str, value: str) -> None:
        await chromium.value(
            f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')); return 1 }})"
            f"(document.getElementById('{name}'))"
        )
        await chromium.settle()

    title = "document.querySelector('#chart-distribution .ytitle').textContent"
    assert (await chromium.value(title)).startswith("TTFT")
    await choose("distribution-view", "density")
    await choose("distribution-metric", "e2e")
    axis = "document.querySelector('#chart-distribution .xtitle').textContent"
    assert (await chromium.value(axis)).startswith("E2E")
    await choose("shift-metric", "itl")
    await choose("shift-view", "time")
    title = "document.querySelector('#chart-shift .ytitle').textContent"
    assert await chromium.value(title) == "change of ITL"
    await choose("shift-group", "2")  # an endpoint that doesn't stream: E2E is left to choose
    assert await chromium.value(title) == "change of E2E"
    left = "[...document.getElementById('shift-metric').options].filter(o => !o.disabled).map(o => o.value)"
    assert await chromium.value(left) == ["e2e"]
    rows = "document.querySelectorAll('#chart-effects .ytick').length"
    assert await chromium.value(rows) == 24
    await choose("effects-group", "2")  # an endpoint that doesn't stream: E2E only
    assert await chromium.value(rows) == 8
    await assert_sound(chromium, charts=5)


@pytest.mark.slow
async def test_zooming_one_panel_zooms_all(chromium: Page, run: RunSummary, tmp_path: Path) -> None:
    await chromium.look(1280, 3000)
    await opened(chromium, tmp_path, "run", run_page(run, ()))
    chart = "document.getElementById('chart-timeline')"
    left, top, width = await chromium.value(
        f"(r => [r.left, r.top, r.width])({chart}.querySelectorAll('.nsewdrag')[2].getBoundingClientRect())"
    )
    for kind, share in (("mousePressed", 0.25), ("mouseMoved", 0.5), ("mouseReleased", 0.5)):
        place = {"x": left + share * width, "y": top + 50}
        await chromium.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
        await chromium.settle()
    assert await chromium.value(f"{chart}._fullLayout.xaxis.range") == pytest.approx([15, 30], abs=0.5)
    assert await chromium.value(f"{chart}._fullLayout.xaxis2.range") == await chromium.value(
        f"{chart}._fullLayout.xaxis.range"
    )
    shared = f"new Set({chart}._fullData.filter(t => t.name !== 'scale').map(t => t.xaxis)).size"
    assert await chromium.value(shared) == 1
    await assert_sound(chromium, charts=3)


@pytest.mark.slow
async def test_hostile_text_runs_nothing(chromium: Page, spoiled_diff: DiffResult, tmp_path: Path) -> None:
    await chromium.look(390)
    await opened(chromium, tmp_path, "hostile", diff_page(spoiled_diff, (HOSTILE,)))
    await assert_sound(chromium, charts=5)
    assert await chromium.value("window.hacked === undefined")
    assert await chromium.value("document.querySelectorAll('img').length") == 0


@pytest.mark.slow
async def test_a_script_that_found_a_way_in_would_not_run(
    chromium: Page, run: RunSummary, tmp_path: Path
) -> None:
    source = run_page(run, ()).replace("<main>", "<main><script>window.hacked = 1</script>", 1)
    await opened(chromium, tmp_path, "injected", source)
    assert await chromium.value("window.hacked === undefined")
    assert any("Content Security Policy" in complaint for complaint in chromium.complaints)
