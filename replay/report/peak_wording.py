"""The words for phases, peaks and the load that a staircase held, for terminal, page and Markdown.

What they mean is analysis's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from replay.analysis.shed_values import RetryAfter
from replay.analysis.values import ObjectiveResult, Peak, PhaseSummary, Recovery, RunSummary, Settled
from replay.report.figures import (
    MISSING,
    format_count,
    format_number,
    format_rate,
    format_ratio,
    format_seconds,
    relative,
)
from replay.report.wording import objective_text

PHASE_HEADINGS = ("phase", "for", "offered", "answered", "in flight", "most", "failed", "shed")


def phase_rows(phases: Sequence[PhaseSummary]) -> list[tuple[str, ...]]:
    """A row of `PHASE_HEADINGS` per phase."""
    return [
        (
            phase.phase,
            format_seconds(phase.length_s),
            format_rate(phase.offered_per_s),
            format_rate(phase.answered_per_s),
            format_number(phase.in_flight_mean),
            format_count(phase.in_flight_max),
            format_ratio(relative(phase.failed, phase.scheduled)),
            shed_text(phase.shed),
        )
        for phase in phases
    ]


def slo_by_phase(summary: RunSummary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and a row per objective: in each phase the share that met it, and the burn rate; then goodput.

    Nothing without objectives and phases.
    """
    if not summary.objectives or not summary.phases:
        return (), []
    headings = ("", *(phase.phase for phase in summary.phases))
    rows = []
    for result in summary.objectives:
        cells = [_cell_of(phase, result) for phase in summary.phases]
        if any(cell != MISSING for cell in cells):
            rows.append((objective_text(result)[0], *cells))
    rows.append(("goodput", *(format_rate(phase.goodput_per_s) for phase in summary.phases)))
    return headings, rows


def capacity_sentences(summary: RunSummary) -> tuple[str, ...]:
    """Up to which level of a staircase every objective was met, and what gave out first; () without one."""
    found = summary.capacity
    if found is None:
        return ()
    if not summary.validity.valid:
        return ("Which level held can't be said of an INVALID run: it did not offer what was planned.",)
    levels = {phase.phase: phase for phase in summary.phases}
    held = (
        f"Every objective met up to {_load(levels[found.held])}"
        if found.held
        else "No level met every objective"
    )
    if found.missed is None:
        told = f"{held}; none missed by more than chance, so what it can take lies above."
    else:
        told = f"{held}; missed at {_load(levels[found.missed])}: {_misses(levels[found.missed])}."
    doubts = (
        (found.undecided, "missed one by no more than chance may do: longer levels would tell."),
        (found.met_again, "met every objective again: a second run would tell what the miss was."),
    )
    return (told, *(f"{', '.join(names)} {doubt}" for names, doubt in doubts if names))


def burn_text(burn: float) -> str:
    """A burn rate such as "3.2×"; "–" where there is no budget."""
    if math.isnan(burn):
        return MISSING
    return f"{burn:.2g}×" if burn < 100 else f"{format_number(burn)}×"


def peak_sentences(peaks: Sequence[Peak], most: int = 8) -> tuple[str, ...]:
    """Two sentences a peak, in the order of time; of more than `most` the ones that took longest to leave."""
    shown = sorted(peaks, key=_gravity)[:most]
    found = [sentence for peak in peaks if peak in shown for sentence in (_way_back(peak), _queue(peak))]
    if len(peaks) > len(shown):
        found.append(f"{len(peaks) - len(shown)} more peaks, none of them slower to pass: --json has all.")
    return tuple(found)


def _gravity(peak: Peak) -> tuple[bool, float]:
    after_s = peak.latency.after_s
    return (peak.latency.settled is not Settled.NOT_YET, -after_s if after_s == after_s else 0.0)


def _way_back(peak: Peak) -> str:
    times = relative(peak.offered_per_s, peak.base_per_s)
    place = f"{_instant(peak.start_s)} to {_instant(peak.end_s)}"
    told = f"{peak.phase}, {place}, {format_rate(peak.offered_per_s)} ({format_number(times)}× base)"
    latency = peak.latency
    if latency.settled is Settled.UNKNOWN:
        return f"{told}: whether it recovered can't be said ({latency.why})."
    band = f"{format_number(latency.band)}× the median; base: {format_number(latency.base)}×"
    if latency.settled is Settled.HELD:
        return f"{told}: held; the slow tenth stayed within base ({band})."
    worst = (
        "more than a tenth failed"
        if math.isinf(latency.worst)
        else f"{format_number(latency.worst)}× at worst"
    )
    left = f"slow from {_instant(latency.left_at_s)}" if latency.left_at_s == latency.left_at_s else "slow"
    return f"{told}: {left}, {worst}; the slow tenth is {_back(latency, peak, band)}."


def _back(found: Recovery, peak: Peak, band: str) -> str:
    if found.settled is Settled.RECOVERED:
        step = format_seconds(found.window_s)
        return f"back within base ({band}) {format_seconds(found.after_s)} after its end, in steps of {step}"
    return f"not back within base ({band}) {format_seconds(peak.watched_until_s - peak.end_s)} after its end"


def _queue(peak: Peak) -> str:
    grown = f"{peak.growth_per_s:+,.3g}/s".replace("-", "−")
    told = (
        f"{peak.phase}: in flight {format_number(peak.in_flight_before)} → {format_count(peak.in_flight_max)}"
        f" at {_instant(peak.in_flight_max_at_s)}, {grown} over the peak"
    )
    match peak.backlog.settled:
        case Settled.RECOVERED:
            told += f"; drained {format_seconds(peak.backlog.after_s)} after its end"
        case Settled.NOT_YET:
            told += "; not drained when the watch ended"
    shed = f"{format_count(peak.shed)} shed (429, 503)" if peak.shed else "none shed"
    return f"{told}; {shed}, {format_count(peak.failed - peak.shed)} failed otherwise."


def shed_text(shed: Mapping[int, int]) -> str:
    """Counts by status such as "12×429 + 3×503"; "0" for none."""
    return " + ".join(f"{format_count(count)}×{status}" for status, count in shed.items()) or "0"


def retry_after_text(asked: RetryAfter | None) -> str:
    """What those that were turned away were asked to wait; that it was not said, for None."""
    if asked is None:
        return "no Retry-After"
    waits = f"p50 {format_seconds(asked.p50_s)}, max {format_seconds(asked.max_s)}"
    return f"Retry-After in {format_count(asked.given)}: {waits}"


def shed_sentences(phases: Sequence[PhaseSummary]) -> tuple[str, ...]:
    """One per phase that turned requests away: how many, and when they were asked to come back."""
    return tuple(
        f"{phase.phase}: {shed_text(phase.shed)} shed; {retry_after_text(phase.retry_after)}."
        for phase in phases
        if phase.shed
    )


def _cell_of(phase: PhaseSummary, wanted: ObjectiveResult) -> str:
    for result in phase.objectives:
        if result.objective == wanted.objective:
            spent = f", burn {burn_text(result.burn)}" if result.burn else ""
            return f"{format_ratio(result.attainment)}{spent}"
    return MISSING


def _instant(at_s: float) -> str:
    return f"{at_s:,.1f} s"


def _load(level: PhaseSummary) -> str:
    good = format_rate(level.goodput_per_s)
    return f"{level.phase} ({format_rate(level.offered_per_s)} offered, {good} within every limit)"


def _misses(level: PhaseSummary) -> str:
    told = [
        f"{wanted}, {found} of {format_count(result.requests)} requests"
        for result in level.objectives
        if not result.met
        for wanted, found in (objective_text(result),)
    ]
    return "; ".join(told)
