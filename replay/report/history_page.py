"""The page of a history: what changed on top, every figure over the builds, and the same as tables."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence

from replay.analysis.change_points import LEAST_SIDE
from replay.analysis.run_history import BaselineChoice, Point, Series
from replay.analysis.values import Verdict
from replay.report.figures import MISSING, format_change_ratio, format_p_value
from replay.report.history_charts import history_chart
from replay.report.history_wording import (
    change_sentence,
    counted_runs,
    day,
    is_better,
    metric_words,
    series_name,
    too_short,
    value_text,
)
from replay.report.page_frame import chart, fact_list, legend, page, section, select, table
from replay.report.page_tables import badge, banner, text
from replay.report.wording import Headline

_MOST_TOLD = 8

type Choice = tuple[str, tuple[Series, ...], tuple[Point, ...]]
"""(name of a schedule and group, its series, every run of the schedule from the oldest on)"""


def history_page(
    series: Sequence[Series],
    runs: int,
    left_out: int,
    command: tuple[str, ...],
    *,
    folder: str,
    asked: str | None = None,
    baseline: BaselineChoice | None = None,
) -> str:
    """The page of the `series` of all `runs`, of which `left_out` are INVALID or partial.

    Where a baseline was `asked` for the run of that name, it is marked; `command` made the page.
    """
    choices = list(_choices(series))
    charts = {
        str(index): history_chart(members, members_runs, asked, baseline)
        for index, (_, members, members_runs) in enumerate(choices)
    }
    sections = [
        banner(
            _headline(series, runs), list(_reasons(series, asked, baseline)), list(_doubts(series, left_out))
        ),
        _course_section(choices, asked) if choices else "",
        _changes_section(series),
        _runs_section(choices),
        section("How to reproduce", _reproduction(command, folder, asked, baseline)),
    ]
    return page("history", f"runs in {folder}", sections, {"history": charts})


def _choices(series: Sequence[Series]) -> Iterator[Choice]:
    schedules = len({(one.schedule_fingerprint, one.mode) for one in series})
    ordered = sorted(series, key=lambda one: (one.schedule_fingerprint, one.mode, one.group_kind, one.group))
    for key, found in itertools.groupby(
        ordered, key=lambda one: (one.schedule_fingerprint, one.mode, one.group)
    ):
        members = tuple(found)
        whole = {(p.started_ns, p.run): p for one in members for p in (*one.left_out, *one.points)}
        fingerprint, mode, group = key
        names = [group or "all requests"]
        if schedules > 1:
            names.append(f"schedule {fingerprint[:12]} ({mode})")
        yield ", ".join(names), members, tuple(whole[at] for at in sorted(whole))


def _headline(series: Sequence[Series], runs: int) -> Headline:
    subject = f"{counted_runs(runs)} on record"
    changes = sorted(
        ((one.points[change.at].started_ns, one, change) for one in series for change in one.changes),
        key=lambda found: found[0],
    )
    if changes:
        latest = [found for found in changes if found[0] == changes[-1][0]]
        worse = [found for found in latest if not is_better(found[1], found[2])]
        _, one, change = (worse or latest)[0]
        tone = Verdict.REGRESSION if worse else Verdict.IMPROVED
        mark, word = ("▲", "Worse") if worse else ("▼", "Better")
        return Headline(tone.value, mark, f"{word} since {one.points[change.at].label}", subject)
    if any(len(one.points) >= 2 * LEAST_SIDE for one in series):
        return Headline(Verdict.EQUIVALENT.value, "≈", "No change", subject)
    return Headline(Verdict.INCONCLUSIVE.value, "?", "Too few runs to tell", subject)


def _reasons(series: Sequence[Series], asked: str | None, baseline: BaselineChoice | None) -> Iterator[str]:
    told = sorted(
        (
            (one.points[change.at].started_ns, change_sentence(one, change))
            for one in series
            for change in one.changes
        ),
        reverse=True,
    )
    yield from (sentence for _, sentence in told[:_MOST_TOLD])
    if len(told) > _MOST_TOLD:
        yield f"{len(told) - _MOST_TOLD} more changes, below"
    if asked is not None and baseline is None:
        yield f"no baseline for {asked}: no earlier valid run of its schedule on this level"
    elif baseline is not None:
        yield f"baseline for {asked}: {baseline.run} ({baseline.label}), {baseline.why}"


def _doubts(series: Sequence[Series], left_out: int) -> Iterator[str]:
    if left_out:
        yield f"{counted_runs(left_out)} INVALID or partial: marked, in no level, and no baseline"
    if short := too_short(series):
        yield short


def _course_section(choices: Sequence[Choice], asked: str | None) -> str:
    keys = [("line baseline", "valid runs, with their 95 % intervals"), ("cross", "INVALID or partial")]
    if any(one.changes for _, members, _ in choices for one in members):
        keys.append(("level", "level between change points"))
    if asked:
        keys += [("pale candidate", "the run to compare"), ("pale baseline", "its baseline")]
    named = [(str(index), name) for index, (name, _, _) in enumerate(choices)]
    body = (
        '<p class="note">One place a run, in the order they were made. An interval is what the run itself '
        "tells of its figure; how runs of one build differ is seen from neighbour to neighbour.</p>"
        + (select("history-group", "Requests", named, chart="history") if len(named) > 1 else _ONLY)
        + legend(keys)
        + chart("history", "Each figure over the builds; the tables below hold the same figures")
    )
    return section("From build to build", body)


_ONLY = '<select hidden id="history-group" data-chart="history"><option value="0">all</option></select>'


def _changes_section(series: Sequence[Series]) -> str:
    rows = []
    for one in series:
        for change in one.changes:
            point, better = one.points[change.at], is_better(one, change)
            tone, word = ("improved", "▼ better") if better else ("regression", "▲ worse")
            cells = (point.label, point.run, day(point.started_ns))
            levels = f"{value_text(change.before, one)} → {value_text(change.after, one)}"
            rows.append(
                [
                    text(series_name(one)),
                    badge(tone, word),
                    text(format_change_ratio(change.change)),
                    text(levels),
                    *map(text, cells),
                    text(format_p_value(change.p_value)),
                ]
            )
    if not rows:
        return ""
    headings = ["", "", "Change", "Level", "From build", "Run", "Made", "p"]
    return section("Change points", table("E-divisive, one line a change", headings, rows, "outcomes"))


def _runs_section(choices: Sequence[Choice]) -> str:
    parts = []
    for name, members, runs in choices:
        figures = [
            {(p.run, p.started_ns): value_text(p.value, one) for p in (*one.points, *one.left_out)}
            for one in members
        ]
        rows = [
            [
                text(run.label),
                text(run.run),
                text(day(run.started_ns)),
                badge("invalid", run.left_out) if run.left_out else badge("equivalent", "valid"),
                *(text(column.get((run.run, run.started_ns), MISSING)) for column in figures),
            ]
            for run in reversed(runs)
        ]
        headings = ["Build", "Run", "Made", "", *(text(metric_words(one)) for one in members)]
        parts.append(table(text(f"{name}, latest first"), headings, rows, "numbers runs"))
    return section("Runs", "".join(parts)) if parts else ""


def _reproduction(
    command: Sequence[str], folder: str, asked: str | None, baseline: BaselineChoice | None
) -> str:
    found = [("command", shlex.join(command))]
    if asked is not None and baseline is not None:
        runs = [f"{folder.rstrip('/')}/{name}" for name in (baseline.run, asked)]
        found.append(("compare", f"peaktape diff {shlex.join(runs)}"))
    return fact_list((name, f"<code>{text(value)}</code>") for name, value in found)
