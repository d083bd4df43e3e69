"""The words that the terminal and the page share: names, symbols, a verdict's headline and its doubt.

A verdict is never colour alone: each has a word and a symbol. How they are laid out is not decided here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from replay.analysis.planning_values import Capacity
from replay.analysis.values import (
    METRICS,
    DiffResult,
    Effect,
    Group,
    GroupSummary,
    ObjectiveResult,
    OutcomeChange,
    RunSummary,
    Validity,
    Verdict,
)
from replay.analysis.vocabulary import headline_clock
from replay.report.figures import (
    MISSING,
    format_bound,
    format_change_ratio,
    format_count,
    format_ns,
    format_quantile,
    format_rate,
    format_ratio,
    format_seconds,
    relative,
)
from replay.report.server_wording import cost_rows, scrape_doubts
from replay.report.telling import headline_effects

METRIC_NAMES: Mapping[str, str] = {
    "ttft": "TTFT",
    "itl": "ITL",
    "tpot": "TPOT",
    "e2e": "E2E",
    "error_rate": "error rate",
    "shed_rate": "shed rate",
    "recovery": "recovery",
}
METRIC_MEANINGS: Mapping[str, str] = {
    "ttft": "time to first token",
    "itl": "inter-token latency",
    "tpot": "time per output token",
    "e2e": "end to end",
}
SYMBOLS: Mapping[Verdict, str] = {
    Verdict.REGRESSION: "+",
    Verdict.IMPROVED: "−",
    Verdict.EQUIVALENT: "~",
    Verdict.INCONCLUSIVE: "?",
}
EFFECT_WORDS: Mapping[Verdict, str] = {
    Verdict.REGRESSION: "slower",
    Verdict.IMPROVED: "faster",
    Verdict.EQUIVALENT: "no difference",
    Verdict.INCONCLUSIVE: "undecided",
}
OUTCOME_WORDS: Mapping[Verdict, str] = {
    Verdict.REGRESSION: "more failures",
    Verdict.IMPROVED: "fewer failures",
    Verdict.EQUIVALENT: "no difference",
    Verdict.INCONCLUSIVE: "undecided",
}
INVALID = "invalid"


@dataclasses.dataclass(frozen=True)
class Headline:
    """What stands on top: `tone` is a verdict's value or `INVALID`, `word` and `mark` say it in print."""

    tone: str
    mark: str
    word: str
    subject: str


_MARKS = {
    Verdict.REGRESSION: "▲",
    Verdict.IMPROVED: "▼",
    Verdict.EQUIVALENT: "≈",
    Verdict.INCONCLUSIVE: "?",
}


def metric_name(metric: str) -> str:
    """A metric's name in print; an unknown one in capitals."""
    return METRIC_NAMES.get(metric, metric.upper())


def group_name(group: Group) -> str:
    """A group's name in print."""
    if group.kind == "all":
        return "all requests"
    if group.kind == "endpoint":
        return group.name
    return f"{group.kind} {group.name or '(none)'}"


def effect_name(effect: Effect) -> str:
    """An effect's metric and quantile; the clock is named only when it is not the headline one."""
    name = f"{metric_name(effect.metric)} {format_quantile(effect.quantile)}"
    return name if effect.clock == "due" else f"{name} {effect.clock}"


def verdict_text(effect: Effect) -> str:
    """Symbol and word of an effect's verdict; one without an interval was never judged, and says so."""
    word = EFFECT_WORDS[effect.verdict] if has_interval(effect) else "too few pairs"
    return f"{SYMBOLS[effect.verdict]} {word}"


def has_interval(effect: Effect) -> bool:
    """Whether there were pairs enough to judge the effect at all."""
    return not (math.isnan(effect.low_ns) and math.isnan(effect.high_ns))


def outcome_text(change: OutcomeChange) -> str:
    """Symbol and word of an outcome change's verdict."""
    return f"{SYMBOLS[change.verdict]} {OUTCOME_WORDS[change.verdict]}"


def diff_headline(diff: DiffResult) -> Headline:
    """The headline of a comparison; a run that is INVALID takes the verdict's place."""
    subject = f"{diff.candidate.label} against {diff.baseline.label}"
    invalid = [run.label for run in (diff.baseline, diff.candidate) if not run.validity.valid]
    if invalid:
        because = f"no verdict, since {' and '.join(invalid)} can't carry one"
        return Headline(INVALID, "✗", "INVALID", f"{subject}: {because}")
    return Headline(diff.verdict.value, _MARKS[diff.verdict], diff.verdict.value.capitalize(), subject)


def run_headline(summary: RunSummary) -> Headline:
    """The headline of one run: INVALID, SLO missed, SLO met, or merely valid, if that could be judged."""
    subject = f"{summary.label} at {summary.target}"
    if not summary.validity.valid:
        return Headline(INVALID, "✗", "INVALID", subject)
    if not summary.objectives:
        if not summary.validity.judged:
            return Headline(Verdict.INCONCLUSIVE.value, "?", "Not judged", subject)
        return Headline(Verdict.EQUIVALENT.value, "✓", "Valid", subject)
    if all(result.met for result in summary.objectives):
        return Headline(Verdict.IMPROVED.value, "✓", "SLO met", subject)
    return Headline(Verdict.REGRESSION.value, "✗", "SLO missed", subject)


def validity_words(validity: Validity) -> tuple[str, str]:
    """Mark and word of a run's validity; a run that could not be judged is not called valid."""
    if not validity.valid:
        return "✗", "INVALID"
    return ("✓", "valid") if validity.judged else ("?", "not judged")


def headline_clock_of(run: RunSummary) -> str:
    """The clock that the run's latencies are told by: "due", or "sent" where no due instant is known."""
    return headline_clock(metric for group in run.groups for metric in group.metrics)


def invalid_reasons(summary: RunSummary) -> tuple[str, ...]:
    """One sentence per failed check."""
    return tuple(
        f"{check.name}: {check.found} found, {check.wanted} wanted"
        for check in summary.validity.checks
        if not check.passed
    )


def refusal_reasons(runs: Sequence[RunSummary], why: str) -> list[str]:
    """The failed checks of the runs by label; `why` where none failed and there is no verdict still."""
    failed = [f"{run.label}: {reason}" for run in runs for reason in invalid_reasons(run)]
    return failed or [why]


def diff_reasons(diff: DiffResult) -> tuple[str, ...]:
    """Why the verdict is what it is; the failed checks where a run is INVALID."""
    failed = [
        f"{run.label}: {reason}" for run in (diff.baseline, diff.candidate) for reason in invalid_reasons(run)
    ]
    return tuple(failed) or diff.reasons


def diff_doubts(diff: DiffResult) -> tuple[str, ...]:
    """What the verdict rests on and how small a change it could have seen, then the warnings."""
    unpaired = diff.unpaired_baseline + diff.unpaired_candidate
    pairs = f"{format_count(diff.pairs)} pairs"
    if unpaired:
        pairs += (
            f", {format_count(unpaired)} requests unpaired ({format_count(diff.unpaired_baseline)} in "
            f"{diff.baseline.label}, {format_count(diff.unpaired_candidate)} in {diff.candidate.label})"
        )
    doubts = [f"{pairs}; tolerance {format_bound(diff.tolerance)}."]
    seen = _smallest_changes(diff.effects)
    if seen:
        doubts.append(f"Smallest change it could see, p50 / p99: {seen}.")
    both = [text for text in run_doubts(diff.baseline) if text in run_doubts(diff.candidate)]
    doubts.extend(f"both runs: {text}" for text in both)
    for run in (diff.baseline, diff.candidate):
        doubts.extend(f"{run.label}: {text}" for text in run_doubts(run) if text not in both)
    return (*doubts, *diff.warnings)


def undecided_notes(effects: Sequence[Effect]) -> tuple[str, ...]:
    """What would decide the undecided of `effects`, and what it takes for an interval where there is none."""
    needed = [e for e in effects if e.verdict is Verdict.INCONCLUSIVE and e.pairs_needed]
    judged = [e.pairs_needed or 0 for e in needed if has_interval(e)]
    unjudged = [e.pairs_needed or 0 for e in needed if not has_interval(e)]
    notes = []
    if judged:
        notes.append(f"Undecided: about {format_count(max(judged))} more pairs would decide them all.")
    if unjudged:
        more = format_count(max(unjudged))
        notes.append(f"Too few pairs for an interval: about {more} more would give one, and may decide.")
    return tuple(notes)


def run_doubts(summary: RunSummary) -> tuple[str, ...]:
    """What limits trust in a run that may still be valid."""
    partial = ("partial: the replay was stopped before its end",) if summary.partial else ()
    return (*partial, *summary.validity.warnings, *scrape_doubts(summary))


def objective_text(result: ObjectiveResult) -> tuple[str, str]:
    """An objective and what was found, in print: ("TTFT p99 ≤ 500 ms, phase spike", "320 ms")."""
    objective = result.objective
    name = metric_name(objective.metric)
    kinds = (("", objective.endpoint), ("model ", objective.model), ("phase ", objective.phase))
    where = "".join(f", {kind}{pattern}" for kind, pattern in kinds if pattern != "*")
    if objective.quantile is not None:
        name = f"{name} {format_quantile(objective.quantile)}"
    elif objective.metric != "recovery":
        return f"{name} ≤ {format_bound(objective.limit)}{where}", _found_text(result, format_ratio)
    return f"{name} ≤ {format_ns(objective.limit)}{where}", _found_text(result, format_ns)


def _found_text(result: ObjectiveResult, form: Callable[[float], str]) -> str:
    return form(result.found) if result.requests or math.isfinite(result.found) else "no such request"


def failures_by_kind(groups: tuple[GroupSummary, ...]) -> tuple[tuple[str, int], ...]:
    """(kind, count) of every error and every status that is no answer, of all; most frequent first."""
    for summary in groups:
        if summary.group.kind == "all":
            found = [(kind, count) for kind, count in summary.errors.items() if count and kind != "aborted"]
            found += [
                (f"HTTP {code}", n)
                for code, n in summary.statuses.items()
                if n and code >= 300 and code != 304
            ]
            return tuple(sorted(found, key=lambda item: (-item[1], item[0])))
    return ()


def run_figures(summary: RunSummary) -> tuple[tuple[str, str], ...]:
    """(name, value) of the key figures of one run, in the order in which they are read."""
    figures = [
        ("scheduled", format_count(summary.scheduled)),
        ("sent", _count_of(summary.sent, summary.scheduled)),
        ("ok", _count_of(summary.ok, summary.scheduled)),
        *([("hung up as recorded", format_count(summary.aborted))] if summary.aborted else []),
        ("error rate", format_ratio(summary.error_rate)),
        *_shed_figures(summary),
        ("offered", format_rate(summary.offered_per_s)),
        ("achieved", format_rate(summary.achieved_per_s)),
    ]
    if summary.objectives:
        figures.append(("goodput", format_rate(summary.goodput_per_s)))
    if summary.capacity is not None and summary.validity.valid:
        figures.append(("objectives met up to", _capacity(summary.capacity)))
    for metric in ("ttft", "e2e"):
        figures += [
            (f"{metric_name(metric)} {format_quantile(quantile)}", format_ns(value))
            for quantile, value in _headline_quantiles(summary, metric)
        ]
    late = summary.lateness_quantile_ns.get(0.99)
    if late is not None and summary.validity.judged:
        figures.append(("lateness p99", format_ns(late)))
    figures.append(("output tokens", format_count(summary.output_tokens)))
    if summary.cost is not None:
        figures += [(f"cost {name}", value) for name, value in cost_rows(summary.cost) if name[:3] == "per"]
    return tuple(figures)


def side_by_side(columns: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """Figures of several columns by name, in the order of their first; "–" for none."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(column.get(name, MISSING) for column in columns)) for name in names]


def _capacity(found: Capacity) -> str:
    """The level up to which every objective was met, such as "x3.5, 77.9/s"."""
    return f"{found.held}, {format_rate(found.held_per_s)}" if found.held else "no level"


def _shed_figures(summary: RunSummary) -> list[tuple[str, str]]:
    """Requests that were turned away, and how long they were asked to wait; nothing where none was."""
    if not summary.shed:
        return []
    found = [("shed (429, 503)", format_count(sum(summary.shed.values())))]
    if (asked := summary.retry_after) is not None:
        found += [("Retry-After p50", format_seconds(asked.p50_s))]
        found += [("Retry-After max", format_seconds(asked.max_s))]
    return found


def _headline_quantiles(summary: RunSummary, metric: str) -> list[tuple[float, float]]:
    for group in summary.groups:
        if group.group.kind != "all":
            continue
        for found in group.metrics:
            if found.metric == metric and found.clock == headline_clock_of(summary) and found.n:
                return [(q, found.quantile_ns[q]) for q in (0.5, 0.99) if q in found.quantile_ns]
    return []


def _smallest_changes(effects: tuple[Effect, ...]) -> str:
    found: dict[str, list[str]] = {}
    for effect in headline_effects(effects):
        if len(found.get(effect.metric, ())) < 2:
            share = format_change_ratio(relative(effect.minimum_detectable_ns, effect.baseline_ns))
            found.setdefault(effect.metric, []).append(share.lstrip("+"))
    known = [metric for metric in METRICS if metric in found]
    return ", ".join(f"{metric_name(metric)} {' / '.join(found[metric])}" for metric in known)


def _count_of(part: int, whole: int) -> str:
    return (
        format_count(part)
        if part == whole
        else f"{format_count(part)} ({format_ratio(relative(part, whole))})"
    )
