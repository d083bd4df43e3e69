"""The page of an inspection: drawn in both themes and on a phone, one file, safe whatever names it shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from browser import Page
from sample_values import HOSTILE
from test_html_report import Outline, assert_sound, opened

from replay.report.inspect_page import inspect_page
from replay.transform.arrival_facts import arrival_facts, distribution_of
from replay.transform.burst_target import BurstTarget, Change, burst_target, source_curve
from replay.transform.content_facts import ContentFacts, PrefixReuse, session_facts
from replay.transform.inspection import InspectedSchedule, TraceFacts
from replay.transform.schedule_format import Lineage

S = 1_000_000_000
COMMAND = ("peaktape", "inspect", "a.parquet", "b.parquet")


def instants(rate_per_s: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).integers(0, 900 * S, 900 * rate_per_s))


def content(n: int, seed: int) -> ContentFacts:
    rng = np.random.default_rng(seed)
    lengths = {"input_tokens": rng.geometric(0.002, n), "output_tokens": rng.geometric(0.01, n)}
    sessions = session_facts(rng.integers(0, n // 2, n), rng.exponential(3, n))
    known = {name: one for name, column in lengths.items() if (one := distribution_of(column))}
    return ContentFacts(sessions, known, PrefixReuse(0.25, n, 9 * n))


def both() -> tuple[TraceFacts, InspectedSchedule, BurstTarget]:
    one, many = instants(5, 1), instants(20, 2)
    trace = TraceFacts(
        name="prod/a.parquet",
        fingerprint="f",
        source="capture http://prod",
        upstreams=(),
        arrivals=arrival_facts(one),
        content=content(len(one), 1),
        endpoints={"POST /v1/chat/completions": len(one)},
        models={"llama": len(one)},
        outcomes={"complete": len(one)},
        statuses={"200": len(one)},
        streams=0,
        request_body_bytes=0,
        input_tokens=0,
        output_tokens=0,
        rows_with_usage=0,
        counts={},
        sampling="all",
        samples=(1.0,),
        choice={},
        redaction={},
        notes=("a note",),
        warnings=("a doubt",),
    )
    lineage = Lineage("prod/a.parquet", "f", len(one), ("amplify 4",), 0)
    made = InspectedSchedule(
        "b.parquet", lineage, arrival_facts(many), {"base": len(many)}, content(len(many), 2), (), ()
    )
    target = burst_target(source_curve(one, None, Change()), arrival_facts(many), Change())
    points = tuple(dataclasses.replace(point, found=1.02 * point.target) for point in target.points)
    return trace, made, dataclasses.replace(target, points=points)


def test_the_verdict_stands_on_top_and_every_window_in_a_table() -> None:
    trace, made, target = both()
    outline = Outline(inspect_page(trace, made, target, ("a doubt about both",), COMMAND))
    assert outline.open == []
    order = [
        "The bursts of 4.00 times as many users",
        "over 1 s",
        "a doubt about both",
        "Key figures",
        "Bursts",
    ]
    places = [outline.words.index(words) for words in order]
    assert places == sorted(places)
    rows = [
        attributes for tag, attributes in outline.elements if tag == "th" and attributes.get("scope") == "row"
    ]
    assert len(rows) > 2 * len(target.points)


def test_a_missed_window_is_a_verdict_unless_chance_may_miss_it() -> None:
    trace, made, target = both()

    def page(found: float, error: float) -> str:
        points = tuple(
            dataclasses.replace(point, found=point.target * found, error=error) for point in target.points
        )
        return inspect_page(trace, made, dataclasses.replace(target, points=points), (), ())

    assert "Not the bursts of" in page(1.3, 0.05)
    assert "Too short to tell the bursts of" in page(1.3, 0.2)
    assert "The bursts of" in page(1.05, 0.01)


def test_one_request_makes_a_page() -> None:
    trace, _, _ = both()
    alone = dataclasses.replace(
        trace,
        arrivals=arrival_facts(np.zeros(1, np.int64)),
        content=ContentFacts(session_facts(np.zeros(1, np.int64), np.empty(0)), {}, None),
    )
    outline = Outline(inspect_page(alone, None, None, (), ()))
    assert outline.open == []
    assert "Too short to tell its bursts" in outline.words


@pytest.mark.slow
async def test_the_inspection_draws_in_both_themes_and_on_a_phone(chromium: Page, tmp_path: Path) -> None:
    trace, made, target = both()
    hostile = dataclasses.replace(trace, name=HOSTILE, endpoints={HOSTILE: 1}, notes=(HOSTILE,))
    await chromium.look(390)
    await opened(chromium, tmp_path, "inspect", inspect_page(hostile, made, target, (), COMMAND))
    await assert_sound(chromium, charts=6)
    await chromium.look(1280, dark=True)
    await assert_sound(chromium, charts=6)
    title = "document.querySelector('#chart-lengths .xtitle').textContent"
    assert await chromium.value(title) == "prompt tokens"
    await chromium.value(
        "(s => { s.value = 'output_tokens'; s.dispatchEvent(new Event('change')); return 1 })"
        "(document.getElementById('lengths-of'))"
    )
    await chromium.settle()
    assert await chromium.value(title) == "answer tokens"
    assert await chromium.value("window.hacked === undefined")
    assert await chromium.value("document.querySelectorAll('img').length") == 0
