"""Estimates of how much a quantile differs between two runs, with their standard errors.

Numbers only: what they amount to is said by `verdicts`. The standard error is that of the stationary
bootstrap over time cells shared by both runs, so that pairing and autocorrelation are both in it. It is
taken of the logarithm of candidate/baseline: the noise of latencies is multiplicative (congested stretches
scale them up in both runs), and on that scale few blocks go further. Intervals are given back in ns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from replay.analysis.distributions import student_quantile, student_tails
from replay.analysis.grouping import distinct, groups_of
from replay.analysis.metrics import Latencies, Sample, clocks_of
from replay.analysis.pairing import BlockLength, Pairs
from replay.analysis.quantiles import harrell_davis_of_ordered, resampled_of_ordered
from replay.analysis.run_table import Bools, Ints
from replay.analysis.values import METRICS, QUANTILES, Group
from replay.analysis.vocabulary import GROUP_KINDS

FEWEST_IN_TAIL = 8
"""Fewer requests beyond a quantile, in either run, don't tell how noisy it is: the bootstrap can't invent
what the tail did not show. With p99 that asks for some 800 requests."""

FEWEST_BLOCKS_SEEN = 4.0
_FIRST_GLANCE, _TAIL_GLANCE = 64, 1000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One quantile of both runs in ns, the standard error of its log-ratio, and that one's freedom.

    `judged` is false where there are too few requests in the tail or too few blocks of time; the standard
    error is NaN then, and `pairs_wanted` says how many pairs a judgement takes at least.
    """

    group: Group
    metric: str
    clock: str
    quantile: float
    pairs: int
    baseline_ns: float
    candidate_ns: float
    standard_error: float
    freedom: float
    judged: bool
    pairs_wanted: int

    @property
    def effect_ns(self) -> float:
        """Candidate − baseline in ns."""
        return self.candidate_ns - self.baseline_ns

    @property
    def log_ratio(self) -> float:
        """ln(candidate/baseline)."""
        return float(np.log(max(self.candidate_ns, 1.0) / max(self.baseline_ns, 1.0)))

    @property
    def p_value(self) -> float:
        """Two-sided p-value of no effect, by Student's t; NaN where not judged."""
        if not self.judged:
            return float("nan")
        if self.standard_error == 0.0:
            return 1.0 if self.log_ratio == 0.0 else 0.0
        t = abs(self.log_ratio) / self.standard_error
        return student_tails(t, self.freedom)

    def half_width(self, level: float) -> float:
        """Half the width of the log-ratio's interval of confidence 1 − `level`; NaN where not judged."""
        return student_quantile(1.0 - level / 2.0, self.freedom) * self.standard_error

    def interval_ns(self, level: float) -> tuple[float, float]:
        """The interval of the effect in ns: baseline × (ratio − 1) at both ends of the log-ratio's."""
        half, baseline = self.half_width(level), max(self.baseline_ns, 1.0)
        low, high = np.expm1(self.log_ratio - half), np.expm1(self.log_ratio + half)
        return float(baseline * low), float(baseline * high)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One metric on one clock in one group: its pairs (bool each), and their values in both runs.

    `arms` are samples in ascending order, whose `row` is the pair's index.
    """

    group: Group
    metric: str
    clock: str
    members: Bools
    arms: tuple[Sample, Sample]


@dataclasses.dataclass(frozen=True)
class _Population:
    """The paired values of one metric on one clock, ascending: samples whose `row` is the pair's index."""

    baseline: Sample
    candidate: Sample
    defined: Bools

    def arms(self, mask: Bools) -> tuple[Sample, Sample]:
        """Both samples, of the pairs in `mask` only."""
        if np.array_equal(mask, self.defined):
            return self.baseline, self.candidate
        return self.baseline.kept(mask), self.candidate.kept(mask)


def estimates(
    pairs: Pairs,
    baseline: Latencies,
    candidate: Latencies,
    multiplicity: npt.NDArray[np.float32],
    length: BlockLength,
) -> list[Estimate]:
    """Every metric, clock, group and quantile; groups that cover the same requests as another appear once.

    `multiplicity` is float32, resamples × cells of `pairs`. A pair counts where both runs have a value.
    """
    found: list[Estimate] = []
    for one in comparisons(pairs, baseline, candidate):
        found += group_estimates(pairs, one, multiplicity, length)
    return in_order(found)


def in_order(found: Iterable[Estimate]) -> list[Estimate]:
    """Estimates by the kind of their group, else as they were found."""
    return sorted(found, key=lambda estimate: GROUP_KINDS.index(estimate.group.kind))


def comparisons(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterator[Comparison]:
    """Every metric, clock and group that two runs are compared by, with the values of both."""
    for metric in METRICS:
        for clock in clocks_of(metric, due_stated=baseline.run.due_stated and candidate.run.due_stated):
            population = _population(pairs, baseline, candidate, metric, clock)
            for group, mask in distinct_groups(pairs, baseline, population.defined):
                yield Comparison(group, metric, clock, mask, population.arms(mask))


def distinct_groups(pairs: Pairs, baseline: Latencies, defined: Bools) -> Iterator[tuple[Group, Bools]]:
    """Groups with their defined pairs (bool per pair), as `grouping.distinct` chooses them."""
    of_pairs = ((group, rows[pairs.baseline]) for group, rows in groups_of(baseline.run))
    return distinct(of_pairs, defined)


def _population(
    pairs: Pairs, baseline: Latencies, candidate: Latencies, metric: str, clock: str
) -> _Population:
    before = _by_pair(baseline.ordered(metric, clock), pairs.baseline, len(baseline.run))
    after = _by_pair(candidate.ordered(metric, clock), pairs.candidate, len(candidate.run))
    defined = np.zeros((2, len(pairs)), dtype=np.bool_)
    defined[0, before.row], defined[1, after.row] = True, True
    both = defined.all(axis=0)
    kept = [
        arm if defined[index].sum() == both.sum() else arm.kept(both)
        for index, arm in enumerate((before, after))
    ]
    return _Population(kept[0], kept[1], both)


def _by_pair(sample: Sample, rows: Ints, size: int) -> Sample:
    """The sample with each value's row of the run replaced by its pair; values of unpaired rows left out."""
    pair_of_row = np.full(size, -1, dtype=np.int32)
    pair_of_row[rows] = np.arange(len(rows))
    pair = pair_of_row[sample.row]
    if len(rows) == size:
        return Sample(sample.values_ns, pair)
    return Sample(sample.values_ns[pair >= 0], pair[pair >= 0])


def group_estimates(
    pairs: Pairs,
    compared: Comparison,
    multiplicity: npt.NDArray[np.float32],
    length: BlockLength,
) -> Iterator[Estimate]:
    """The estimates of one comparison, a quantile each."""
    mask, arms = compared.members, compared.arms
    cell = pairs.cell.astype(np.int32)
    points = np.array([harrell_davis_of_ordered(arm.values_ns, QUANTILES) for arm in arms])
    drawn = [resampled_of_ordered(arm.values_ns, cell[arm.row], multiplicity, QUANTILES) for arm in arms]
    ratio = np.log(np.maximum(drawn[1], 1.0)) - np.log(np.maximum(drawn[0], 1.0))
    count = int(np.count_nonzero(mask))
    cells_seen = int(np.count_nonzero(np.bincount(pairs.cell[mask], minlength=pairs.cells)))
    blocks = min(pairs.cells / length.cells, cells_seen)
    for index, quantile in enumerate(QUANTILES):
        tail = min(requests_beyond(arm, points[a, index]) for a, arm in enumerate(arms))
        error = standard_error(ratio[:, index], blocks, length.shortfall)
        judged = tail >= FEWEST_IN_TAIL and blocks >= FEWEST_BLOCKS_SEEN and bool(np.isfinite(error))
        yield Estimate(
            group=compared.group,
            metric=compared.metric,
            clock=compared.clock,
            quantile=quantile,
            pairs=count,
            baseline_ns=float(points[0, index]),
            candidate_ns=float(points[1, index]),
            standard_error=error if judged else float("nan"),
            freedom=max(blocks - 1.0, 1.0),
            judged=judged,
            pairs_wanted=max(count, round(count * FEWEST_IN_TAIL / max(tail, 0.5))),
        )


def requests_beyond(arm: Sample, threshold: float) -> int:
    """Distinct requests with a value at or beyond the quantile, counted until there are enough."""
    return _distinct(arm.row[np.searchsorted(arm.values_ns, _as_in(arm, threshold)) :][::-1])


def requests_below(arm: Sample, threshold: float) -> int:
    """Distinct requests with a value at or below the quantile, counted until there are enough."""
    # Where all values are one, a weighted mean of them may fall short of it by a rounding.
    end = np.searchsorted(arm.values_ns, _as_in(arm, threshold * (1 + 1e-6)), side="right")
    return _distinct(arm.row[:end])


def _as_in(arm: Sample, threshold: float) -> np.floating:
    """A number of the sample's own kind: for any other the whole sample would be converted first."""
    kind: type[np.floating] = arm.values_ns.dtype.type
    return kind(threshold)


def _distinct(rows: npt.NDArray[np.integer]) -> int:
    for glance in (_FIRST_GLANCE, _TAIL_GLANCE):
        if (first := len(np.unique(rows[:glance]))) >= FEWEST_IN_TAIL:
            return first
    return len(np.unique(rows))


def standard_error(ratio: npt.NDArray[np.float64], blocks: float, shortfall: float) -> float:
    """Spread of the resampled log-ratios, widened for few and short blocks; NaN if many drew nothing.

    A variance over K blocks falls short by (K − 1)/K, as any variance about an estimated mean, and by
    `shortfall`, see `pairing.curtail`.
    """
    drawn = ratio[~np.isnan(ratio)]
    if len(drawn) < 0.9 * len(ratio) or blocks <= 1.0:
        return float("nan")
    return float(np.std(drawn, ddof=1) * np.sqrt(blocks / (blocks - 1.0) / (1.0 - shortfall)))
