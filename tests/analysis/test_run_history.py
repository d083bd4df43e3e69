"""The history: figures in one table, series of what can be compared, and the baseline that a run deserves."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from made_runs import MS, MadeRun, S

from replay.analysis.latency_shapes import quantile_intervals
from replay.analysis.metrics import Latencies
from replay.analysis.run_history import (
    HISTORY_SCHEMA,
    baseline_for,
    completed,
    history_rows,
    known_runs,
    series_of,
    with_changes,
)
from replay.analysis.summary import summarise

DAY_NS = 86_400 * S


def measured(day: int, e2e_ms: float, *, label: str, schedule: str = "s1", **changes: object) -> pa.Table:
    """The rows of one run of 40 requests that take about `e2e_ms`."""
    noise = np.random.default_rng(day).normal(0, 1, 40)
    made = MadeRun(due_ns=np.arange(40) * 50 * MS, e2e_ns=(e2e_ms + noise) * MS)
    about = {"label": label, "schedule_fingerprint": schedule, "zero_wall_ns": day * DAY_NS, **changes}
    run = made.run(**about)
    return history_rows(f"run-{day:02}.parquet", run.metadata, summarise(run))


def of_days(levels: list[float], **about: object) -> pa.Table:
    return pa.concat_tables(
        measured(day, level, label=f"build-{day}", **about) for day, level in enumerate(levels, 1)
    )


def test_a_run_becomes_rows_that_say_what_they_are() -> None:
    rows = measured(1, 20, label="a")
    assert rows.schema == HISTORY_SCHEMA
    (found,) = [
        row
        for row in rows.to_pylist()
        if (row["group_kind"], row["metric"], row["clock"]) == ("all", "e2e:p50", "due")
    ]
    assert found["unit"] == "ns"
    assert abs(found["value"] / MS - 20) < 1
    assert (found["run"], found["requests"], found["valid"]) == ("run-01.parquet", 40, True)
    assert known_runs(rows) == {("run-01.parquet", DAY_NS)}


def test_series_hold_the_valid_whole_runs_of_one_schedule_in_order() -> None:
    history = pa.concat_tables(
        [
            measured(3, 22, label="c"),
            measured(1, 20, label="a"),
            measured(2, 21, label="b", partial=True),
            measured(4, 90, label="d", scheduled=4000),  # most of it was never sent: INVALID
            measured(5, 50, label="e", schedule="s2"),
        ]
    )
    found = {one.schedule_fingerprint: one for one in series_of(history, ("e2e:p50",))}
    runs = [point.run for point in found["s1"].points]
    assert "run-02.parquet" not in runs
    assert runs == sorted(runs)
    assert runs[0] == "run-01.parquet"
    assert [point.run for point in found["s2"].points] == ["run-05.parquet"]


def test_a_run_that_is_left_out_is_told_with_its_reason() -> None:
    history = pa.concat_tables(
        [
            measured(1, 20, label="a"),
            measured(2, 21, label="b", partial=True),
            measured(3, 90, label="c", scheduled=4000),  # most of it was never sent
        ]
    )
    (one,) = series_of(history, ("e2e:p50",))
    assert [(point.label, point.left_out) for point in one.left_out] == [("b", "partial"), ("c", "INVALID")]
    assert [point.left_out for point in one.points] == [""]


def test_points_carry_the_interval_that_their_run_tells() -> None:
    made = MadeRun(due_ns=np.arange(300) * 50 * MS, e2e_ns=np.random.default_rng(1).normal(20, 2, 300) * MS)
    run = made.run(label="a")
    latencies = Latencies(run)
    rows = history_rows(
        "a.parquet", run.metadata, summarise(run, (), latencies), quantile_intervals(latencies)
    )
    (point,) = series_of(rows, ("e2e:p50",))[0].points
    assert point.low < point.value < point.high < 21 * MS
    (achieved,) = series_of(rows, ("achieved",))[0].points
    assert math.isnan(achieved.low)


def test_a_table_of_before_gets_the_columns_that_came_since() -> None:
    rows = measured(1, 20, label="a")
    before = rows.drop_columns(["low", "high"])
    again = completed(before)
    assert again is not None
    assert again.schema == HISTORY_SCHEMA
    assert math.isnan(series_of(again, ("e2e:p50",))[0].points[0].low)
    assert completed(rows.drop_columns(["value"])) is None
    assert completed(pa.table({"x": [1]})) is None


def test_a_slower_build_is_a_change_of_the_latencies_and_of_nothing_else() -> None:
    series = series_of(of_days([20.0] * 8 + [26.0] * 8), ("e2e:p50", "error_rate"))
    e2e, errors = with_changes(series, np.random.default_rng(0))
    assert (e2e.metric, errors.metric) == ("e2e:p50", "error_rate")
    (change,) = e2e.changes
    assert e2e.points[change.at].label == "build-9"
    assert abs(change.change - 0.3) < 0.05
    assert errors.changes == ()


def test_the_baseline_is_the_latest_of_another_build_on_this_level() -> None:
    history = of_days([20.0] * 8 + [26.0] * 8)
    series = with_changes(series_of(history, ("e2e:p50",)), np.random.default_rng(0))
    found = baseline_for(history, "run-16.parquet", series)
    assert found is not None
    assert found.run == "run-15.parquet"
    assert "after the last change" in found.why
    again = pa.concat_tables([history, measured(17, 26, label="build-16")])
    series = with_changes(series_of(again, ("e2e:p50",)), np.random.default_rng(0))
    rerun = baseline_for(again, "run-17.parquet", series)
    assert rerun is not None
    assert rerun.label == "build-15"


def test_what_has_nothing_before_it_has_no_baseline() -> None:
    history = pa.concat_tables([measured(1, 20, label="a"), measured(2, 20, label="b", schedule="s2")])
    series = series_of(history, ("e2e:p50",))
    assert baseline_for(history, "run-02.parquet", series) is None
    assert baseline_for(history, "unknown.parquet", series) is None
