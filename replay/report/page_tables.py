"""The page's text parts as HTML: banner, figures, tables, checks, how to reproduce; all text escaped.

Tables are real tables with captions and row headers. The page around them is in `html`, charts in `charts`.
"""

from __future__ import annotations

import html
import math
import re
import shlex
from collections.abc import Iterable, Sequence

from replay.analysis.values import (
    QUANTILES,
    Check,
    DiffResult,
    Effect,
    GroupSummary,
    ObjectiveResult,
    OutcomeChange,
    RunSummary,
    Validity,
)
from replay.analysis.vocabulary import is_headline
from replay.report.figures import (
    format_bound,
    format_change_ratio,
    format_count,
    format_interval_ns,
    format_ns,
    format_p_value,
    format_pair_ns,
    format_quantile,
    format_ratio,
    format_seconds,
    relative,
)
from replay.report.page_frame import fact_list
from replay.report.page_frame import frame as _frame
from replay.report.page_frame import rows as _rows
from replay.report.page_frame import table as _table
from replay.report.peak_wording import (
    PHASE_HEADINGS,
    burn_text,
    capacity_sentences,
    peak_sentences,
    phase_rows,
    shed_sentences,
    slo_by_phase,
)
from replay.report.server_wording import (
    saturation_sentences,
    series_headings,
    series_rows,
)
from replay.report.telling import by_group, without_twin_groups
from replay.report.wording import (
    Headline,
    effect_name,
    failures_by_kind,
    group_name,
    headline_clock_of,
    metric_name,
    objective_text,
    outcome_text,
    run_figures,
    side_by_side,
    validity_words,
    verdict_text,
)


def text(value: object) -> str:
    """`value` escaped for HTML text and attributes."""
    return html.escape(str(value))


def banner(headline: Headline, reasons: Sequence[str], doubts: Sequence[str]) -> str:
    """The verdict on top, why, and what limits trust in it."""
    parts = [
        f'<section class="banner {text(headline.tone)}" aria-label="Verdict">',
        f'<p class="verdict"><span class="mark" aria-hidden="true">{text(headline.mark)}</span>'
        f"{text(headline.word)}</p>",
        f'<p class="subject">{text(headline.subject)}</p>' if headline.subject else "",
        _list(reasons, "reasons"),
    ]
    if doubts:
        parts += ['<h2 class="small">How far to trust it</h2>', _list(doubts, "doubts")]
    return "".join([*parts, "</section>"])


def key_figures(runs: Sequence[RunSummary]) -> str:
    """The key figures of one run or both, one row a figure."""
    rows = [list(map(text, row)) for row in side_by_side([dict(run_figures(run)) for run in runs])]
    rows.append(["failures", *(_failures(run) for run in runs)])
    caption = '<span class="hidden">Key figures</span>'
    return _table(caption, ["", *_build_headings(runs)], rows, "figures")


def objective_table(runs: Sequence[RunSummary]) -> str:
    """The SLO, one row an objective: of each run whether it was met, what was found, who attained it."""
    found = side_by_side([dict(map(_objective_cell, run.objectives)) for run in runs])
    if not found:
        return ""
    rows = [[_glued(name), *cells] for name, *cells in found]
    return _table(
        "SLO, over all scheduled requests", ["", *_build_headings(runs)], rows, "figures objectives"
    )


def phase_tables(run: RunSummary) -> str:
    """Load, answers, requests in flight and failures by phase; the peaks in words; the SLO by phase."""
    rows = [[text(cell) for cell in row] for row in phase_rows(run.phases)]
    titles = [title.capitalize() for title in PHASE_HEADINGS]
    found = _table(text(run.label), titles, rows, "numbers")
    told = (*capacity_sentences(run), *peak_sentences(run.peaks), *shed_sentences(run.phases))
    found += _list(told, "peaks")
    headings, by_objective = slo_by_phase(run)
    if by_objective:
        cells = [[_glued(cell) for cell in row] for row in by_objective]
        caption = f"{text(run.label)}: share that met each objective, and how fast it burns the error budget"
        found += _table(caption, list(map(text, headings)), cells, "numbers")
    return found


def server_tables(run: RunSummary) -> str:
    """Every series of the server's side with its means by phase, then what gave out first."""
    if run.server is None:
        return ""
    found, rows = "", [[text(cell) for cell in row] for row in series_rows(run, run.server)]
    if rows:
        titles = [title.capitalize() for title in series_headings(run)[:4]]
        titles += list(map(text, series_headings(run)[4:]))
        found = _table(f"{text(run.label)}: server metrics", titles, rows, "numbers series")
    return found + _list(saturation_sentences(run.server), "ranking")


def effect_table(effects: Iterable[Effect], caption: str) -> str:
    """Effects in reading order with baseline, candidate, change, interval, smallest visible change."""
    mde = '<abbr title="minimum detectable effect: the smallest change that could be seen">MDE</abbr>'
    p_value = '<abbr title="adjusted for the family of all effects (Holm)">p</abbr>'
    how_many = "about how many more pairs would decide an effect, or give it an interval"
    more = f'<abbr title="{how_many}">more pairs</abbr>'
    headings = ["", "Change", "Verdict", "Base → candidate", "95 % CI", mde, p_value, more]
    groups = [
        (group_name(group), [_effect_row(effect) for effect in members])
        for group, members in by_group(tuple(effects))
    ]
    return grouped_table(text(caption), headings, groups, "effects numbers")


def outcome_table(changes: Iterable[OutcomeChange]) -> str:
    """Changes of failure counts, paired."""
    rows = [
        [
            text(group_name(change.group)),
            text(change.kind),
            badge(change.verdict.value, outcome_text(change)),
            f"{format_count(change.baseline_count)} → {format_count(change.candidate_count)}",
            f"{_rate(change.baseline_count, change)} → {_rate(change.candidate_count, change)}",
            text(format_p_value(change.p_value)),
        ]
        for change in changes
    ]
    headings = ["Group", "Kind", "Verdict", "Base → candidate", "Share of pairs", "p"]
    return _table("Paired by request", headings, rows, "outcomes")


def group_table(run: RunSummary) -> str:
    """Latency of every group and metric of one run, from due if that is known."""
    clock = headline_clock_of(run)
    headings = ["", "n", *(format_quantile(q) for q in QUANTILES), "max"]
    groups = [
        (group_name(group.group), _metric_rows(group, clock)) for group in without_twin_groups(run.groups)
    ]
    return grouped_table(f"{text(run.label)}, from {clock}", headings, groups, "figures")


def validity_table(label: str, validity: Validity) -> str:
    """Every check with found, wanted and why it matters; then the warnings."""
    rows = [
        [
            text(check.name),
            _result(check),
            _glued(check.found),
            _glued(check.wanted),
            f'<span class="why">{_glued(check.why)}</span>',
        ]
        for check in validity.checks
    ]
    word = validity_words(validity)[1]
    table = _table(
        f"{text(label)}: {word}", ["Check", "Result", "Found", "Wanted", "Why it matters"], rows, "checks"
    )
    return table + _list(validity.warnings, "doubts")


def reproduction(command: Sequence[str], runs: Sequence[RunSummary], diff: DiffResult | None) -> str:
    """The command, what was replayed where, and every source of chance."""
    found = [("command", f"<code>{text(shlex.join(command))}</code>")] if command else []
    for run in runs:
        partial = ", partial" if run.partial else ""
        span = f"{format_seconds(run.duration_s)}, {run.mode} loop{partial}"
        found.append((run.label, f"<code>{text(run.target)}</code>, {text(span)}"))
    schedules = dict.fromkeys(run.steps for run in runs if run.steps)
    found += [("schedule", f"<code>{text(' → '.join(steps))}</code>") for steps in schedules]
    if diff is not None:
        resampling = f"{format_count(diff.resamples)} stationary block resamples, mean block "
        found += [
            ("tolerance", text(format_bound(diff.tolerance))),
            ("intervals", text(f"{resampling}{format_seconds(diff.block_s)}, seed {diff.seed}")),
        ]
    return fact_list((text(name), value) for name, value in found)


def _glued(sentence: str) -> str:
    """A sentence as HTML whose lines don't break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:%|[nµm]?s)(?:\W|$))", "&nbsp;", text(sentence))


def _failures(run: RunSummary) -> str:
    """Each kind with its count; a line may break between two of them only."""
    found = [f"{kind} {format_count(count)}" for kind, count in failures_by_kind(run.groups)]
    return ", ".join(f'<span class="once">{text(one)}</span>' for one in found) or "none"


def _build_headings(runs: Sequence[RunSummary]) -> list[str]:
    colours = ("baseline", "candidate")
    return [
        f'<span class="key {colour}" aria-hidden="true"></span>{text(run.label)}'
        for colour, run in zip(colours, runs, strict=False)
    ]


def _objective_cell(result: ObjectiveResult) -> tuple[str, str]:
    wanted, found = objective_text(result)
    verdict = badge("improved", "✓ met") if result.met else badge("regression", "✗ missed")
    told = [found, f"met by {format_ratio(result.attainment)}"]
    if not math.isnan(result.burn):
        told.append(f"burn {burn_text(result.burn)}")
    return wanted, " ".join([verdict, *(f"<span>{text(one)}</span>" for one in told)])


def _effect_row(effect: Effect) -> list[str]:
    base = effect.baseline_ns
    change = format_change_ratio(relative(effect.effect_ns, base))
    mde = format_change_ratio(relative(effect.minimum_detectable_ns, base)).lstrip("+")
    return [
        text(effect_name(effect)),
        text(change),
        badge(effect.verdict.value, verdict_text(effect)),
        text(format_pair_ns(base, effect.candidate_ns)),
        text(format_interval_ns(effect.low_ns, effect.high_ns)),
        text(mde),
        text(format_p_value(effect.p_value)),
        format_count(effect.pairs_needed) if effect.pairs_needed else "",
    ]


def _result(check: Check) -> str:
    if check.passed and check.found.startswith("not judged"):
        return badge("inconclusive", "– not judged")
    return badge("equivalent", "✓ passed") if check.passed else badge("invalid", "✗ failed")


def _metric_rows(group: GroupSummary, clock: str) -> list[list[str]]:
    return [
        [
            text(metric_name(metric.metric)),
            format_count(metric.n),
            *(text(format_ns(metric.quantile_ns.get(q, float("nan")))) for q in QUANTILES),
            text(format_ns(metric.max_ns)),
        ]
        for metric in group.metrics
        if is_headline(metric, clock) and metric.n
    ]


def _rate(count: int, change: OutcomeChange) -> str:
    return text(format_ratio(relative(count, change.pairs)))


def badge(tone: str, words: str) -> str:
    """A verdict's word, in its tone."""
    return f'<span class="badge {text(tone)}">{text(words)}</span>'


def _list(lines: Sequence[str], kind: str) -> str:
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def grouped_table(
    caption: str, headings: Sequence[str], groups: Iterable[tuple[str, list[list[str]]]], kind: str
) -> str:
    """Like `_table`, with a heading row before the rows of each group; a group without rows is left out."""
    bodies = [
        f'<tbody><tr class="rowgroup"><th scope="rowgroup" colspan="{len(headings)}">'
        f"<span>{text(name)}</span></th></tr>"
        f"{_rows(rows)}</tbody>"
        for name, rows in groups
        if rows
    ]
    return _frame(caption, headings, "".join(bodies), kind)
