"""A history of runs for the terminal and for scripts: one line a figure, its course, and where it changed.

What is a change is decided by `replay.analysis.run_history`.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from capture.__about__ import VERSION
from replay.analysis.run_history import BaselineChoice, Point, Series
from replay.report.figures import format_change_ratio
from replay.report.history_wording import (
    change_sentence,
    counted_runs,
    day,
    series_name,
    too_short,
    value_text,
)
from replay.report.terminal_parts import blank, bullets, indented, plain_table, section

SCHEMA_VERSION: Final = 1
_BARS: Final = "▁▂▃▄▅▆▇█"
_MOST_BARS: Final = 40


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
    parts: list[RenderableType] = [Text(f"{counted_runs(runs)} on record", style="bold")]
    if left_out:
        parts.append(
            Text(f"{left_out} of them INVALID or partial: kept on record, in no series", style="dim")
        )
    for (fingerprint, mode), found in itertools.groupby(
        series, key=lambda one: (one.schedule_fingerprint, one.mode)
    ):
        members = list(found)
        longest = max(members, key=lambda one: len(one.points))
        title = f"schedule {fingerprint[:12]} ({mode}): {counted_runs(len(longest.points))}, "
        title += f"{day(longest.points[0].started_ns)} to {day(longest.points[-1].started_ns)}, "
        title += f"latest build {longest.points[-1].label}"
        parts += [blank(), section(title), indented(_table(members))]
        changes = [change_sentence(one, change) for one in members for change in one.changes]
        short = too_short(members)
        parts += bullets(changes or ([] if short else ["no change point: each figure stays on its level"]))
        parts += bullets([short] if short else [])
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
        was = (
            ""
            if level is None
            else f"{value_text(level, one)} ({format_change_ratio(one.changes[-1].change)})"
        )
        table.add_row(series_name(one), value_text(latest, one), was, _course(one))
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
                "points": [_point(point) for point in one.points],
                "left_out": [_point(point) for point in one.left_out],
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


def _point(point: Point) -> dict[str, Any]:
    """`low` and `high` are the ends of the 95 % interval from within the run; null is what can't be had."""
    figures = {"value": point.value, "low": point.low, "high": point.high}
    return {
        "run": point.run,
        "label": point.label,
        "started_ns": point.started_ns,
        **({"left_out": point.left_out} if point.left_out else {}),
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
    }
