"""From estimates to verdicts: pure decisions about one effect, given the family, the tolerance, the floor.

An effect is a regression only if it is certain (its interval excludes zero, for the whole family) and it
matters (it is above what the same build differs from itself, and above what the user tolerates).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from replay.analysis.effects import Estimate
from replay.analysis.holm import holm
from replay.analysis.values import Effect, Group, Verdict

POWER = 0.8

RESOLUTION_NS: Mapping[str, float] = {"ttft": 2e6, "e2e": 2e6, "tpot": 0.25e6, "itl": 0.25e6}
"""Below this no difference between two runs is believed: timers tick at about 1 ms, at both ends; per token
they average out to a quarter of that."""

DRIFT = 0.02
"""The part of a quantile by which one build is taken to differ from itself from run to run, unless measured.

One run per arm can't show it: the bootstrap sees the noise within a run only."""

FloorKey = tuple[Group, str, str, float]
"""(group, metric, clock, quantile)"""


def assumed_floor_ns(metric: str, baseline_ns: float) -> float:
    """The noise floor in ns of a quantile without A/A runs: timer resolution + 2 % of the baseline."""
    return RESOLUTION_NS[metric] + DRIFT * abs(baseline_ns)


def measured_floors_ns(aa_estimates: Sequence[Estimate]) -> dict[FloorKey, float]:
    """Noise floors from two runs of one build: per effect |A′ − A| plus one standard error, in ns.

    Never below the resolution of timers. Effects that could not be judged give none.
    """
    return {
        (e.group, e.metric, e.clock, e.quantile): max(
            RESOLUTION_NS[e.metric], abs(e.effect_ns) + e.standard_error * e.baseline_ns
        )
        for e in aa_estimates
        if e.judged
    }


def judge_effects(
    found: Sequence[Estimate], tolerance: float, floors_ns: Mapping[FloorKey, float]
) -> tuple[Effect, ...]:
    """Each estimate with its interval, verdict and minimum detectable effect, in the same order.

    The family of Holm's procedure is all judged estimates. `tolerance` is a fraction of the baseline.
    """
    family = holm(np.array([estimate.p_value for estimate in found], dtype=np.float64))
    return tuple(
        _judge(estimate, float(p), float(level), tolerance, floors_ns)
        for estimate, p, level in zip(found, family.adjusted, family.level, strict=True)
    )


def _judge(
    estimate: Estimate, p_value: float, level: float, tolerance: float, floors_ns: Mapping[FloorKey, float]
) -> Effect:
    key = (estimate.group, estimate.metric, estimate.clock, estimate.quantile)
    floor = floors_ns.get(key, assumed_floor_ns(estimate.metric, estimate.baseline_ns))
    tolerated = tolerance * abs(estimate.baseline_ns)
    margin = max(floor, tolerated)
    low, high = estimate.interval_ns(level)
    verdict = (
        verdict_of(low, high, estimate.effect_ns, margin, tolerated)
        if estimate.judged
        else Verdict.INCONCLUSIVE
    )
    return Effect(
        group=estimate.group,
        metric=estimate.metric,
        clock=estimate.clock,
        quantile=estimate.quantile,
        pairs=estimate.pairs,
        baseline_ns=estimate.baseline_ns,
        candidate_ns=estimate.candidate_ns,
        effect_ns=estimate.effect_ns,
        low_ns=low,
        high_ns=high,
        p_value=p_value,
        minimum_detectable_ns=_minimum_detectable_ns(estimate, level, margin),
        noise_floor_ns=floor,
        tolerance_ns=tolerated,
        verdict=verdict,
        pairs_needed=_pairs_needed(estimate, level, margin, tolerated)
        if verdict is Verdict.INCONCLUSIVE
        else None,
    )


def verdict_of(low: float, high: float, effect: float, margin: float, tolerated: float) -> Verdict:
    """The verdict on an effect with an interval; `margin` is max(noise floor, tolerance). All one unit.

    Greater is worse. An interval that touches zero does not exclude it. The noise floor keeps a difference
    from being called one; it does not make two builds the same.
    """
    if low > 0.0 and effect > margin:
        return Verdict.REGRESSION
    if high < 0.0 and effect < -margin:
        return Verdict.IMPROVED
    if -tolerated <= low and high <= tolerated:
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


def _minimum_detectable_ns(estimate: Estimate, level: float, margin: float) -> float:
    """The true effect in ns that would be called a regression four times in five; NaN where not judged.

    max(half-width, margin) + t₀.₈ SE on the log scale; J. Cohen, Statistical Power Analysis (1988).
    """
    if not estimate.judged:
        return float("nan")
    least = max(estimate.half_width(level), _in_logs(margin, estimate))
    ratio = least + float(stats.t.ppf(POWER, estimate.freedom)) * estimate.standard_error
    return float(np.expm1(ratio)) * max(estimate.baseline_ns, 1.0)


def _in_logs(margin_ns: float, estimate: Estimate) -> float:
    return math.log1p(margin_ns / max(estimate.baseline_ns, 1.0))


def _pairs_needed(estimate: Estimate, level: float, margin: float, tolerated: float) -> int | None:
    """About how many more pairs would decide it, if the effect stays as found and noise falls as 1/√n.

    Above the margin the interval must shrink until it excludes zero, else until it lies inside the tolerance
    (or, right at its edge, to a tenth of it). Two significant digits, at least 1. None where pairs can't
    decide: what lies between the tolerance and the noise floor takes runs of one build to tell.
    """
    if not estimate.judged:
        return max(1, _rounded(estimate.pairs_wanted - estimate.pairs))
    size, limit = abs(estimate.log_ratio), _in_logs(tolerated, estimate)
    if limit < size <= _in_logs(margin, estimate) or (limit == 0.0 and size == 0.0):
        return None
    wanted = size if size > limit else max(limit - size, limit / 10.0)
    return max(1, _rounded(estimate.pairs * ((estimate.half_width(level) / wanted) ** 2 - 1.0)))


def _rounded(count: float) -> int:
    if count < 1:
        return 0
    digits = max(0, math.floor(math.log10(count)) - 1)
    unit: int = 10**digits
    return math.ceil(count / unit) * unit
