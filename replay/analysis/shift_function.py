"""The shift function: by how much each quantile of a metric moved from the baseline to the candidate.

K. Doksum: Empirical probability plots and statistical inference for nonlinear models in the two-sample case.
Ann. Statist. 2 (1974), 267–277; its use with quantiles and intervals: G. A. Rousselet, C. R. Pernet,
R. R. Wilcox, Eur. J. Neurosci. 46 (2017), 1738–1748. A build that is slower for everybody moves all
quantiles, one that stalls at times only the last. It is drawn beside the verdict and is none: that is made by
`verdicts`, from the same estimates, blocks of time and resamples.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from replay.analysis.distribution_values import ShiftFunction
from replay.analysis.distributions import normal_quantile, student_quantile
from replay.analysis.effects import (
    FEWEST_BLOCKS_SEEN,
    FEWEST_IN_TAIL,
    Comparison,
    requests_below,
    requests_beyond,
    standard_error,
)
from replay.analysis.metrics import Sample
from replay.analysis.pairing import FEWEST_PAIRS, BlockLength, Pairs
from replay.analysis.quantiles import harrell_davis_of_ordered, resampled_of_ordered
from replay.analysis.run_table import Floats

SHIFT_QUANTILES: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

MOST_RESAMPLES: Final = 500
"""So many of the verdict's resamples are looked at: a standard error of them is right to 3 %."""

LEVEL: Final = 0.05


def shift_function(
    pairs: Pairs,
    compared: Comparison,
    multiplicity: npt.NDArray[np.float32],
    length: BlockLength,
) -> ShiftFunction | None:
    """The shift function of one comparison; None for fewer than 20 pairs.

    `multiplicity` is float32, resamples × cells of `pairs`, and `length` the block that they were drawn with:
    those of the effects.

    The band is simultaneous, by the sup-t method: as many standard errors to either side as the largest
    standardised deviation of any quantile has in 95 % of the resamples (J. L. Montiel Olea,
    M. Plagborg-Møller, J. Appl. Econometrics 34, 2019, 1–17), and more by what Student's t allows for few
    blocks. Standard errors are those of the effects, of the log-ratio. A quantile with fewer than 8 requests
    to either side, in either arm, has no interval; nor has any, where fewer than 4 blocks of time hold
    requests.
    """
    mask, arms = compared.members, compared.arms
    if np.count_nonzero(mask) < FEWEST_PAIRS:
        return None
    quantiles = SHIFT_QUANTILES
    points = np.array([harrell_davis_of_ordered(arm.values_ns, quantiles) for arm in arms])
    cells = multiplicity.shape[1]
    cells_seen = np.count_nonzero(np.bincount(pairs.cell[mask], minlength=cells))
    blocks = min(cells / length.cells, float(cells_seen))
    ratio = _resampled_log_ratios(arms, pairs.cell.astype(np.int32), multiplicity[:MOST_RESAMPLES])
    errors = np.array(
        [
            standard_error(ratio[:, index], blocks, length.shortfall)
            if blocks >= FEWEST_BLOCKS_SEEN and _seen(arms, points[:, index]) >= FEWEST_IN_TAIL
            else np.nan
            for index in range(len(quantiles))
        ]
    )
    log_ratio = np.log(np.maximum(points[1], 1.0)) - np.log(np.maximum(points[0], 1.0))
    half = _critical(ratio[:, ~np.isnan(errors)], max(blocks - 1.0, 1.0)) * errors
    floor = np.maximum(points[0], 1.0)
    return ShiftFunction(
        group=compared.group,
        metric=compared.metric,
        pairs=int(np.count_nonzero(mask)),
        quantiles=quantiles,
        baseline_ns=tuple(points[0].tolist()),
        effect_ns=tuple((points[1] - points[0]).tolist()),
        low_ns=tuple((floor * np.expm1(log_ratio - half)).tolist()),
        high_ns=tuple((floor * np.expm1(log_ratio + half)).tolist()),
        standard_error_ratio=tuple(errors.tolist()),
    )


def _resampled_log_ratios(
    arms: tuple[Sample, Sample], cell: npt.NDArray[np.integer], drawn: npt.NDArray[np.float32]
) -> Floats:
    """ln(candidate/baseline) of each quantile in each resample: float64, resamples × quantiles."""
    before, after = (
        resampled_of_ordered(arm.values_ns, cell[arm.row], drawn, SHIFT_QUANTILES) for arm in arms
    )
    return np.asarray(np.log(np.maximum(after, 1.0)) - np.log(np.maximum(before, 1.0)))


def _seen(arms: tuple[Sample, Sample], points: Floats) -> int:
    """How many requests lie to the emptier side of a quantile, in the arm that has fewer there."""
    sides = (requests_below, requests_beyond)
    return min(side(arm, point) for arm, point in zip(arms, points, strict=True) for side in sides)


def _critical(ratio: Floats, freedom: float) -> float:
    """How many standard errors the band reaches to either side, see `shift_function`."""
    by_itself = student_quantile(1.0 - LEVEL / 2.0, freedom)
    whole = ratio[~np.isnan(ratio).any(axis=1)]
    spread = whole.std(axis=0, ddof=1) if len(whole) > 1 else np.empty(0)
    varies = spread > 0.0
    if not varies.any():
        return by_itself
    largest = np.abs((whole - whole.mean(axis=0))[:, varies] / spread[varies]).max(axis=1)
    together = float(np.quantile(largest, 1.0 - LEVEL))
    return max(by_itself, together * by_itself / normal_quantile(1.0 - LEVEL / 2.0))
