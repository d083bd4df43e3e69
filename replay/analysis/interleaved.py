"""Interleaved runs of two builds: the run is the unit, pairs of neighbouring runs are compared, looks repeat.

What is inside a run (its requests, their autocorrelation) enters through the run's own quantiles only, so
whatever differs from run to run is in the noise that is measured. Values in, values out.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from typing import Final

from capture.failures import NothingCompared
from replay.analysis.sequential import anytime_difference, anytime_interval, half_width, pairs_until
from replay.analysis.values import RunSummary, Verdict
from replay.analysis.verdicts import verdict_of

FIGURES: Final = (("ttft", 0.5), ("ttft", 0.99), ("tpot", 0.5), ("e2e", 0.5), ("e2e", 0.99))
"""What is judged, all from due, over all requests; and the error rate. Each gets an equal part of alpha."""

ERRORS_TOLERATED: Final = 0.005
"""A change of the error rate up to this much, of all requests, is none."""

_STEPS: Final = (*range(1, 20), *range(20, 100, 5), *range(100, 1001, 50))
"""Numbers of further pairs that are tried for the error rate."""

type Count = tuple[int, int]
"""Of one run: how many requests failed, of how many that were scheduled."""


@dataclasses.dataclass(frozen=True)
class PairedFigure:
    """One figure over all pairs: means of both arms (ns; a share for `error_rate`), the change, its interval.

    `change`, `low` and `high` are shares of the baseline (for `error_rate` plain differences); `pairs_needed`
    is how many more pairs would decide it about, None where none would or where it is decided.
    """

    metric: str
    quantile: float | None
    pairs: int
    baseline: float
    candidate: float
    change: float
    low: float
    high: float
    tolerance: float
    verdict: Verdict
    pairs_needed: int | None


@dataclasses.dataclass(frozen=True)
class InterleavedResult:
    """The verdict after so many pairs, whether more of them could change it, and about how many."""

    verdict: Verdict
    decided: bool
    pairs: int
    pairs_needed: int | None
    figures: tuple[PairedFigure, ...]
    alpha: float


def order_of_runs(block: int) -> tuple[str, str]:
    """Which arm runs first in a block: A B, B A, B A, A B, … (ABBA), so that a steady drift cancels."""
    return ("a", "b") if block % 4 in (0, 3) else ("b", "a")


def judge_pairs(
    baseline: Sequence[RunSummary], candidate: Sequence[RunSummary], *, tolerance: float, alpha: float = 0.05
) -> InterleavedResult:
    """The verdict over the blocks so far; run i of each arm is block i.

    A figure is judged by the differences of logarithms, pair by pair (the error rate by plain ones, and by
    counts), with an interval that holds at every look (`sequential`) at alpha / number of figures, so that
    the chance that any figure is ever called changed when none is stays below `alpha`, however often one
    looks. A regression must exclude zero and exceed the tolerance. One that no run has (no streams: no TTFT)
    is left out.

    Raises `NothingCompared` where no run of the baseline answered anything: runs that fail alike would
    be equivalent.
    """
    if not any(run.ok for run in baseline):
        raise NothingCompared(
            f"no verdict: no request was answered well in any run of {baseline[0].label or 'the baseline'}, "
            "so nothing can be compared with it; see what failed with `peaktape report`"
        )
    found = [
        series for name, at in FIGURES if (series := _quantiles(baseline, candidate, name, at)) is not None
    ]
    share = alpha / (len(found) + 1)
    figures = [_judged(name, at, before, after, tolerance, share) for name, at, before, after in found]
    figures.append(_judged_errors(baseline, candidate, share))
    verdicts = {figure.verdict for figure in figures}
    if Verdict.REGRESSION in verdicts:
        verdict, decided = Verdict.REGRESSION, True
    elif Verdict.INCONCLUSIVE in verdicts:
        verdict, decided = Verdict.INCONCLUSIVE, False
    else:
        verdict, decided = Verdict.EQUIVALENT if verdicts == {Verdict.EQUIVALENT} else Verdict.IMPROVED, True
    return InterleavedResult(
        verdict=verdict,
        decided=decided,
        pairs=len(baseline),
        pairs_needed=None if decided else _pairs_to_a_verdict(figures),
        figures=tuple(figures),
        alpha=alpha,
    )


def _pairs_to_a_verdict(figures: Sequence[PairedFigure]) -> int | None:
    """About how many more pairs decide it, if things stay as they are: one regression does, and ends it.

    Where no figure is on its way to one, all that are open have to be closed; None where one never will be.
    """
    still_open = [figure for figure in figures if figure.verdict is Verdict.INCONCLUSIVE]
    needed = [figure.pairs_needed for figure in still_open]
    worse = [figure.pairs_needed for figure in still_open if figure.change > figure.tolerance]
    if any(worse):
        return min(pairs for pairs in worse if pairs)
    return None if None in needed else max((pairs for pairs in needed if pairs), default=0)


_Series = tuple[str, float, list[float], list[float]]


def _quantiles(
    baseline: Sequence[RunSummary], candidate: Sequence[RunSummary], metric: str, quantile: float
) -> _Series | None:
    pairs = [
        (before, after)
        for before, after in (
            (_quantile(a, metric, quantile), _quantile(b, metric, quantile))
            for a, b in zip(baseline, candidate, strict=True)
        )
        if before > 0 and after > 0
    ]
    if not pairs:
        return None
    return metric, quantile, [before for before, _ in pairs], [after for _, after in pairs]


def _quantile(run: RunSummary, metric: str, quantile: float) -> float:
    for group in run.groups:
        if group.group.kind == "all":
            for found in group.metrics:
                if found.metric == metric and found.clock == "due":
                    return found.quantile_ns[quantile]
    return math.nan


def _judged(
    metric: str, quantile: float, before: list[float], after: list[float], tolerance: float, alpha: float
) -> PairedFigure:
    differences = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    mean, low, high = anytime_interval(differences, alpha)
    limits = math.log1p(-tolerance), math.log1p(tolerance)
    verdict = verdict_of(low, high, mean, limits[1], -limits[0] if tolerance else 0.0)
    return PairedFigure(
        metric=metric,
        quantile=quantile,
        pairs=len(differences),
        baseline=_geometric_mean(before),
        candidate=_geometric_mean(after),
        change=math.expm1(mean),
        low=math.expm1(low),
        high=math.expm1(high) if math.isfinite(high) else math.inf,
        tolerance=tolerance,
        verdict=verdict,
        pairs_needed=_needed(differences, mean, limits[1], alpha)
        if verdict is Verdict.INCONCLUSIVE
        else None,
    )


def error_rate_interval(
    baseline: Sequence[Count], candidate: Sequence[Count], alpha: float
) -> tuple[float, float, float]:
    """The mean change of the error rate from run to run, and the ends of its interval at 1 − `alpha`.

    A count is (failed, scheduled) of a run. The interval is the wider of two that hold at every look. That of
    the differences between runs (`anytime_interval`) knows what differs from run to run, but takes rates for
    normal: four runs with one error each would show no noise at all. That of all requests together
    (`anytime_difference`) is exact for few errors and for none, but takes requests as independent. A change
    is certain where both exclude zero.
    """
    pairs = zip(baseline, candidate, strict=True)
    mean, low, high = anytime_interval([b / of_b - a / of_a for (a, of_a), (b, of_b) in pairs], alpha)
    exact = anytime_difference(_total(baseline), _total(candidate), alpha)
    return mean, min(low, exact[0]), max(high, exact[1])


def _total(counts: Sequence[Count]) -> Count:
    return sum(failed for failed, _ in counts), sum(scheduled for _, scheduled in counts)


def _judged_errors(
    baseline: Sequence[RunSummary], candidate: Sequence[RunSummary], alpha: float
) -> PairedFigure:
    before, after = ([_failures(run) for run in runs] for runs in (baseline, candidate))
    mean, low, high = error_rate_interval(before, after, alpha)
    verdict = verdict_of(low, high, mean, ERRORS_TOLERATED, ERRORS_TOLERATED)
    return PairedFigure(
        metric="error_rate",
        quantile=None,
        pairs=len(before),
        baseline=sum(run.error_rate for run in baseline) / len(baseline),
        candidate=sum(run.error_rate for run in candidate) / len(candidate),
        change=mean,
        low=low,
        high=high,
        tolerance=ERRORS_TOLERATED,
        verdict=verdict,
        pairs_needed=_errors_needed(before, after, alpha) if verdict is Verdict.INCONCLUSIVE else None,
    )


def _failures(run: RunSummary) -> Count:
    return round(run.error_rate * run.scheduled), run.scheduled


def _errors_needed(before: Sequence[Count], after: Sequence[Count], alpha: float) -> int | None:
    """As `_needed`, and as many as the interval of all requests takes at rates like these."""
    differences = [b / of_b - a / of_a for (a, of_a), (b, of_b) in zip(before, after, strict=True)]
    n, mean = len(differences), sum(differences) / len(differences)
    by_runs = _needed(differences, mean, ERRORS_TOLERATED, alpha)

    def decides(more: int) -> bool:
        scaled = [
            (round(failed * (n + more) / n), round(scheduled * (n + more) / n))
            for failed, scheduled in (_total(before), _total(after))
        ]
        low, high = anytime_difference(scaled[0], scaled[1], alpha)
        if abs(mean) > ERRORS_TOLERATED:
            return low > 0.0 or high < 0.0
        return low >= -ERRORS_TOLERATED and high <= ERRORS_TOLERATED

    at = bisect.bisect_left(_STEPS, True, key=decides)
    return None if by_runs is None or at == len(_STEPS) else max(by_runs, _STEPS[at])


def _geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _needed(differences: list[float], mean: float, limit: float, alpha: float) -> int | None:
    """About how many more pairs decide it if mean and noise stay: clear of 0, or inside the tolerance."""
    n = len(differences)
    if n < 2:
        return None
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    wanted = abs(mean) if abs(mean) > limit else max(limit - abs(mean), limit / 10)
    if half_width(deviation, n, alpha) <= wanted:
        return 1
    return pairs_until(wanted, deviation, n, alpha)
