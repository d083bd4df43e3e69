"""Traces of a share of the sessions: what is said of them, and what `--unsample` makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.choice import Choice
from capture.failures import BadInput
from capture.session_sample import SessionSample
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import write_trace
from replay.cli.transform_flags import Transformation
from replay.cli.transforming import plan_of, planned, transform
from replay.report.inspect_page import inspect_page
from replay.report.trace_json import facts_json
from replay.report.trace_text import facts_lines
from replay.transform.inspection import inspect_trace
from replay.transform.recipe_file import read_recipe
from replay.transform.schedule_format import read_schedule
from tests.trace_rows import trace_row, write_rows

S = 1_000_000_000
SESSIONS, TURNS = 600, 3


def captured(path: Path, share: float, *, wall_zero_ns: int = 0) -> Trace:
    """What a capture with `--sample` keeps of 600 conversations of three turns, ten beginning each second."""
    choice = Choice(sample=share, sample_seed="s")
    drawn = SessionSample(share, "s")
    begins = np.sort(np.random.default_rng(5).integers(0, 60 * S, SESSIONS)).tolist()
    turns = [
        (begin + turn * 2 * S, f"chat {number}", turn)
        for number, begin in enumerate(begins)
        for turn in range(TURNS)
        if drawn.takes(f"chat {number}")
    ]
    rows = [
        trace_row(at, arrival_ns, session_id=name, turn=turn)
        for at, (arrival_ns, name, turn) in enumerate(sorted(turns))
    ]
    about = {"sampling": choice.sampling, "choice": choice.described(), "wall_zero_ns": wall_zero_ns}
    return open_trace(write_rows(path, rows, **about))


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return captured(tmp_path_factory.mktemp("sampled") / "quarter.parquet", 0.25)


def test_unsampling_gives_back_about_as_much_traffic_as_production_had(quarter: Trace) -> None:
    schedule, lineage = planned(quarter, plan_of(Transformation(unsample=True)))
    assert len(schedule) == 4 * quarter.rows
    assert len(schedule) == pytest.approx(SESSIONS * TURNS, rel=0.2)  # by which sessions were drawn
    assert lineage.steps[0] == "unsample: 25% of sessions were recorded, amplify 1 is 4"
    assert lineage.steps[1].startswith("amplify 4 (")


def test_it_multiplies_with_amplify_and_is_of_recipes_too(quarter: Trace, tmp_path: Path) -> None:
    path = tmp_path / "r.yml"
    path.write_text("unsample: true\namplify: 1.5\n")
    by_recipe, lineage = planned(quarter, plan_of(Transformation(recipe=path, speed=2)))
    by_hand, _ = planned(quarter, plan_of(Transformation(amplify=6, speed=2)))
    assert np.array_equal(by_recipe.due_ns, by_hand.due_ns)
    assert np.array_equal(by_recipe.row, by_hand.row)
    path.write_text(lineage.recipe)
    assert read_recipe(path) == plan_of(Transformation(unsample=True, amplify=1.5, speed=2)), (
        "as it was asked for"
    )


def test_of_a_trace_with_all_sessions_it_makes_no_more(tmp_path: Path) -> None:
    whole = captured(tmp_path / "all.parquet", 1.0)
    schedule, lineage = planned(whole, plan_of(Transformation(unsample=True)))
    assert len(schedule) == whole.rows == SESSIONS * TURNS
    assert lineage.steps == ("unsample: all sessions were recorded",)


def test_parts_with_different_shares_have_no_one_factor(tmp_path: Path) -> None:
    captured(tmp_path / "a.parquet", 0.1)
    captured(tmp_path / "b.parquet", 0.25, wall_zero_ns=90 * S)
    for name in ("folder", "file"):
        trace = open_trace(tmp_path)
        if name == "file":  # the same when they were made one file
            write_trace(tmp_path / "one" / "file.parquet", trace.iter_batches(), trace.metadata)
            trace = open_trace(tmp_path / "one" / "file.parquet")
        assert trace.metadata.samples == (0.1, 0.25)
        with pytest.raises(BadInput, match="parts with 10% and 25% of sessions found, one share wanted"):
            planned(trace, plan_of(Transformation(unsample=True)))
        facts = inspect_trace(trace)
        assert any("recorded at 10% and 25% of sessions, in parts" in line for line in facts_lines(facts))
        assert facts_json(facts)["production_factor"] is None
    captured(tmp_path / "a.parquet.too" / "a.parquet", 0.25)
    captured(tmp_path / "a.parquet.too" / "b.parquet", 0.25, wall_zero_ns=90 * S)
    assert open_trace(tmp_path / "a.parquet.too").metadata.samples == (0.25,)


def test_inspect_tells_it_beside_the_rate(quarter: Trace) -> None:
    facts = inspect_trace(quarter)
    lines = list(facts_lines(facts))
    rate = next(at for at, line in enumerate(lines) if line.startswith("  rate "))
    assert lines[rate + 1].startswith(
        "  sampled    recorded at 25% of sessions: production had some 4x of this, "
    )
    stated = float(lines[rate + 1].rpartition(", ")[2].removesuffix("/s"))
    assert stated == pytest.approx(4 * facts.arrivals.mean_per_s, rel=0.01)
    assert facts_json(facts)["production_factor"] == 4
    page = inspect_page(facts, None, None, (), ())
    assert "recorded at 25% of sessions: production had some 4x of this" in page


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, "25% of sessions were recorded, and nothing is amplified: production had some 4 times as many"),
        ({"speed": 2.0}, "add --unsample"),
        ({"unsample": True}, ""),
        ({"amplify": 2.0}, ""),
    ],
)
def test_a_sampled_trace_that_is_not_amplified_is_told(
    flags: dict[str, object],
    told: str,
    quarter: Trace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transform(quarter.name, tmp_path / "s.parquet", **flags)  # type: ignore[arg-type]
    said = [line for line in capsys.readouterr().err.splitlines() if "of sessions" in line]
    assert bool(said) == bool(told)
    assert not said or told in said[0]
    assert len(read_schedule(tmp_path / "s.parquet")[0])
