"""The page's parts about distributions: choices, charts, and the same figures as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from replay.analysis.distribution_values import Distribution, ShiftFunction
from replay.analysis.values import METRICS, DiffResult, Group, RunSummary
from replay.report import distribution_charts, shift_charts
from replay.report.distribution_charts import NAMED
from replay.report.figures import (
    MISSING,
    duration_unit,
    format_bound,
    format_change_ratio,
    format_count,
    format_number,
    format_quantile,
    relative,
)
from replay.report.page_frame import build_keys, chart, legend, section, select
from replay.report.page_tables import grouped_table, text
from replay.report.plot_parts import groups_in_order
from replay.report.telling import most_changed_group
from replay.report.wording import METRIC_MEANINGS, group_name, headline_clock_of, metric_name

_DISTRIBUTION_NOTE = (
    '<p class="note">From {clock}. Percentiles are drawn as far as the requests bound them: p99.99 takes '
    "some 37,000 that are independent of each other, and more where they hang together. Pale bands are 95 % "
    "intervals of each percentile by itself; dotted lines are medians.</p>"
)


def distribution_section(runs: Sequence[RunSummary]) -> str:
    """Densities and percentiles of one run or both, chosen by group and metric; "" where there are none."""
    found = [one for run in runs for one in run.distributions]
    if not found:
        return ""
    names = build_keys([run.label for run in runs])
    clock = headline_clock_of(runs[0])
    choices = _choices("distribution", groups_in_order(one.group for one in found), found)
    body = (
        _DISTRIBUTION_NOTE.format(clock=clock)
        + f'<div class="choices">{choices}'
        + select("distribution-view", "View", distribution_charts.VIEWS, chart="distribution")
        + "</div>"
        + legend([*names, ("pale baseline", "95 % interval of a percentile")])
        + chart("distribution", f"Latency distribution, from {clock}; the table below holds the percentiles")
        + f"<details><summary>As figures</summary>{_percentile_table(runs)}</details>"
    )
    return section("Latency distribution", body)


def shift_section(diff: DiffResult) -> str:
    """The shift function, chosen by group and metric; "" where there is none."""
    if not diff.shifts:
        return ""
    order = groups_in_order(shift.group for shift in diff.shifts)
    first = most_changed_group(diff.effects)
    choices = _choices("shift", order, diff.shifts, first if first in order else None)
    body = (
        '<p class="note">How each quantile of latency moved from the baseline to the candidate. Level, and '
        "everybody waits longer by as much; rising to the right, and only the slowest do. With 95 % "
        "confidence the whole curve lies inside the pale band; dots are filled where the band excludes "
        "zero. The verdict is made over all effects and the noise floor, and may see less.</p>"
        + f'<div class="choices">{choices}'
        + select("shift-view", "Change", shift_charts.VIEWS, chart="shift")
        + "</div>"
        + legend(
            [
                ("line candidate", "change"),
                ("pale candidate", "95 % band"),
                ("band", f"tolerance, {format_bound(diff.tolerance)}"),
            ]
        )
        + chart("shift", "Shift function with its band; the table below holds the same figures")
        + f"<details><summary>As figures</summary>{_shift_table(diff, order)}</details>"
    )
    return section("Shift function", body)


def _choices(
    name: str,
    groups: Sequence[Group],
    found: Iterable[Distribution | ShiftFunction],
    first: Group | None = None,
) -> str:
    metrics = {one.metric for one in found}
    named = [(str(index), group_name(group)) for index, group in enumerate(groups)]
    chosen = str(groups.index(first)) if first is not None else "0"
    return select(f"{name}-group", "Requests", named, chosen, chart=name) + select(
        f"{name}-metric",
        "Metric",
        [(m, f"{metric_name(m)}, {METRIC_MEANINGS[m]}") for m in METRICS if m in metrics],
        chart=name,
    )


def _percentile_table(runs: Sequence[RunSummary]) -> str:
    order = groups_in_order(one.group for run in runs for one in run.distributions)
    groups = []
    for group in order:
        rows = [
            _percentile_row(one, run.label if len(runs) > 1 else "")
            for metric in METRICS
            for run in runs
            for one in run.distributions
            if (one.group, one.metric) == (group, metric)
        ]
        groups.append((group_name(group), rows))
    headings = ["", "n", *(format_quantile(p) for p in NAMED)]
    clock = headline_clock_of(runs[0])
    caption = f"Percentiles from {clock} with 95 % intervals; {MISSING} where too few requests bound one"
    return grouped_table(caption, headings, groups, "figures")


def _percentile_row(one: Distribution, label: str) -> list[str]:
    place = {p: index for index, p in enumerate(one.quantiles)}
    name = f"{metric_name(one.metric)} {label}" if label else metric_name(one.metric)
    cells = [
        _with_interval(one.value_ns[place[p]], one.low_ns[place[p]], one.high_ns[place[p]])
        if p in place
        else MISSING
        for p in NAMED
    ]
    return [text(name), format_count(one.n), *cells]


def _with_interval(value_ns: float, low_ns: float, high_ns: float) -> str:
    name, factor = duration_unit(high_ns)
    value, low, high = (format_number(one / factor) for one in (value_ns, low_ns, high_ns))
    return f'{text(f"{value} {name}")}<br><span class="why">{text(f"{low} … {high}")}</span>'


def _shift_table(diff: DiffResult, order: Sequence[Group]) -> str:
    metrics = [metric for metric in METRICS if any(shift.metric == metric for shift in diff.shifts)]
    groups = []
    for group in order:
        members = {shift.metric: shift for shift in diff.shifts if shift.group == group}
        quantiles = next(iter(members.values())).quantiles
        rows = [
            [format_quantile(p), *(_shift_cell(members.get(metric), at) for metric in metrics)]
            for at, p in enumerate(quantiles)
        ]
        groups.append((group_name(group), rows))
    caption = "Change of each quantile in percent, with the band that holds for all quantiles together"
    return grouped_table(caption, ["", *map(metric_name, metrics)], groups, "figures")


def _shift_cell(shift: ShiftFunction | None, at: int) -> str:
    if shift is None:
        return MISSING
    before = shift.baseline_ns[at]
    change = text(format_change_ratio(relative(shift.effect_ns[at], before)))
    if math.isnan(shift.low_ns[at]):
        return change
    ends = (shift.low_ns[at], shift.high_ns[at])
    low, high = (format_change_ratio(relative(end, before), unit=False) for end in ends)
    return f'{change} <span class="why">{text(f"({low} … {high})")}</span>'
