"""What `inspect` says of whole traces: instants of any size, and answers that nobody saw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from capture.trace_reader import open_trace
from replay.report.trace_text import brief_step, facts_lines, schedule_lines
from replay.transform.arrival_facts import MOST_BUCKETS
from replay.transform.clock_doubts import gap_warnings
from replay.transform.inspection import inspect_trace
from replay.transform.making import Making
from replay.transform.plan import Plan
from replay.transform.schedule_facts import Gathering
from tests.trace_rows import trace_row, write_rows

S = 1_000_000_000
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "demo-traffic.parquet"


def test_idle_centuries_cost_no_memory(tmp_path: Path) -> None:
    last_ns = 9_000_000_000_000_000_000
    path = write_rows(tmp_path / "t.parquet", [trace_row(0, 0), trace_row(1, S), trace_row(2, last_ns)])
    facts = inspect_trace(open_trace(path))
    assert len(facts.arrivals.rate.per_s) <= MOST_BUCKETS + 1
    # Three arrivals, each alone in its window: the variance is the mean.
    assert facts.dispersion == pytest.approx(dict.fromkeys(("0.1s", "1s", "10s", "60s"), 1), abs=1)
    assert any("arrivals span 285 years" in warning for warning in facts.warnings)


TIMES = "began 1970-01-01T00:00:03Z, busiest second 1970-01-01T00:00:13Z, ended 1970-01-01T00:00:23Z"


@pytest.mark.parametrize(("zero_ns", "times"), [(0, []), (S, [f"  times      {TIMES}"])])
def test_when_it_was_is_told_where_there_was_a_wall_clock(
    zero_ns: int, times: list[str], tmp_path: Path
) -> None:
    rows = [trace_row(i, at * S) for i, at in enumerate((2, 12, 12, 22))]
    path = write_rows(tmp_path / "t.parquet", rows, wall_zero_ns=zero_ns)
    told = facts_lines(inspect_trace(open_trace(path)))
    assert [line for line in told if line.startswith("  times")] == times


def test_an_answer_of_which_only_the_length_is_known_was_never_seen(tmp_path: Path) -> None:
    unanswered = trace_row(2, 2 * S, status=None, outcome="in_flight")
    rows = [trace_row(0, 0, status=None), trace_row(1, S), unanswered]
    facts = inspect_trace(open_trace(write_rows(tmp_path / "t.parquet", rows)))
    assert facts.outcomes == {"never seen": 1, "complete": 1, "in_flight": 1}


def test_segments_say_what_was_lost_after_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "1.parquet", [trace_row(0, 0)], counts={"seen": 1, "recorded": 1, "dropped": {}})
    counts = {"seen": 3, "recorded": 1, "dropped": {"disk_full": 2}}
    write_rows(tmp_path / "2.parquet", [], counts=counts)
    lines = facts_lines(inspect_trace(open_trace(tmp_path)))
    assert "  capture    seen 3, recorded 1, dropped disk_full 2" in lines


def test_a_part_of_the_traffic_says_which(tmp_path: Path) -> None:
    counts = {"seen": 9, "recorded": 1, "dropped": {}, "not_chosen": {"filter": 5, "sample": 3}}
    path = write_rows(
        tmp_path / "t.parquet",
        [trace_row(0, 0)],
        counts=counts,
        sampling="25% of sessions, seed x",
        choice={"filter": "~m POST", "sample": 0.25, "sample_seed": "x", "max_body_bytes": 1_000_000},
        recorded_ns=((0, S), (3 * S, None)),
    )
    facts = inspect_trace(open_trace(path))
    lines = list(facts_lines(facts))
    assert "  capture    seen 9, recorded 1, not chosen filter 5, sample 3, dropped none" in lines
    assert "  only       filter ~m POST, bodies of up to 1,000,000 bytes, 25% of sessions, seed x" in lines
    assert any("recording was off once, 2 s in all" in line for line in lines)


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ((), ""),
        (((0, None),), ""),
        (((0, 5 * S), (2 * S, 9 * S), (9 * S, None)), ""),
        (((0, S), (2 * S, 3 * S), (5 * S, 6 * S)), "2 times, 3 s in all"),
    ],
)
def test_gaps_between_spans_are_no_quiet(spans: tuple[tuple[int, int | None], ...], told: str) -> None:
    assert told in "".join(gap_warnings(spans))
    assert bool(gap_warnings(spans)) is bool(told)


@pytest.mark.parametrize(
    ("step", "brief"),
    [
        (
            "amplify 2 (sessions cloned whole, clones shifted by up to ±17.7s, half of them within ±4.82s, "
            "nine of ten within ±11.9s; auto: fitted to the burst curve of that many times the users, "
            "expected within 11.5% (tied clones: 125%), that curve known by a standard error of 108%; "
            "the most typical of 8 draws)",
            "amplify 2 (clones shifted by up to ±17.7s, bursts expected within 11.5% of their target)",
        ),
        ("amplify 2 (sessions cloned whole, clones not shifted)", "amplify 2 (clones not shifted)"),
        ("amplify 0.5 (sessions kept whole, by chance)", "amplify 0.5 (sessions kept whole, by chance)"),
        (
            "spike at=10:00,for=30s,x=4 (10:00 is due at 60s)",
            "spike at=10:00,for=30s,x=4 (10:00 is due at 60s)",
        ),
    ],
)
def test_a_step_is_told_in_a_line(step: str, brief: str) -> None:
    assert brief_step(step) == brief


def test_the_step_that_an_amplification_states_is_told_in_a_line() -> None:
    making, gathering = Making(open_trace(SAMPLE), Plan(amplify=2)), Gathering()
    for piece in making.pieces():
        gathering.add(piece)
    *_, steps = schedule_lines("s", gathering.facts(), making.lineage())
    assert re.fullmatch(
        r"  steps: amplify 2 \(clones shifted by up to ±[\d.]+s, bursts expected within [\d.]+% of their "
        r"target\); clones' prompts unique · seed 0",
        steps,
    )
