"""`inspect` at the command line: traces and schedules as A and B; text, plots, JSON, a page; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.failures import BadInput
from capture.trace_reader import open_trace
from replay.cli.inspecting import inspect
from replay.transform.making import Making
from replay.transform.plan import Plan
from replay.transform.schedule_format import Lineage, Schedule, write_pieces, write_schedule
from replay.transform.shapes import Spike
from tests.trace_rows import trace_row, write_rows

S = 1_000_000_000
WORDS = b"word " * 60


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of chats at 5/s, some of two turns, each with a prompt of its own."""
    rng = np.random.default_rng(1)
    arrivals = np.sort(rng.integers(0, 120 * S, 600))
    rows = [
        trace_row(
            i,
            int(at),
            request_body=b'{"prompt": "%d %s"}' % (i, WORDS),
            session_id=f"s{i % 400}" if i % 3 else None,
            end_ns=int(at) + S // 10,
            input_tokens=int(rng.integers(50, 500)),
            output_tokens=int(rng.integers(1, 50)),
        )
        for i, at in enumerate(arrivals)
    ]
    return write_rows(tmp_path_factory.mktemp("inspect") / "a.parquet", rows)


@pytest.fixture
def cloned(source: Path, tmp_path: Path) -> Path:
    """Every request of the source three times at the same instant."""
    trace = open_trace(source)
    n = trace.rows
    schedule = Schedule(
        due_ns=np.repeat(trace.arrival_ns - trace.arrival_ns[0], 3),
        row=np.repeat(np.arange(n), 3),
        copy=np.tile(np.arange(3, dtype=np.int32), n),
        session=np.arange(3 * n, dtype=np.int64),
        after=np.full(3 * n, -1, np.int64),
        think_ns=np.zeros(3 * n, np.int64),
        phase=np.zeros(3 * n, np.int8),
    )
    lineage = Lineage(str(source), trace.fingerprint, n, ("cloned",), 0)
    write_schedule(tmp_path / "b.schedule.parquet", schedule, lineage)
    return tmp_path / "b.schedule.parquet"


def inspected(capsys: pytest.CaptureFixture[str], *both: Path, **options: Any) -> str:
    first, second = str(both[0]), str(both[1]) if len(both) > 1 else None
    usual = {
        "factor": None,
        "speed": None,
        "html": None,
        "as_json": False,
        "plots": True,
        "overwrite": False,
        "key": None,
    }
    inspect(first, second, **usual | options)
    return capsys.readouterr().out


def test_a_trace_is_told_and_drawn(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = inspected(capsys, source)
    for words in (
        "600 requests over",
        "with several turns (longest 2)",
        "lengths    prompt tokens: p50",
        "of prompt blocks were seen before, over 600 prompts",
        "WARNING    too short to judge bursts of 60 s",
        "requests/s as captured",
        "index of dispersion by window",
        "gaps between requests: % at or below",
        "answer tokens: % at or below",
    ):
        assert words in said, words
    assert "\x1b[" not in said  # no terminal
    assert "index of dispersion by window" not in inspected(capsys, source, plots=False)


def test_clones_at_one_instant_miss_the_target_and_hit_the_cache(
    source: Path, cloned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = inspected(capsys, source, cloned)
    assert "Bursts: 3.00 times as many users" in said
    assert "✗ beyond 10 %" in said
    assert "clones repeat their prompts" in said
    assert "steps      cloned · seed 0" in said
    found = json.loads(inspected(capsys, source, cloned, as_json=True))
    assert found["schema"] == "peaktape.inspection/1"
    assert (found["kind"], found["other"]["kind"]) == ("trace", "schedule")
    assert found["other"]["rows"] == 3 * found["rows"] == 1800
    # Three at each instant: the dispersion is three times the source's.
    for point in found["target"]["points"]:
        assert point["found"] == pytest.approx(3 * point["source"], rel=0.01)
        assert point["target"] == pytest.approx(max(1, 1 + 3 * (point["source"] - 1)), rel=0.02)
    assert found["other"]["prefix"]["share"] > 0.66
    assert found["other"]["lengths"]["input_tokens"]["mean"] == pytest.approx(
        found["lengths"]["input_tokens"]["mean"]
    )


def test_a_schedule_whose_trace_is_gone_tells_what_it_knows(
    source: Path, cloned: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    moved = write_rows(tmp_path / "another.parquet", [trace_row(0, 0)])
    schedule_alone = tmp_path / "moved.schedule.parquet"
    n = np.zeros(1, np.int64)
    schedule = Schedule(n, n, n.astype(np.int32), n, n - 1, n, n.astype(np.int8))
    write_schedule(schedule_alone, schedule, Lineage(str(moved), "another fingerprint", 1, (), 0))
    said = inspected(capsys, schedule_alone)
    assert "is not there as it was: lengths and prefixes are not known" in said
    assert "1 requests" in said


def test_the_page_is_one_file_with_every_figure(
    source: Path, cloned: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "proof.html"
    inspected(capsys, source, cloned, html=page)
    text = page.read_text()
    assert "Not the bursts of 3.00 times as many users" in text
    for heading in ("Key figures", "Rate", "Bursts", "Gaps between requests", "Lengths", "What it is"):
        assert f"<h2>{heading}</h2>" in text
    with pytest.raises(BadInput, match="exists already"):
        inspected(capsys, source, html=page)
    with pytest.raises(BadInput, match="nothing is written over an input"):
        inspected(capsys, source, html=source, overwrite=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 2.0}, "--factor: compares two, and B is missing"),
        ({"speed": 2.0}, "--speed: compares two, and B is missing"),
    ],
)
def test_what_compares_two_wants_two(
    source: Path, options: dict[str, float], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=words):
        inspected(capsys, source, **options)


def test_equal_instants_throughout_are_a_doubt_and_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "t.parquet", [trace_row(i, 5) for i in range(30)])
    said = inspected(capsys, path)
    assert "the source's clock was lost" in said
    assert "gaps between requests: % at or below: nothing to draw" in said
    assert "too short to compare" in inspected(capsys, path, path)


def test_time_that_runs_backwards_says_how_often_and_how_far(tmp_path: Path) -> None:
    rows = [trace_row(i, at) for i, at in enumerate((0, 5 * S, 3 * S, 4 * S, 2 * S))]
    path = write_rows(tmp_path / "t.parquet", rows)
    with pytest.raises(
        BadInput, match=r"row 2, column arrival_ns: 3000000000 found .*\(2 times, by up to 2 s\)"
    ):
        inspect(str(path), None, None, None, None, None, False, True, False)


def test_answers_that_end_before_they_begin_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [trace_row(i, i * S, end_ns=i * S - (i == 3)) for i in range(5)]
    assert "1 answers ended or began before" in inspected(capsys, write_rows(tmp_path / "t.parquet", rows))


def test_where_shapes_leave_no_target_no_legend_names_one(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shaped, page = tmp_path / "shaped.parquet", tmp_path / "page.html"
    plan = Plan(shapes=(Spike(30 * S, 30 * S, 3.0),))
    trace = open_trace(source)
    making = Making(trace, plan)
    write_pieces(shaped, making.pieces(), making.lineage)
    said = inspected(capsys, source, shaped, html=page)
    assert "Bursts: shapes lie over a part of the time" in said
    assert "target" not in said
    assert "within 10 % of it" not in page.read_text()
    assert "chance alone" in page.read_text()
