"""A history of runs for the terminal and for scripts: one line a figure, its course, and where it changed.

What is a change is decided by `replay.analysis.run_history`.
"""

from __future__ import annotations

import datetime
import itertools
import shlex
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from capture.__about__ import VERSION
from replay.analysis.change_points import ChangePoint
from replay.analysis.run_history import BaselineChoice, Series
from replay.report.figures import (
    format_change_ratio,
    format_ns,
    format_number,
    format_p_value,
    format_rate,
    format_ratio,
)
from replay.report.terminal_parts import blank, bullets, indented, plain_table, section

SCHEMA_VERSION: Final = 1
_BARS: Final = "▁▂▃▄▅▆▇█"
_MOST_BARS: Final = 40
_GOOD_WHEN_HIGH: Final = ("achieved",)


def history_report(
    series: Sequence[Series],
    runs: int,
    left_out: int,
    *,
    folder: str,
    asked: str | None = None,
    baseline: BaselineChoice | None = None,
) -> RenderableType:
    """All series, grouped by schedule, newest run last; `left_out` runs were INVALID or partial.

    Where a baseline was `asked` for the run of that name, it stands at the end; `folder` holds the runs.
    """
    parts: list[RenderableType] = [Text(f"{_counted(runs, 'run')} on record", style="bold")]
    if left_out:
        parts.append(
            Text(f"{left_out} of them INVALID or partial: kept on record, in no series", style="dim")
        )
    for (fingerprint, mode), found in itertools.groupby(
        series, key=lambda one: (one.schedule_fingerprint, one.mode)
    ):
        members = list(found)
        longest = max(members, key=lambda one: len(one.points))
        title = f"schedule {fingerprint[:12]} ({mode}): {_counted(len(longest.points), 'run')}, "
        title += f"{_day(longest.points[0].started_ns)} to {_day(longest.points[-1].started_ns)}, "
        title += f"latest build {longest.points[-1].label}"
        parts += [blank(), section(title), indented(_table(members))]
        changes = [_sentence(one, change) for one in members for change in one.changes]
        parts += bullets(changes or ["no change point: each figure stays on its level"])
    if asked is not None:
        parts += [blank(), *_baseline_lines(asked, baseline, folder)]
    return Group(*parts)


def _baseline_lines(asked: str, baseline: BaselineChoice | None, folder: str) -> list[RenderableType]:
    if baseline is None:
        return [Text(f"no baseline for {asked}: no earlier valid run of its schedule on this level")]
    return [
        Text(f"baseline for {asked}: {baseline.run} ({baseline.label}), {baseline.why}"),
        Text(f"peaktape diff {shlex.join(f'{folder}/{name}' for name in (baseline.run, asked))}"),
    ]


def _table(series: Sequence[Series]) -> Any:
    table = plain_table(header=True)
    for name in ("figure", "latest", "level before", "course, oldest first"):
        table.add_column(name, no_wrap=name != "figure")
    for one in series:
        latest = one.points[-1].value
        level = one.changes[-1].before if one.changes else None
        was = "" if level is None else f"{_value(level, one)} ({format_change_ratio(one.changes[-1].change)})"
        table.add_row(_name(one), _value(latest, one), was, _course(one))
    return table


def _course(one: Series) -> Text:
    """A bar a run, the latest 40 of them, with a stroke before each change point; bars start at 0."""
    values = [point.value for point in one.points]
    top = max(values)
    first = max(0, len(values) - _MOST_BARS)
    starts = {change.at for change in one.changes}
    course = Text()
    for at in range(first, len(values)):
        if at in starts:
            course.append("┆", style="dim")
        share = values[at] / top if top > 0 else 0.0
        course.append(_BARS[min(len(_BARS) - 1, int(share * len(_BARS)))])
    return course


def _sentence(one: Series, change: ChangePoint) -> str:
    point = one.points[change.at]
    rose = change.after > change.before
    kind = "better" if rose == (one.metric in _GOOD_WHEN_HIGH) else "worse"
    return (
        f"{_name(one)}: {_value(change.before, one)} → {_value(change.after, one)} "
        f"({format_change_ratio(change.change)}, {kind}) from {point.run} on, build {point.label}, "
        f"{_day(point.started_ns)} (p {format_p_value(change.p_value)})"
    )


def _name(one: Series) -> str:
    metric = one.metric.replace(":", " ").replace("_", " ")
    return metric if one.group_kind == "all" else f"{one.group}: {metric}"


def _value(value: float, one: Series) -> str:
    if one.unit == "ns":
        return format_ns(value)
    if one.unit == "1/s":
        return format_rate(value)
    return format_ratio(value) if one.metric == "error_rate" else format_number(value)


def _day(at_ns: int) -> str:
    return datetime.datetime.fromtimestamp(at_ns / 1e9, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def history_json(
    series: Sequence[Series], runs: int, left_out: int, baseline: BaselineChoice | None
) -> dict[str, Any]:
    """The same for scripts: every series with its points and change points, and the baseline or null."""
    return {
        "schema": "peaktape.history",
        "schema_version": SCHEMA_VERSION,
        "tool_version": VERSION,
        "runs": runs,
        "runs_left_out": left_out,
        "baseline": None
        if baseline is None
        else {"run": baseline.run, "label": baseline.label, "why": baseline.why},
        "series": [
            {
                "schedule_fingerprint": one.schedule_fingerprint,
                "mode": one.mode,
                "group_kind": one.group_kind,
                "group": one.group,
                "metric": one.metric,
                "unit": one.unit,
                "points": [
                    {"run": p.run, "label": p.label, "started_ns": p.started_ns, "value": p.value}
                    for p in one.points
                ],
                "change_points": [
                    {
                        "at": c.at,
                        "run": one.points[c.at].run,
                        "label": one.points[c.at].label,
                        "before": c.before,
                        "after": c.after,
                        "p_value": c.p_value,
                    }
                    for c in one.changes
                ],
            }
            for one in series
        ],
    }
