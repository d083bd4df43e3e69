"""How a run's latencies are distributed: upper quantiles, each with an interval, and a density.

What two runs differ by is in `shift_function`. Requests that hang together tell less than as many
independent ones, so the intervals count *effective* requests, and a quantile that too few of them bound is
left out: a thousand requests don't know their p99.99.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from scipy import special

from replay.analysis.bootstrap import politis_white, stationary_variance
from replay.analysis.distribution_values import Distribution
from replay.analysis.distributions import normal_quantile, student_quantile
from replay.analysis.grouping import distinct, groups_of
from replay.analysis.metrics import Latencies, Sample
from replay.analysis.pairing import curtail, time_cells
from replay.analysis.quantiles import counts_by_cell, harrell_davis_of_ordered
from replay.analysis.run_table import Floats, Ints
from replay.analysis.values import METRICS, QUANTILES, Group

_TAILS: Final = (5.0, 4.0, 3.15, 2.5, 2.0, 1.6, 1.25, 1.0, 0.8, 0.63)
UPPER_QUANTILES: Final = (
    *(round(1.0 - tail * 10.0**-decade, 8) for decade in range(1, 5) for tail in _TAILS if tail >= 1.0),
    *(round(1.0 - tail * 10.0**-decade, 8) for decade in range(1, 4) for tail in _TAILS if tail < 1.0),
)
"""From p50 to p99.99, ten to a decade of 1 − p, with every quantile that has a name among them."""

LEVEL: Final = 0.05
FEWEST_VALUES: Final = 20
LEAST_NS: Final = 1e3
"""A density is over the logarithm: what is below 1 µs counts there."""

STEP: Final = 0.025
"""The density is given every 2.5 % of latency."""

_SPREAD: Final = 0.4
_LEAST_BANDWIDTH: Final = 0.03
_LOOKED_AT: Final = (0.5, 0.9, 0.99)


type Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the distributions of a run share: the time cell of each row, and the phase of each cell.

    `shown` are the groups of each metric (from due) that are worth a plot: none twice for the same requests.
    """

    cell: npt.NDArray[np.int32]
    stratum: Ints
    shown: frozenset[tuple[Group, str]]

    @classmethod
    def of(cls, latencies: Latencies) -> Self:
        """The frame of a run."""
        run = latencies.run
        cell, cells, _ = time_cells(run.due_ns)
        shown: set[tuple[Group, str]] = set()
        for metric in METRICS:
            defined = np.zeros(len(run), dtype=np.bool_)
            defined[latencies.ordered(metric, "due").row] = True
            shown |= {(group, metric) for group, _ in distinct(groups_of(run), defined)}
        return cls(cell.astype(np.int32), _phase_of_cell(cell, cells, run.phase.codes), frozenset(shown))

    def distribution(self, group: Group, metric: str, sample: Sample) -> Distribution | None:
        """Of a group's sample (from due, ascending); None where it has fewer than 20 values."""
        if len(sample.row) < FEWEST_VALUES:
            return None
        upper = upper_quantiles(sample, self.cell, self.stratum)
        arrays = (*upper, *log_density(sample.values_ns))
        return Distribution(group, metric, len(sample.row), *(tuple(a.tolist()) for a in arrays))


def quantile_intervals(latencies: Latencies) -> dict[tuple[Group, str, float], Interval]:
    """Per group, metric (from due) and quantile of `values.QUANTILES` its 95 % interval, in ns, if known."""
    frame = Frame.of(latencies)
    found: dict[tuple[Group, str, float], Interval] = {}
    for group, rows in groups_of(latencies.run):
        for metric in METRICS:
            sample = latencies.ordered(metric, "due", rows)
            if len(sample.row) < FEWEST_VALUES:
                continue
            known, _, low, high = upper_quantiles(sample, frame.cell, frame.stratum)
            ends = zip(known.tolist(), low.tolist(), high.tolist(), strict=True)
            found |= {(group, metric, p): (a, b) for p, a, b in ends if p in QUANTILES}
    return found


def upper_quantiles(
    sample: Sample, cell: npt.NDArray[np.integer], stratum: Ints
) -> tuple[Floats, Floats, Floats, Floats]:
    """Quantiles p, their Harrell–Davis estimates, and both ends of their 95 % intervals: float64 each.

    `sample` is in ascending order, `cell` the time cell of each row, `stratum` the phase of each cell. The
    interval is the exact one of order statistics, with the effective size instead of n: R. S. Woodruff,
    J. Amer. Statist. Assoc. 47 (1952), 635–646; E. L. Korn, B. I. Graubard, Survey Methodology 24 (1998),
    193–201. Quantiles whose upper end lies beyond the largest value are left out. The estimate is kept within
    its interval: where values jump, a mean of neighbours may lie outside.
    """
    p = np.array(sorted(UPPER_QUANTILES))
    ordered, n = sample.values_ns, len(sample.row)
    size = effective_sizes(cell[sample.row], p, stratum)
    lower = special.bdtrik(LEVEL / 2, size, p) / size
    upper = (special.bdtrik(1 - LEVEL / 2, size, p) + 1.0) / size
    unknown = np.flatnonzero(~(upper <= 1.0 + 1e-9))
    last = int(unknown[0]) if len(unknown) else len(p)
    rank = np.clip(np.ceil(upper[:last] * n).astype(np.int64), 1, n) - 1
    high = np.maximum.accumulate(ordered[rank].astype(np.float64)) if last else np.empty(0)
    rank = np.clip(np.floor(np.nan_to_num(lower[:last]) * n).astype(np.int64), 1, n) - 1
    low = np.minimum.accumulate(ordered[rank].astype(np.float64)[::-1])[::-1] if last else np.empty(0)
    value = harrell_davis_of_ordered(ordered, p[:last].tolist())
    return p[:last], np.clip(value, low, high), low, high


def effective_sizes(cell: npt.NDArray[np.integer], quantiles: Floats, stratum: Ints) -> Floats:
    """How many independent values tell as much about each quantile's share: float64, at most n each.

    `cell` is the time cell of each value, in ascending order of value. The variance of the share of values
    beyond a quantile is what the stationary bootstrap over cells finds, see `bootstrap.stationary_variance`;
    what phases differ by is in the schedule and no chance, so shares are held against their own phase's.
    With few blocks it is uncertain itself, as Student's t allows for.
    """
    n, cells = len(cell), len(stratum)
    ranks = np.concatenate([[0], np.round(quantiles * n).astype(np.int64), [n]])
    upto = np.cumsum(counts_by_cell(cell, ranks, cells), axis=1, dtype=np.float64)
    total, beyond = upto[:, -1], upto[:, -1:] - upto[:, :-1]
    residual = beyond - _share_by_stratum(beyond, total, stratum) * total[:, None]
    places = np.minimum(np.searchsorted(quantiles, _LOOKED_AT), len(quantiles) - 1)
    length = curtail(max(politis_white(residual[:, place]) for place in places), cells)
    variance = stationary_variance(residual, length.cells) / (1.0 - length.shortfall) / n**2
    share = beyond.sum(axis=0) / n
    size = np.full(len(quantiles), float(n))
    varies = variance > 0.0
    size[varies] = (share * (1.0 - share))[varies] / variance[varies]
    seen = max(min(cells / length.cells, float(np.count_nonzero(total))) - 1.0, 1.0)
    doubt = normal_quantile(1 - LEVEL / 2) / student_quantile(1 - LEVEL / 2, seen)
    return np.asarray(np.clip(size * doubt**2, 1.0, n))


def _share_by_stratum(beyond: Floats, total: Floats, stratum: Ints) -> Floats:
    """Of each cell's stratum the share of values beyond each quantile: cells × quantiles."""
    strata = int(stratum.max()) + 1
    sums = np.zeros((strata, beyond.shape[1]))
    np.add.at(sums, stratum, beyond)
    counts = np.bincount(stratum, weights=total, minlength=strata)
    return np.asarray((sums / np.maximum(counts, 1.0)[:, None])[stratum])


def _phase_of_cell(cell: npt.NDArray[np.integer], cells: int, phase: Ints) -> Ints:
    """The phase in which most requests of each cell are due: int64 per cell; 0 for an empty one."""
    known = phase >= 0
    phases = int(phase.max()) + 1 if known.any() else 1
    counts = np.bincount(cell[known] * phases + phase[known], minlength=cells * phases)
    return np.asarray(counts.reshape(cells, phases).argmax(axis=1))


def log_density(ordered: npt.NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
    """Latencies (ns) every 2.5 %, the share of values per 10 % of latency there, and the share at or below.

    A Gaussian kernel over the logarithm. Its width depends on the number of values alone, so that two runs
    compare and no mode is smoothed away by the distance between modes: Silverman's rule (B. W. Silverman,
    Density Estimation, 1986, eq. 3.31) for a mode of spread 0.4, at least 3 %. Each array is float64; the
    first is the same grid for all samples, cut to where there is something to see.
    """
    n = len(ordered)
    width = max(0.9 * _SPREAD * n**-0.2, _LEAST_BANDWIDTH)
    reach = 4.0 * width
    least, most = (float(np.log(max(float(value), LEAST_NS))) for value in (ordered[0], ordered[-1]))
    first, last = int(np.floor((least - reach) / STEP)), int(np.ceil((most + reach) / STEP))
    grid = STEP * np.arange(first, last + 1)
    edges = np.exp(np.concatenate([grid - STEP / 2, grid[-1:] + STEP / 2])).astype(ordered.dtype)
    upto = np.searchsorted(ordered, edges, side="right")
    upto[0] = 0  # what is below 1 µs counts as 1 µs
    share = np.diff(upto) / n
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + STEP / 2, STEP) / width) ** 2)
    smooth = np.convolve(share, kernel / kernel.sum())
    start = (len(kernel) - 1) // 2
    density = smooth[start : start + len(share)] / STEP * np.log(1.1)
    below = np.searchsorted(ordered, np.exp(grid).astype(ordered.dtype), side="right") / n
    return np.exp(grid), density, below
