"""One self-contained HTML page for a run or a comparison: no request to anywhere, plotly.js inside.

The parts come from `page_tables` and `charts`, the frame from `page_frame`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from replay.analysis.values import DiffResult, RunSummary
from replay.report import page_changes as changes
from replay.report import page_tables as tables
from replay.report import page_time as over_time
from replay.report.charts import effect_charts
from replay.report.distribution_charts import distribution_charts
from replay.report.page_distributions import distribution_section, shift_section
from replay.report.page_frame import chart as _chart
from replay.report.page_frame import legend as _legend
from replay.report.page_frame import page as _page
from replay.report.page_frame import section as _section
from replay.report.page_frame import select as _select
from replay.report.shift_charts import shift_charts
from replay.report.telling import by_group, left_out, most_changed_group, telling_effects
from replay.report.wording import (
    diff_doubts,
    diff_headline,
    diff_reasons,
    group_name,
    headline_clock_of,
    invalid_reasons,
    run_doubts,
    run_headline,
)

_EFFECT_KEYS = (
    ("diamond regression", "slower"),
    ("square improved", "faster"),
    ("dot quiet", "no difference"),
    ("ring quiet", "undecided"),
    ("band", "tolerance"),
    ("noise", "noise floor"),
)


def run_page(summary: RunSummary, command: tuple[str, ...]) -> str:
    """The page of one run; `command` is the command line that made it, () if unknown."""
    runs = (summary,)
    sections = [
        tables.banner(run_headline(summary), invalid_reasons(summary), run_doubts(summary)),
        _key_figures_section(runs),
        over_time.timeline_section(runs),
        over_time.waterfall_section(summary.waterfall, runs),
        _phases_section(runs),
        _server_section(runs),
        distribution_section(runs),
        _section("Latency by group", tables.group_table(summary)),
        _section("Validity", tables.validity_table(summary.label, summary.validity)),
        _section("How to reproduce", tables.reproduction(command, runs, None)),
    ]
    charts = {**over_time.charts(runs, summary.waterfall), "distribution": distribution_charts(runs)}
    return _page("report", summary.label, sections, charts, over_time.SCRIPTS)


def diff_page(diff: DiffResult, command: tuple[str, ...]) -> str:
    """The page of one comparison; `command` is the command line that made it, () if unknown."""
    runs = (diff.baseline, diff.candidate)
    title = f"{diff.candidate.label} against {diff.baseline.label}"
    headline = diff_headline(diff)
    if headline.subject == title:  # it stands above the banner already
        headline = dataclasses.replace(headline, subject="")
    sections = [
        tables.banner(headline, diff_reasons(diff), diff_doubts(diff)),
        _key_figures_section(runs),
        _effects_section(diff),
        shift_section(diff),
        _section("Where", _WHERE + changes.where_tables(diff.locations)) if diff.locations else "",
        _answers_section(diff),
        _requests_section(diff),
        over_time.timeline_section(runs),
        over_time.waterfall_section(diff.waterfall, runs),
        _phases_section(runs),
        _server_section(runs),
        distribution_section(runs),
        _section("Failures", tables.outcome_table(diff.outcome_changes)) if diff.outcome_changes else "",
        _section("Latency by group", "".join(map(tables.group_table, runs)), folded=True),
        _section("Validity", "".join(tables.validity_table(run.label, run.validity) for run in runs)),
        _section("How to reproduce", tables.reproduction(command, runs, diff)),
    ]
    charts = {
        **over_time.charts(runs, diff.waterfall),
        "distribution": distribution_charts(runs),
        "effects": effect_charts(diff),
        "shift": shift_charts(diff),
    }
    return _page("diff", title, sections, charts, over_time.SCRIPTS)


def _key_figures_section(runs: Sequence[RunSummary]) -> str:
    body = tables.key_figures(runs) + tables.objective_table(runs)
    return _section("Key figures", f'<div class="columns">{body}</div>')


def _effects_section(diff: DiffResult) -> str:
    if not diff.effects:
        return ""
    found = [group for group, _ in by_group(diff.effects)]
    groups = [(str(index), group_name(group)) for index, group in enumerate(found)]
    first = most_changed_group(diff.effects)
    shown = telling_effects(diff.effects)
    hidden = left_out(diff.effects, shown).total()
    body = (
        '<p class="note">Change of each quantile with its 95 % confidence interval. An effect counts when '
        "its interval excludes zero and it lies beyond both the tolerance and the noise floor (the shaded "
        "bands); no difference means that the whole interval lies inside the tolerance.</p>"
        + _select("effects-group", "Requests", groups, str(found.index(first)) if first in found else "0")
        + _chart("effects", "Effects with confidence intervals; the table below holds the same figures")
        + _legend(_EFFECT_KEYS)
        + tables.effect_table(shown, "The telling effects")
        + (changes.tail_table(diff.tails) if diff.tails else "")
    )
    if hidden:
        every = tables.effect_table(diff.effects, f"All {len(diff.effects)} effects")
        body += f"<details><summary>{hidden} more effects</summary>{every}</details>"
    return _section("What changed", body)


_WHERE = (
    '<p class="note">Bands of requests, each beside the others of its group. One stands out when it '
    "certainly changed more than they did (Holm, over all bands); the verdict came before, without them.</p>"
)


def _answers_section(diff: DiffResult) -> str:
    found = changes.answer_tables(diff.answers, diff.bodies)
    return _section("Answers", found) if found else ""


def _requests_section(diff: DiffResult) -> str:
    if not diff.changed_requests:
        return ""
    keys = [
        ("lane waiting baseline", f"{diff.baseline.label}: sent to first byte"),
        ("lane answering baseline", "first byte to end"),
        ("lane waiting candidate", f"{diff.candidate.label}: sent to first byte"),
        ("lane answering candidate", "first byte to end"),
    ]
    clock = headline_clock_of(diff.baseline)
    note = f'<p class="note">Each from its {clock} instant, all on one scale; a line is a read.</p>'
    body = note + _legend(keys) + changes.request_section(diff.changed_requests)
    return _section("Most changed requests", body)


def _phases_section(runs: Sequence[RunSummary]) -> str:
    if not any(run.phases for run in runs):
        return ""
    return _section("By phase", "".join(tables.phase_tables(run) for run in runs))


def _server_section(runs: Sequence[RunSummary]) -> str:
    found = "".join(tables.server_tables(run) for run in runs)
    return _section("The server's side", found) if found else ""
