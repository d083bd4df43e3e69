"""HdrHistogram's buckets, percentiles and moments, over numpy arrays: what its files are written from. Pure.

The layout is the reference implementation's (github.com/HdrHistogram/HdrHistogram, `AbstractHistogram`) with
a lowest discernible value of 1 and three significant digits. How a file spells it is `report.hdr_files`'.

The Python port (hdrhistogram) is the peer of the tests and no dependency: it has no wheel for Linux on ARM,
wants setuptools at run time, its writer knows no tags, and its percentile table takes other steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from replay.analysis.run_table import Floats, Ints

SIGNIFICANT_DIGITS: Final = 3
SUB_BUCKETS: Final = 2048
"""The smallest power of two that holds 2 × 10³ values one apart."""
HIGHEST_NS: Final = 3_600_000_000_000
"""An hour: what a histogram states to hold at least, so that those of most runs have one layout."""
TICKS_A_HALF: Final = 5
"""Lines per halving of the distance to 100 %, the reference's default."""

_HALF: Final = SUB_BUCKETS // 2
_HALF_BITS: Final = _HALF.bit_length() - 1


@dataclasses.dataclass(frozen=True)
class HdrHistogram:
    """The buckets that hold values: `index` of each in the layout, ascending, and its `count`, both int64."""

    index: Ints
    count: Ints

    @classmethod
    def of(cls, values_ns: npt.NDArray[np.floating] | Ints) -> Self:
        """Of durations in ns, rounded to whole ones; what lies below 0 counts as 0."""
        whole = np.maximum(np.rint(values_ns), 0).astype(np.int64)
        index, count = np.unique(bucket_index(whole), return_counts=True)
        return cls(index, count.astype(np.int64))

    @property
    def total(self) -> int:
        """How many values it holds."""
        return int(self.count.sum())

    @property
    def max_ns(self) -> int:
        """The largest value that can't be told from the largest recorded one; 0 where there is none."""
        return int(highest_equivalent(self.index[-1:])[0]) if len(self.index) else 0

    @property
    def highest_trackable_ns(self) -> int:
        """What it states to hold: an hour, or its maximum where that is more."""
        return max(HIGHEST_NS, self.max_ns)

    @property
    def bucket_count(self) -> int:
        """How many buckets, each twice as wide as the one before, reach the highest trackable value."""
        return max(self.highest_trackable_ns.bit_length() - _HALF_BITS, 1)

    @property
    def mean_ns(self) -> float:
        """The mean, each value taken as the middle of its bucket; 0 for none, as the reference has it."""
        return float(np.average(self._middles(), weights=self.count)) if len(self.count) else 0.0

    @property
    def deviation_ns(self) -> float:
        """The standard deviation (over n) about `mean_ns`; 0 for none."""
        if not len(self.count):
            return 0.0
        return math.sqrt(float(np.average((self._middles() - self.mean_ns) ** 2, weights=self.count)))

    def percentiles(self) -> Iterator[tuple[int, float, int]]:
        """(value in ns, level from 0 to 1, values up to it): the reference's `PercentileIterator`.

        Levels come closer together as they near 1, `TICKS_A_HALF` per halving of the distance; the last is 1.
        """
        totals = np.cumsum(self.count)
        level = 0.0
        for value, total in zip(highest_equivalent(self.index).tolist(), totals.tolist(), strict=True):
            while 100.0 * total / int(totals[-1]) >= level:
                yield value, level / 100.0, total
                if total == totals[-1]:
                    yield value, 1.0, total
                    return
                halvings = int(math.log2(100.0 / (100.0 - level))) + 1
                level += 100.0 / (TICKS_A_HALF * 2**halvings)

    def _middles(self) -> Floats:
        return (_lowest(self.index) + (_widths(self.index) >> 1)).astype(np.float64)


def bucket_index(values_ns: Ints) -> Ints:
    """The index of the bucket of each value (int64, ≥ 0, below 2⁵³)."""
    bits = np.frexp(values_ns.astype(np.float64))[1].astype(np.int64)
    bucket = np.maximum(bits - (_HALF_BITS + 1), 0)
    return np.asarray(bucket * _HALF + (values_ns >> bucket), dtype=np.int64)


def highest_equivalent(index: Ints) -> Ints:
    """The largest value that falls into each bucket, int64."""
    return _lowest(index) + _widths(index) - 1


def _lowest(index: Ints) -> Ints:
    bucket = np.maximum((index >> _HALF_BITS) - 1, 0)
    return np.asarray((index - bucket * _HALF) << bucket, dtype=np.int64)


def _widths(index: Ints) -> Ints:
    return np.asarray(np.int64(1) << np.maximum((index >> _HALF_BITS) - 1, 0), dtype=np.int64)
