"""The words of a history, for the terminal and the page: names, values, and what a change point says."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final

from replay.analysis.change_points import LEAST_SIDE, ChangePoint
from replay.analysis.run_history import Series
from replay.report.figures import (
    format_change_ratio,
    format_ns,
    format_number,
    format_p_value,
    format_rate,
    format_ratio,
)
from replay.report.wording import METRIC_NAMES

GOOD_WHEN_HIGH: Final = ("achieved",)


def is_better(one: Series, change: ChangePoint) -> bool:
    """Whether what changed is an improvement: more for a rate that was achieved, less for all else."""
    return (change.after > change.before) == (one.metric in GOOD_WHEN_HIGH)


def change_sentence(one: Series, change: ChangePoint) -> str:
    """What changed, by how much, from which run and build on."""
    point = one.points[change.at]
    return (
        f"{series_name(one)}: {value_text(change.before, one)} → {value_text(change.after, one)} "
        f"({format_change_ratio(change.change)}, {'better' if is_better(one, change) else 'worse'}) "
        f"from {point.run} on, build {point.label}, "
        f"{day(point.started_ns)} (p {format_p_value(change.p_value)})"
    )


def too_short(series: Sequence[Series]) -> str:
    """Of how many figures too few valid runs are known for a change to be found; "" where of none."""
    short = sum(len(one.points) < 2 * LEAST_SIDE for one in series)
    if not short:
        return ""
    return (
        f"{short} of {len(series)} figures have fewer than {2 * LEAST_SIDE} valid runs: no change could be "
        "found in them"
    )


def series_name(one: Series) -> str:
    """The figure's name, with its group's where it is not of all requests."""
    return metric_words(one) if one.group_kind == "all" else f"{one.group}: {metric_words(one)}"


def metric_words(one: Series) -> str:
    """The figure's name alone, such as "TTFT p99"."""
    metric, _, quantile = one.metric.partition(":")
    return f"{METRIC_NAMES.get(metric, metric.replace('_', ' '))} {quantile}".rstrip()


def value_text(value: float, one: Series) -> str:
    """A value in the figure's unit; "–" for NaN."""
    if one.unit == "ns":
        return format_ns(value)
    if one.unit == "1/s":
        return format_rate(value)
    return format_ratio(value) if one.metric == "error_rate" else format_number(value)


def day(at_ns: int) -> str:
    """An instant (ns since the epoch) as day, hour and minute, UTC."""
    return datetime.datetime.fromtimestamp(at_ns / 1e9, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M")


def counted_runs(count: int) -> str:
    """Such as "1 run", "1,200 runs"."""
    return f"{count:,} run" if count == 1 else f"{count:,} runs"
