"""The parts of a comparison's terminal report: both runs side by side, effects, failure changes."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from replay.analysis.values import Effect, OutcomeChange, RunSummary, Verdict
from replay.report.figures import (
    MISSING,
    format_change_ratio,
    format_count,
    format_interval_ratio,
    format_p_value,
    format_pair_ns,
    relative,
)
from replay.report.telling import by_group, left_out, telling_changes, telling_effects
from replay.report.terminal_parts import figure_table, heading, indented, note, plain_table, verdict_word
from replay.report.wording import (
    EFFECT_WORDS,
    SYMBOLS,
    effect_name,
    failures_by_kind,
    group_name,
    outcome_text,
    run_figures,
    side_by_side,
    undecided_notes,
    validity_words,
    verdict_text,
)

_COLUMNS = (
    ("", 14, "left"),
    ("base → candidate", 16, "right"),
    ("change", 8, "right"),
    ("95 % CI", 14, "right"),
    ("MDE", 6, "right"),
    ("", 15, "left"),
)


def both_runs(baseline: RunSummary, candidate: RunSummary) -> RenderableType:
    """The key figures of both runs in two columns."""
    table = plain_table(header=True)
    table.add_column("", style="dim", no_wrap=True)
    table.add_column(Text(baseline.label), justify="right")
    table.add_column(Text(candidate.label), justify="right")
    valid = [
        Text(" ".join((mark, word)), style={"✓": "green", "✗": "bold red"}.get(mark, ""))
        for mark, word in (validity_words(run.validity) for run in (baseline, candidate))
    ]
    table.add_row("validity", *valid)
    if baseline.objectives or candidate.objectives:
        table.add_row("SLO", *map(_slo, (baseline, candidate)))
    for row in side_by_side([dict(run_figures(run)) for run in (baseline, candidate)]):
        table.add_row(*row)
    table.add_row("failures", *(Text(_failures(run)) for run in (baseline, candidate)))
    return indented(table)


def effects(found: tuple[Effect, ...]) -> list[RenderableType]:
    """The telling effects by group, a line that explains the columns, and how many are not shown."""
    shown = telling_effects(found)
    parts: list[RenderableType] = [indented(_effect_table((), header=True))]
    for group, members in by_group(shown):
        parts.append(heading(group_name(group)))
        parts.append(indented(_effect_table(members, header=False)))
    hidden = left_out(found, shown)
    if hidden:
        counts = ", ".join(
            f"{hidden[verdict]} {SYMBOLS[verdict]} {EFFECT_WORDS[verdict]}"
            for verdict in Verdict
            if hidden[verdict]
        )
        parts.append(note(f"Not shown: {hidden.total()} more effects ({counts}); --html or --json has all."))
    parts += map(note, undecided_notes(shown))
    parts.append(note("Change, CI and MDE (smallest change that could be seen) in % of the baseline."))
    return parts


def outcomes(changes: tuple[OutcomeChange, ...]) -> RenderableType:
    """Failure counts of both runs by group and kind: all failures, and whatever differs."""
    rows = (
        (
            Text(f"{group_name(change.group)}: {change.kind}"),
            f"{format_count(change.baseline_count)} → {format_count(change.candidate_count)}",
            format_p_value(change.p_value),
            verdict_word(change.verdict.value, outcome_text(change)),
        )
        for change in telling_changes(changes)
    )
    return figure_table("", ("base → candidate", "p", ""), rows)


def _effect_table(members: tuple[Effect, ...], *, header: bool) -> Table:
    table = plain_table(header=header)
    for title, width, side in _COLUMNS:
        table.add_column(
            title if header else "", width=width, justify="right" if side == "right" else "left", no_wrap=True
        )
    for effect in members:
        base = effect.baseline_ns
        table.add_row(
            f" {effect_name(effect)}",
            format_pair_ns(base, effect.candidate_ns),
            format_change_ratio(relative(effect.effect_ns, base)),
            format_interval_ratio(relative(effect.low_ns, base), relative(effect.high_ns, base)),
            format_change_ratio(relative(effect.minimum_detectable_ns, base)).lstrip("+"),
            verdict_word(effect.verdict.value, verdict_text(effect)),
        )
    return table


def _slo(summary: RunSummary) -> Text:
    if not summary.objectives:
        return Text(MISSING)
    missed = sum(not result.met for result in summary.objectives)
    return Text(f"✗ {missed} missed", style="bold red") if missed else Text("✓ met", style="green")


def _failures(summary: RunSummary) -> str:
    kinds = [f"{kind} {format_count(count)}" for kind, count in failures_by_kind(summary.groups)]
    return "\n".join(kinds) or "none"
