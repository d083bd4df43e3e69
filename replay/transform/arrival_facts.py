"""What instants tell, of a trace or a schedule: rate over time, dispersion by window, gaps. Pure."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.burst_curve import dispersion, envelope
from replay.transform.gaps import MOST_VALUES, gap_blocks, some_gaps, window_counts

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

MOST_BUCKETS: Final = 120
WINDOWS_S: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0),
    *(600.0, 1800.0, 3600.0),
)
_BUCKETS_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 300, 900, 3600, 21600, 86400)
_LEVELS: Final = (0.0, 0.001, 0.005, *(round(0.01 * i, 2) for i in range(1, 100)), 0.995, 0.999, 1.0)


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """Requests per second over time: bucket starts in s, float64[k], and the rate in each, float64[k]."""

    width_s: float
    start_s: Float64
    per_s: Float64


@dataclasses.dataclass(frozen=True)
class BurstPoint:
    """Bursts over windows of one length: index of dispersion for counts (variance/mean) and largest count.

    `error` is the standard error of `dispersion` as a share of it, √(2/(windows − 1)): that of independent
    counts. `fullest` is the largest count in any window, wherever it begins.
    """

    window_s: float
    dispersion: float
    error: float
    fullest: int


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Quantiles of a quantity at `levels`, both float64[k]; the mean, and of how many values."""

    levels: Float64
    values: Float64
    mean: float
    count: int

    def at(self, level: float) -> float:
        """The quantile at `level`."""
        return float(np.interp(level, self.levels, self.values))


@dataclasses.dataclass(frozen=True)
class ArrivalFacts:
    """Facts of instants: `gap_cv` is the gaps' coefficient of variation, `ties` the share of gaps of 0.

    The busiest second, of `peak_1s_per_s`, begins `peak_1s_at_s` after the first instant.
    """

    rows: int
    span_s: float
    mean_per_s: float
    peak_1s_per_s: float
    peak_1s_at_s: float
    rate: RateCurve
    bursts: tuple[BurstPoint, ...]
    gaps_s: Distribution | None
    gap_cv: float
    ties: float


def arrival_facts(at_ns: Int64) -> ArrivalFacts:
    """Facts of instants `at_ns`, int64 ns, ascending from about 0, at least one."""
    span_s = float(at_ns[-1] - at_ns[0]) / 1e9
    gaps = len(at_ns) - 1
    mean_s = span_s / gaps if gaps else 0.0
    ties, squares = 0, 0.0
    for _, block in gap_blocks(at_ns):
        ties += len(block) - int(np.count_nonzero(block))
        squares += float(np.square(block / 1e9 - mean_s).sum())
    most, when = 0, 0
    for seconds, counts in window_counts(at_ns, 1_000_000_000):
        if len(counts) and counts.max() > most:
            most, when = int(counts.max()), int(seconds[counts.argmax()])
    points = (burst_point(at_ns, window) for window in WINDOWS_S)
    return ArrivalFacts(
        rows=len(at_ns),
        span_s=span_s,
        mean_per_s=len(at_ns) / span_s if span_s > 0 else math.nan,
        peak_1s_per_s=float(most),
        peak_1s_at_s=float(when),
        rate=rate_curve(at_ns),
        bursts=tuple(point for point in points if point is not None),
        gaps_s=distribution_from(some_gaps(at_ns) / 1e9, mean_s, gaps) if gaps else None,
        gap_cv=math.sqrt(squares / gaps) / mean_s if mean_s > 0 else math.nan,
        ties=ties / gaps if gaps else 0.0,
    )


def rate_curve(at_ns: Int64) -> RateCurve:
    """Rate of events at `at_ns` (int64 ns, ascending from about 0), in at most `MOST_BUCKETS` buckets."""
    width_s = bucket_width_s((int(at_ns[-1]) if len(at_ns) else 0) / 1e9)
    width_ns = round(width_s * 1e9)
    buckets = int(at_ns[-1]) // width_ns + 1 if len(at_ns) else 0
    counts = np.diff(np.searchsorted(at_ns, np.arange(buckets + 1) * width_ns))
    return RateCurve(
        width_s, np.arange(len(counts), dtype=np.float64) * width_s, counts.astype(np.float64) / width_s
    )


def bucket_width_s(span_s: float) -> float:
    """The width in s of a rate curve's buckets, so that at most `MOST_BUCKETS` cover the span."""
    days = math.ceil(span_s / MOST_BUCKETS / 86400)
    return next((width for width in _BUCKETS_S if span_s / width <= MOST_BUCKETS), 86400.0 * days)


def burst_point(at_ns: Int64, window_s: float) -> BurstPoint | None:
    """The point of the burst curve at `window_s`; None under 10 whole windows."""
    value = dispersion(at_ns, window_s)
    if value is None:
        return None
    windows = int(at_ns[-1] - at_ns[0]) // round(window_s * 1e9)
    return BurstPoint(window_s, value, math.sqrt(2 / (windows - 1)), int(envelope(at_ns, (window_s,))[0]))


def distribution_of(values: npt.NDArray[np.integer] | Float64) -> Distribution | None:
    """The distribution of `values`, numbers[n]; None where there are none.

    Of more than 5 million the quantiles are those of some of them, evenly chosen.
    """
    if not len(values):
        return None
    some = values[:: math.ceil(len(values) / MOST_VALUES)].astype(np.float64)
    return distribution_from(some, float(values.mean(dtype=np.float64)), len(values))


def distribution_from(some: Float64, mean: float, count: int) -> Distribution:
    """The distribution of `count` values of this mean, its quantiles those of `some` of them, float64[k]."""
    levels = np.array(_LEVELS)
    return Distribution(levels, np.quantile(some, levels), mean, count)
