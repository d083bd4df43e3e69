"""The terminal's door: one run, one comparison, one validity, each as something rich can print.

Every verdict is a word and a symbol as well as a colour, so nothing is lost in a pipe or under NO_COLOR.
The parts are in `terminal_run` and `terminal_diff`; nothing is computed or printed here.
"""

from __future__ import annotations

import dataclasses

from rich.console import Group, RenderableType

from replay.analysis.values import DiffResult, RunSummary, Validity
from replay.report import terminal_changes, terminal_diff, terminal_run
from replay.report.change_wording import TAIL_TITLE
from replay.report.peak_wording import capacity_sentences, peak_sentences
from replay.report.telling import telling_changes
from replay.report.terminal_parts import blank, bullets, headline_text, section
from replay.report.wording import (
    diff_doubts,
    diff_headline,
    diff_reasons,
    headline_clock_of,
    invalid_reasons,
    run_doubts,
    run_headline,
    validity_words,
)


def run_report(summary: RunSummary) -> RenderableType:
    """One run at a glance: headline, validity, key figures, failures, latency by group, lateness, SLO."""
    parts: list[RenderableType] = [headline_text(run_headline(summary))]
    parts += bullets(invalid_reasons(summary) + run_doubts(summary))
    parts += [blank(), terminal_run.facts(summary)]
    if summary.objectives:
        parts += [blank(), section("SLO, over all scheduled requests")]
        parts.append(terminal_run.objectives(summary.objectives))
        parts += bullets(capacity_sentences(summary))
    if summary.phases:
        parts += [blank(), section("By phase of the schedule"), *terminal_run.phases(summary)]
    if summary.server is not None:
        parts += [blank(), section("The server's side"), *terminal_run.server_side(summary, summary.server)]
    if summary.cost is not None:
        parts += [blank(), section("Cost at this load"), terminal_run.cost(summary.cost)]
    clock = headline_clock_of(summary)
    waited = "what a user waited" if clock == "due" else "no due times are known"
    parts += [
        blank(),
        section(f"Latency from {clock}: {waited}"),
        *terminal_run.latency(summary.groups, clock),
    ]
    parts += [blank(), validity_report(dataclasses.replace(summary.validity, warnings=()))]
    return Group(*parts)


def diff_report(diff: DiffResult) -> RenderableType:
    """One comparison at a glance: verdict and why, its doubt, both runs, the telling effects, failures."""
    parts: list[RenderableType] = [headline_text(diff_headline(diff))]
    parts += bullets(diff_reasons(diff))
    parts += [blank(), section("Doubt"), *bullets(diff_doubts(diff))]
    parts += [blank(), section("Runs"), terminal_diff.both_runs(diff.baseline, diff.candidate)]
    told = [
        f"{run.label}: {sentence}"
        for run in (diff.baseline, diff.candidate)
        for sentence in peak_sentences(run.peaks, most=2)
    ]
    if told:
        parts += [blank(), section("Peaks"), *bullets(told)]
    if diff.effects:
        parts += [blank(), section("Latency, change against baseline"), *terminal_diff.effects(diff.effects)]
    if diff.tails:
        parts += [blank(), section(TAIL_TITLE), terminal_changes.tails(diff.tails)]
    if diff.locations:
        parts += [blank(), section("Where"), *terminal_changes.where(diff.locations)]
    if telling_changes(diff.outcome_changes):
        parts += [blank(), section("Failures"), terminal_diff.outcomes(diff.outcome_changes)]
    if diff.answers or diff.bodies:
        parts += [blank(), section("Answers"), *terminal_changes.answers(diff.answers, diff.bodies)]
    if diff.changed_requests:
        after = headline_clock_of(diff.baseline)
        title = section(f"Most changed requests, each instant after its {after} one")
        parts += [blank(), title, *terminal_changes.requests(diff.changed_requests)]
    return Group(*parts)


def validity_report(v: Validity) -> RenderableType:
    """Every condition of validity: passed or failed, found, wanted; for a failed one, why it matters."""
    failed = sum(not check.passed for check in v.checks)
    passed = len(v.checks) - failed
    title = section("Validity")
    if failed or not v.valid:
        title.append(f"  INVALID: {failed} of {len(v.checks)} checks failed", style="bold red")
    else:
        told = f"  {validity_words(v)[1]}: {passed} of {len(v.checks)} checks passed"
        if not v.judged:
            unsaid = sum(check.found.startswith("not judged") for check in v.checks)
            told = f"  not judged: no check failed, {unsaid} of {len(v.checks)} could not be made"
        title.append(told, style="not bold")
    return Group(title, terminal_run.checks(v.checks), *bullets(v.warnings, mark="!"))


__all__ = ["diff_report", "run_report", "validity_report"]
