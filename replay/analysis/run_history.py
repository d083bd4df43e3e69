"""Every run's summary in one long table, and what it says over time: series, change points, baselines.

Values in, values out: where the table is kept and how it is drawn is decided elsewhere. A figure is only
compared with the same figure of runs of the same schedule in the same mode.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from replay.analysis.change_points import ChangePoint, change_points
from replay.analysis.latency_shapes import Interval
from replay.analysis.values import Group, RunSummary
from replay.engine.run_format import RunMetadata

HISTORY_SCHEMA: Final = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),  # its file's name, as it was when it was added
        pa.field("started", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("schedule_fingerprint", pa.string(), nullable=False),
        pa.field("trace_fingerprint", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("valid", pa.bool_(), nullable=False),
        pa.field("partial", pa.bool_(), nullable=False),
        pa.field("requests", pa.int64(), nullable=False),
        pa.field("group_kind", pa.string(), nullable=False),  # all, endpoint, model, phase
        pa.field("group", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("clock", pa.string()),  # due or sent; null for what is no latency
        pa.field("quantile", pa.float64()),  # null for what is no quantile
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("low", pa.float64()),  # 95 % interval from within the run; null where there is none
        pa.field("high", pa.float64()),
    ]
)
"""One row per figure of a run. `started` is the wall clock at the run's zero. New columns come last."""

_FIRST_COLUMNS: Final = 17

DEFAULT_METRICS: Final = ("ttft:p50", "ttft:p99", "tpot:p50", "e2e:p50", "e2e:p99", "error_rate", "achieved")


@dataclasses.dataclass(frozen=True)
class Point:
    """One run's figure: which run, which build, when (ns since the epoch), and the value.

    `low` and `high` are the ends of its 95 % interval, as far as the run itself tells; NaN where unknown.
    """

    run: str
    label: str
    started_ns: int
    value: float
    low: float = math.nan
    high: float = math.nan
    left_out: str = ""
    """Why it is in no series: "INVALID" or "partial"; "" for a point of one."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One figure over the valid, whole runs of one schedule, first to last; `unit` is ns, 1/s or 1."""

    schedule_fingerprint: str
    mode: str
    group_kind: str
    group: str
    metric: str
    unit: str
    points: tuple[Point, ...]
    changes: tuple[ChangePoint, ...] = ()
    left_out: tuple[Point, ...] = ()
    """The figure of INVALID and partial runs; NaN where such a run has none."""


@dataclasses.dataclass(frozen=True)
class BaselineChoice:
    """The run to compare another with, and why that one."""

    run: str
    label: str
    why: str


def history_rows(
    name: str,
    metadata: RunMetadata,
    summary: RunSummary,
    intervals: Mapping[tuple[Group, str, float], Interval] | None = None,
) -> pa.Table:
    """All figures of one run as rows of `HISTORY_SCHEMA`; `intervals` as `quantile_intervals` finds them."""
    about: dict[str, Any] = {
        "run": name,
        "started": metadata.zero_wall_ns,
        "label": metadata.label,
        "target": metadata.target,
        "schedule_fingerprint": metadata.schedule_fingerprint,
        "trace_fingerprint": metadata.trace_fingerprint,
        "mode": metadata.mode,
        "valid": summary.validity.valid,
        "partial": metadata.partial,
        "requests": summary.scheduled,
    }
    rows = [{**about, **figure} for figure in _figures(summary, intervals or {})]
    return pa.Table.from_pylist(rows, schema=HISTORY_SCHEMA)


def _figures(
    summary: RunSummary, intervals: Mapping[tuple[Group, str, float], Interval]
) -> Iterator[dict[str, Any]]:
    whole = {"group_kind": "all", "group": ""}
    yield {**whole, "metric": "error_rate", "value": summary.error_rate, "unit": "1"}
    yield {**whole, "metric": "achieved", "value": summary.achieved_per_s, "unit": "1/s"}
    yield {**whole, "metric": "output_tokens", "value": float(summary.output_tokens), "unit": "1"}
    for found in summary.groups:
        about = {"group_kind": found.group.kind, "group": found.group.name, "unit": "ns"}
        for metric in found.metrics:
            for quantile, value_ns in metric.quantile_ns.items():
                name = f"{metric.metric}:p{quantile * 100:g}"
                clocked = {"metric": name, "clock": metric.clock, "quantile": quantile, "value": value_ns}
                if metric.clock == "due":
                    ends = intervals.get((found.group, metric.metric, quantile), (None, None))
                    clocked |= {"low": ends[0], "high": ends[1]}
                yield {**about, **clocked}


def completed(table: pa.Table) -> pa.Table | None:
    """A table of an earlier version with the columns that were added since, null; None for another table."""
    if table.schema.names != HISTORY_SCHEMA.names[: len(table.schema)] or len(table.schema) < _FIRST_COLUMNS:
        return None
    for field in list(HISTORY_SCHEMA)[len(table.schema) :]:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table if table.schema.equals(HISTORY_SCHEMA) else None


def known_runs(history: pa.Table) -> set[tuple[str, int]]:
    """The runs in the table, by name and start: a file that was written anew is another run."""
    started = history["started"].cast(pa.int64())
    return set(zip(history["run"].to_pylist(), started.to_pylist(), strict=True))


def series_of(
    history: pa.Table, metrics: Sequence[str], group_kinds: Sequence[str] = ("all",)
) -> tuple[Series, ...]:
    """The asked figures over the valid, whole runs, a series per schedule, mode and group.

    They are from due, or from sent where a run knows no due instants.
    """
    kept = pc.is_in(history["metric"], pa.array(metrics, pa.string()))
    kept = pc.and_(kept, pc.is_in(history["group_kind"], pa.array(group_kinds, pa.string())))
    clocked = pc.fill_null(pc.equal(history["clock"], "due"), True)
    kept = pc.and_(kept, pc.or_(clocked, pc.is_in(history["run"], _runs_without_due(history))))
    rows = history.filter(kept).sort_by("started")
    found: dict[tuple[str, ...], tuple[list[Point], list[Point]]] = {}
    for row in rows.set_column(1, "started", rows["started"].cast(pa.int64())).to_pylist():
        names = ("schedule_fingerprint", "mode", "group_kind", "group", "metric", "unit")
        value, low, high = (math.nan if row[name] is None else row[name] for name in ("value", "low", "high"))
        point = Point(row["run"], row["label"], row["started"], value, low, high)
        points, left_out = found.setdefault(tuple(row[name] for name in names), ([], []))
        if not row["valid"] or row["partial"]:
            why = "partial" if row["partial"] else "INVALID"
            left_out.append(dataclasses.replace(point, left_out=why))
        elif math.isfinite(point.value):
            points.append(point)
    order = {metric: at for at, metric in enumerate(metrics)}
    series = [
        Series(fingerprint, mode, kind, group, metric, unit, tuple(points), left_out=tuple(left_out))
        for (fingerprint, mode, kind, group, metric, unit), (points, left_out) in found.items()
        if points
    ]
    return tuple(sorted(series, key=lambda one: (one.schedule_fingerprint, one.group, order[one.metric])))


def _runs_without_due(history: pa.Table) -> pa.Array:
    """The runs whose E2E is known from sent alone."""
    e2e = history.filter(pc.starts_with(history["metric"], "e2e:"))
    with_due = pc.unique(e2e.filter(pc.equal(e2e["clock"], "due"))["run"])
    return pc.unique(e2e.filter(pc.invert(pc.is_in(e2e["run"], with_due)))["run"])


def with_changes(
    series: Sequence[Series], rng: np.random.Generator, alpha: float = 0.05
) -> tuple[Series, ...]:
    """The series with their change points; `alpha` is shared among the series of a schedule (Bonferroni)."""
    counts: dict[str, int] = {}
    for one in series:
        counts[one.schedule_fingerprint] = counts.get(one.schedule_fingerprint, 0) + 1
    found = []
    for one in series:
        share = alpha / counts[one.schedule_fingerprint]
        values = np.array([point.value for point in one.points])
        permutations = max(999, int(np.ceil(4 / share)))
        changes = change_points(values, rng, alpha=share, permutations=permutations)
        found.append(dataclasses.replace(one, changes=changes))
    return tuple(found)


def baseline_for(history: pa.Table, run: str, series: Sequence[Series]) -> BaselineChoice | None:
    """The run to hold `run` against, or None where there is none.

    It is the latest valid run before it of the same schedule and mode, of another build if there is one, and
    not from before the last change point of any of the `series`: what was measured at another level is no
    baseline.
    """
    rows = history.filter(pc.equal(history["run"], run)).sort_by("started")
    if not rows.num_rows:
        return None
    latest = rows.drop_columns(["started"]).slice(rows.num_rows - 1).to_pylist()[0]  # ns are no datetime
    started_ns = rows["started"].cast(pa.int64())[-1].as_py()
    same = [
        one
        for one in series
        if (one.schedule_fingerprint, one.mode) == (latest["schedule_fingerprint"], latest["mode"])
    ]
    earlier = {
        (point.started_ns, point.run, point.label)
        for one in same
        for point in one.points
        if point.started_ns < started_ns
    }
    changed_ns = max(
        (
            one.points[c.at].started_ns
            for one in same
            for c in one.changes
            if one.points[c.at].started_ns < started_ns
        ),
        default=None,
    )
    level = [point for point in sorted(earlier) if changed_ns is None or point[0] >= changed_ns]
    if not level:
        return None
    others = [point for point in level if point[2] != latest["label"]]
    chosen = (others or level)[-1]
    why = "the latest valid run of this schedule before it"
    if others:
        why += ", of another build"
    if changed_ns is not None:
        why += ", after the last change"
    return BaselineChoice(chosen[1], chosen[2], why)
