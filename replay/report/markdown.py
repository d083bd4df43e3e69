"""A run or a comparison as Markdown for a pull request: the verdict first, the rest folded away.

GitHub's flavour, read by GitLab too. Text from users and servers is escaped: it makes no link, no mention, no
table cell of its own. A comment there ends at 65,536 characters, so tables are short.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from replay.analysis.values import DiffResult, RunSummary, Verdict
from replay.report.figures import (
    format_change_ratio,
    format_count,
    format_interval_ns,
    format_p_value,
    format_pair_ns,
    format_ratio,
    relative,
)
from replay.report.peak_wording import (
    PHASE_HEADINGS,
    burn_text,
    capacity_sentences,
    peak_sentences,
    phase_rows,
    shed_sentences,
    slo_by_phase,
)
from replay.report.server_wording import saturation_sentences, series_headings, series_rows
from replay.report.telling import left_out, telling_changes, telling_effects
from replay.report.wording import (
    INVALID,
    Headline,
    diff_doubts,
    diff_headline,
    diff_reasons,
    effect_name,
    group_name,
    invalid_reasons,
    objective_text,
    outcome_text,
    refusal_reasons,
    run_doubts,
    run_figures,
    run_headline,
    side_by_side,
    verdict_text,
)

MOST_EFFECTS: Final = 16
_LIGHTS: Final = {
    Verdict.REGRESSION.value: "🔴",
    INVALID: "🔴",
    Verdict.IMPROVED.value: "🟢",
    Verdict.EQUIVALENT.value: "🟢",
    Verdict.INCONCLUSIVE.value: "🟡",
}
_MEANT: Final = re.compile(r"([\\`*_{}\[\]<>|#~!$])")


def run_markdown(summary: RunSummary, command: Sequence[str] = ()) -> str:
    """One run: headline, doubts, SLO, key figures, phases and peaks."""
    parts = [
        _headline(run_headline(summary)),
        _bullets(invalid_reasons(summary) + run_doubts(summary)),
        _objectives([summary]),
        _bullets(capacity_sentences(summary)),
        _figures([summary]),
        _phases(summary),
        _server(summary),
        _reproduce(command),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def diff_markdown(diff: DiffResult, command: Sequence[str] = ()) -> str:
    """A comparison: verdict and why, its doubt, the telling effects, failures, figures and peaks."""
    runs = (diff.baseline, diff.candidate)
    parts = [
        _headline(diff_headline(diff)),
        _bullets(diff_reasons(diff)),
        _effects(diff),
        _objectives(runs),
        _folded("How far to trust it", _bullets(diff_doubts(diff))),
        _folded("Failures, paired by request", _outcomes(diff)),
        _folded("Key figures", _figures(runs)),
        *(_phases(run) for run in runs),
        *(_server(run) for run in runs),
        _reproduce(command),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def invalid_diff_markdown(
    baseline: RunSummary, candidate: RunSummary, why: str, command: Sequence[str] = ()
) -> str:
    """A comparison that was refused: which run can't carry a verdict, and why; `why` if both are valid."""
    runs = (baseline, candidate)
    refused = [run.label for run in runs if not run.validity.valid]
    whose = f"{' and '.join(refused)} can't carry a verdict" if refused else "nothing to compare"
    subject = f"{candidate.label} against {baseline.label}: {whose}"
    word = "INVALID" if refused else "NO VERDICT"
    reasons = refusal_reasons(runs, why)
    parts = [_headline(Headline(INVALID, "✗", word, subject)), _bullets(reasons), _reproduce(command)]
    return "\n\n".join(filter(None, parts)) + "\n"


def escaped(text: str) -> str:
    """`text` as Markdown that shows it and does nothing: one line, no markup, no mention."""
    quoted = _MEANT.sub(r"\\\1", " ".join(text.split()))
    return quoted.replace("@", "@\u2060").replace("://", ":\u2060//")


def _headline(headline: Headline) -> str:
    light = _LIGHTS.get(headline.tone, "")
    return f"### {light} {escaped(headline.word)}: {escaped(headline.subject)}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _effects(diff: DiffResult) -> str:
    shown = telling_effects(diff.effects, MOST_EFFECTS)
    if not shown:
        return ""
    rows = [
        (
            group_name(effect.group),
            effect_name(effect),
            format_pair_ns(effect.baseline_ns, effect.candidate_ns),
            format_change_ratio(relative(effect.effect_ns, effect.baseline_ns)),
            format_interval_ns(effect.low_ns, effect.high_ns),
            format_change_ratio(relative(effect.minimum_detectable_ns, effect.baseline_ns)).lstrip("+"),
            verdict_text(effect),
        )
        for effect in shown
    ]
    headings = ("requests", "metric", "base → candidate", "change", "95 % CI", "MDE", "verdict")
    hidden = left_out(diff.effects, shown).total()
    rest = f"\n\n{format_count(hidden)} more effects are in the page and in the JSON." if hidden else ""
    return _table(headings, rows, left=(0, 1, 6)) + rest


def _outcomes(diff: DiffResult) -> str:
    rows = [
        (
            group_name(change.group),
            change.kind,
            f"{format_count(change.baseline_count)} → {format_count(change.candidate_count)}",
            format_p_value(change.p_value),
            outcome_text(change),
        )
        for change in telling_changes(diff.outcome_changes)
    ]
    headings = ("requests", "kind", "base → candidate", "p", "verdict")
    return _table(headings, rows, left=(0, 1, 4)) if rows else ""


def _objectives(runs: Sequence[RunSummary]) -> str:
    rows = []
    for run in runs:
        for result in run.objectives:
            wanted, found = objective_text(result)
            named = (run.label,) if len(runs) > 1 else ()
            mark = "✓ met" if result.met else "✗ missed"
            attained = format_ratio(result.attainment)
            rows.append((*named, wanted, mark, found, attained, burn_text(result.burn)))
    if not rows:
        return ""
    named = ("run",) if len(runs) > 1 else ()
    headings = (*named, "objective", "", "found", "attained by", "burn")
    return _table(headings, rows, left=tuple(range(2 + len(named))))


def _figures(runs: Sequence[RunSummary]) -> str:
    rows = side_by_side([dict(run_figures(run)) for run in runs])
    return _table(("", *(run.label for run in runs)), rows)


def _phases(run: RunSummary) -> str:
    if not run.phases:
        return ""
    sentences = (*peak_sentences(run.peaks, most=4), *shed_sentences(run.phases))
    parts = [_table(PHASE_HEADINGS, phase_rows(run.phases)), _bullets(sentences)]
    headings, rows = slo_by_phase(run)
    if rows:
        parts.append(_table(headings, rows))
    return _folded(f"By phase: {run.label}", "\n\n".join(filter(None, parts)))


def _server(run: RunSummary) -> str:
    if run.server is None:
        return ""
    rows = series_rows(run, run.server)
    table = _table(series_headings(run), rows, left=(0, 1)) if rows else ""
    told = "\n".join(escaped(line) for line in saturation_sentences(run.server))
    return _folded(f"The server's side: {run.label}", "\n\n".join(filter(None, (told, table))))


def _reproduce(command: Sequence[str]) -> str:
    if not command:
        return ""
    told = " ".join(shlex.join(command).split()).replace("`", "'")
    return f"<sub>`{told}`</sub>"


def _folded(title: str, body: str) -> str:
    if not body:
        return ""
    heading = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u2060")
    return f"<details><summary>{heading}</summary>\n\n{body}\n\n</details>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    rule = ["---" if index in left else "--:" for index in range(len(headings))]
    lines = [[escaped(cell) for cell in headings], rule, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
