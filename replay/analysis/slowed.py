"""Regressions of a tail alone: requests that take half as long again, against those that are as much faster.

A build that slows one request in fifty three times over moves a p99 by less than a p99 is noisy, since it is
not the slowest requests that it slows. Pairs show it: between two runs of one build a request is as often
slower by half as it is faster by as much, so the difference of both shares is 0, whatever the noise. It is
judged by the stationary bootstrap over time cells: what is slowed by one stall is one event, not a hundred.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special

from replay.analysis.bootstrap import politis_white, stationary_multiplicities
from replay.analysis.change_values import TailChange
from replay.analysis.distributions import beta_quantile, crossing, student_quantile, student_tails
from replay.analysis.effects import FEWEST_BLOCKS_SEEN, FEWEST_IN_TAIL, distinct_groups, standard_error
from replay.analysis.holm import ALPHA_BESIDE, holm
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import FEWEST_PAIRS, Pairs, curtail
from replay.analysis.run_table import Bools, Floats
from replay.analysis.values import Group, Verdict
from replay.analysis.verdicts import CHOSEN_BLOCKS, PLANNED_POWER, RESOLUTION_NS, error_quantiles

SLOWED_BY = 1.5
SLOWED_MARGIN = 0.005
"""Fewer than one request in 200 slowed by half does not matter."""


@dataclasses.dataclass(frozen=True)
class _Share:
    """Net share of slowed pairs with its standard error and freedom; NaN where not judged."""

    group: Group
    metric: str
    pairs: int
    slower: int
    faster: int
    error: float
    freedom: float
    judged: bool

    @property
    def net(self) -> float:
        return (self.slower - self.faster) / self.pairs

    @property
    def p_value(self) -> float:
        """Two-sided, that as many are slower as faster; NaN where too few stretches of time show any."""
        if not self.judged or not self.error > 0.0:
            return float("nan")
        return student_tails(self.net / self.error, self.freedom)


def tail_changes(
    pairs: Pairs,
    baseline: Latencies,
    candidate: Latencies,
    *,
    resamples: int,
    rng: np.random.Generator,
    noise: Sequence[TailChange] = (),
    shortest: float = 1.0,
) -> tuple[TailChange, ...]:
    """TTFT and E2E, from due, of every distinct group; p-values are Holm-adjusted over all of them.

    `noise` are the changes between two runs of one build: no share up to one of these is believed. Blocks
    hold `shortest` time cells or more, and are alike for all: what hangs together in one endpoint's requests
    does in another's, where few requests may hide it.
    """
    known = {(change.group, change.metric): abs(change.net_ratio) for change in noise}
    found = list(_shares(pairs, baseline, candidate, shortest, resamples, rng))
    family = holm(np.array([share.p_value for share in found], dtype=np.float64), ALPHA_BESIDE)
    strictest = ALPHA_BESIDE / max(len(found), 1)
    levels = np.where(np.isnan(family.level), strictest, family.level)
    return tuple(
        _judge(
            share,
            float(p),
            (float(level), strictest),
            known.get((share.group, share.metric), 0.0),
        )
        for share, p, level in zip(found, family.adjusted, levels, strict=True)
    )


@dataclasses.dataclass(frozen=True)
class _Signs:
    """Per pair +1 where the candidate is slower by half, −1 where it is as much faster (float64)."""

    group: Group
    metric: str
    mask: Bools
    sign: Floats


def _shares(
    pairs: Pairs,
    baseline: Latencies,
    candidate: Latencies,
    shortest: float,
    resamples: int,
    rng: np.random.Generator,
) -> Iterator[_Share]:
    found = list(_signs(pairs, baseline, candidate))
    sums = [np.bincount(pairs.cell, weights=one.sign, minlength=pairs.cells) for one in found]
    length = curtail(max([shortest, *map(politis_white, sums)]), pairs.cells)
    drawn = stationary_multiplicities(pairs.cells, length.cells, resamples, rng).astype(np.float64)
    for one, total in zip(found, sums, strict=True):
        counts = np.bincount(pairs.cell[one.mask], minlength=pairs.cells).astype(np.float64)
        blocks = min(pairs.cells / length.cells, float(np.count_nonzero(counts)))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (drawn @ total) / (drawn @ counts)
        eventful = len(np.unique(pairs.cell[one.sign != 0]))
        yield _Share(
            group=one.group,
            metric=one.metric,
            pairs=int(np.count_nonzero(one.mask)),
            slower=int(np.count_nonzero(one.sign > 0)),
            faster=int(np.count_nonzero(one.sign < 0)),
            error=standard_error(share, blocks, length.shortfall),
            freedom=max(blocks - 1.0, 1.0),
            # With fewer the spread of the resamples tells little of the share's own.
            judged=eventful >= FEWEST_IN_TAIL and blocks >= FEWEST_BLOCKS_SEEN,
        )


def _signs(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterator[_Signs]:
    """Of TTFT and E2E, per distinct group of enough pairs."""
    for metric in ("ttft", "e2e"):
        before = baseline.per_request_ns(metric, "due")[pairs.baseline]
        after = candidate.per_request_ns(metric, "due")[pairs.candidate]
        defined = ~np.isnan(before) & ~np.isnan(after)
        with np.errstate(invalid="ignore"):
            far = np.abs(after - before) > RESOLUTION_NS[metric]
            slower = far & (after >= SLOWED_BY * before)
            faster = far & (before >= SLOWED_BY * after)
        for group, mask in distinct_groups(pairs, baseline, defined):
            if np.count_nonzero(mask) >= FEWEST_PAIRS:
                yield _Signs(group, metric, mask, (slower & mask).astype(np.float64) - (faster & mask))


def _judge(share: _Share, p_value: float, levels: tuple[float, float], known: float) -> TailChange:
    """`levels` are Holm's for the interval, and the family's strictest for what another diff could see.

    `known` is the net share between two runs of one build.
    """
    margin = max(SLOWED_MARGIN, known)
    critical, strict = (student_quantile(1.0 - level / 2.0, share.freedom) for level in levels)
    half = critical * share.error if share.judged else float("nan")
    sure = bool(p_value < ALPHA_BESIDE and abs(share.net) > margin)
    verdict = Verdict.INCONCLUSIVE
    if sure:
        verdict = Verdict.REGRESSION if share.net > 0 else Verdict.IMPROVED
    elif _few(share) <= margin or abs(share.net) + half <= margin:
        verdict = Verdict.EQUIVALENT
    return TailChange(
        group=share.group,
        metric=share.metric,
        pairs=share.pairs,
        slower=share.slower,
        faster=share.faster,
        net_ratio=share.net,
        low_ratio=float(np.clip(share.net - half, -1.0, 1.0)),
        high_ratio=float(np.clip(share.net + half, -1.0, 1.0)),
        minimum_detectable_ratio=detectable_share(
            share.pairs, np.nan_to_num(share.error), share.freedom, strict, margin, known
        ),
        p_value=p_value,
        verdict=verdict,
    )


def _few(share: _Share) -> float:
    """Upper bound of the share of pairs that change at all (C. Clopper, E. Pearson, Biometrika 26, 1934)."""
    changed = share.slower + share.faster
    return beta_quantile(1.0 - ALPHA_BESIDE / 2.0, changed + 1, share.pairs - changed)


def detectable_share(
    pairs: int, error: float, freedom: float, critical: float, margin: float, drift: float = 0.0
) -> float:
    """The true share that would be called a regression four times in five; 1 where none would.

    `error` is the standard error as this diff estimates it, `critical` its multiple that a share must exceed.
    Events that are added come one by one, with a variance of s/n beside the one that is there (Poisson), so
    the share in another diff is s ± τ with τ² = σ² + s/n. It is called above the margin and above `critical`
    s₂ τ. As in `verdicts.detectable_errors`, the error at hand is s₁ σ, both s are estimated, and half the
    `drift` between two runs of the build is likely the baseline's own. At least as many as are judged at all.
    """
    spread = error_quantiles(CHOSEN_BLOCKS * freedom)
    left = np.sqrt(0.75) if drift else 1.0

    def beyond(s: float) -> float:
        tau = np.sqrt((error / spread[:, None]) ** 2 + s / pairs)
        over = s - np.maximum(margin, critical * spread[None, :] * tau)
        seen = [special.ndtr((over + side * drift / 2.0) / (left * tau)) for side in (-1.0, 1.0)]
        return float(np.mean(seen)) - PLANNED_POWER

    fewest = min(1.5 * FEWEST_IN_TAIL / pairs, 1.0)
    if beyond(fewest) >= 0.0:
        return fewest
    return crossing(beyond, fewest, 1.0) if beyond(1.0) >= 0.0 else 1.0
