"""From estimates to verdicts: pure decisions about one effect, given the family, the tolerance, the floor.

An effect is a regression only if it is certain (its interval excludes zero, for the whole family) and it
matters (it is above what the same build differs from itself, and above what the user tolerates).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from replay.analysis.distributions import chi2_quantiles, crossing, student_quantile
from replay.analysis.effects import Estimate
from replay.analysis.holm import holm
from replay.analysis.run_table import Floats
from replay.analysis.values import Effect, Group, Verdict

PLANNED_POWER = 0.85
"""What is said to be visible is planned for a little more than 0.8, for what the plan leaves out."""

CHOSEN_BLOCKS = 0.6
"""The part of the degrees of freedom that a plan gives to standard errors. Block lengths are chosen from the
same data, so they vary by 18 % and 22 % where χ² says 14 % and 17 %: the ratio's square. Measured, and so are
what is seen of what was said to be visible: `tests/benchmarks/diff`."""

MOST_DETECTABLE = 10.0
"""A comparison that would not see +1,000 % has too few independent stretches of time to see anything."""

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
        minimum_detectable_ns=_minimum_detectable_ns(estimate, level, margin, floors_ns.get(key)),
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


def _minimum_detectable_ns(
    estimate: Estimate, level: float, margin: float, measured_floor: float | None
) -> float:
    """The true effect in ns that would be called a regression four times in five.

    NaN where not judged, infinite beyond +1,000 %. See `detectable_errors`.
    """
    if not estimate.judged:
        return float("nan")
    error, bar = estimate.standard_error, _in_logs(margin, estimate)
    drift = 0.0 if measured_floor is None else max(_in_logs(measured_floor, estimate) - error, 0.0)
    errors = detectable_errors(level, estimate.freedom, bar / error, drift / error) if error > 0.0 else 0.0
    ratio = errors * error if error > 0.0 else bar
    if ratio > math.log1p(MOST_DETECTABLE):
        return math.inf
    return float(np.expm1(ratio)) * max(estimate.baseline_ns, 1.0)


def detectable_errors(level: float, freedom: float, margin: float, drift: float = 0.0) -> float:
    """How many standard errors, as one pair of runs gives them, another diff sees four times in five.

    A change of the log-ratio is called if its estimate lies above the margin (here in standard errors) and
    outside an interval whose width is not known yet. The standard error at hand and the one of that interval
    are estimates s₁ σ and s₂ σ, each s² a χ²/ν, with ν = `CHOSEN_BLOCKS` of the `freedom`, so n solves
    P(Z + n s₁ > max(margin s₁, t s₂)) = `PLANNED_POWER`, found over quantiles of s₁ and s₂.
    After J. Cohen, Statistical Power Analysis (1988), whose t + t₀.₈ takes σ as known: such a change was seen
    60 % of the time (`tests/benchmarks/diff`). Infinite where no n will do. Where s₁ is small by chance, less
    than this is seen, and more where it is large.

    `drift` is by how much two runs of the build were found to differ, in standard errors. Half of it is
    likely the baseline's own, and in the other diff as well, to either side (E[a | a − a'] = (a − a')/2),
    with 3/4 of the variance left.
    """
    critical = student_quantile(1.0 - level / 2.0, freedom)
    spread = error_quantiles(CHOSEN_BLOCKS * freedom)
    bar = np.maximum(margin * spread[:, None], critical * spread[None, :])

    def beyond(n: float) -> float:
        return _power(n, spread, bar, drift) - PLANNED_POWER

    most = 4.0 * max(margin, critical) + 8.0
    return crossing(beyond, 0.0, most) if beyond(most) >= 0.0 else math.inf


def _power(n: float, spread: Floats, bar: Floats, drift: float) -> float:
    over, half = n * spread[:, None] - bar, drift / 2.0 * spread[:, None]
    if drift == 0.0:
        return float(special.ndtr(over).mean())
    left = math.sqrt(0.75)
    return float((special.ndtr((over - half) / left) + special.ndtr((over + half) / left)).mean() / 2.0)


@functools.lru_cache(maxsize=256)
def error_quantiles(freedom: float) -> Floats:
    """Quantiles of an estimated standard error over the true one, float64: the middles of 24 equal parts."""
    return np.asarray(np.sqrt(chi2_quantiles((np.arange(24) + 0.5) / 24, freedom) / freedom))


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
