"""Latencies over time as counts: bins of equal ratio by buckets of equal width, whatever the run's size.

A median and a p99 hide a second mode and a few stuck requests; a count per bin shows both.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from replay.analysis.metrics import Sample
from replay.analysis.run_table import Floats, Ints
from replay.analysis.time_values import HeatMap

BINS_A_DECADE: Final = 20
"""Neighbouring bins differ by 12 %; three in ten of them double a latency (the preferred numbers R20)."""

_LEAST_NS: Final = 1e3
_ROUND: Final = (0, 6, 14)
"""Bins of a decade that begin at 1, 2 and 5 (R20: 1.995, 5.012)."""


def heat_map(metric: str, sample: Sample, due_ns: Floats, width_s: float, buckets: int) -> HeatMap | None:
    """Counts of the sample's values by bin of latency and bucket of the due instant; None without values.

    `due_ns` is float64 per row of the run. A request due after the last bucket counts in it, a latency
    below 1 µs as 1 µs.
    """
    if not len(sample.row):
        return None
    bins = np.floor(BINS_A_DECADE * np.log10(np.maximum(sample.values_ns, _LEAST_NS))).astype(np.int64)
    bucket = np.clip((due_ns[sample.row] / (width_s * 1e9)).astype(np.int64), 0, buckets - 1)
    lowest, rows = int(bins.min()), int(np.ptp(bins)) + 1
    counts = np.bincount((bins - lowest) * buckets + bucket, minlength=rows * buckets)
    return HeatMap(metric, width_s, lowest, counts.reshape(rows, buckets))


def bin_edges_ns(heat: HeatMap) -> Floats:
    """The bounds of the rows in ns, float64, one more than there are rows."""
    return np.asarray(10.0 ** (np.arange(heat.lowest_bin, heat.lowest_bin + len(heat.counts) + 1) / 20))


def summed(heat: HeatMap, most_spans: int) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """The same counts, coarse enough to read: bands from 1 to 2, 5 and 10, at most `most_spans` spans.

    Comes back as the bands' bounds in ns, the spans' bounds in s (each one more than there are bands and
    spans), and the counts, (bands, spans). No request is lost.
    """
    rows, buckets = heat.counts.shape
    top = heat.lowest_bin + rows
    starts = [k for k in range(heat.lowest_bin - BINS_A_DECADE, top) if k % BINS_A_DECADE in _ROUND]
    starts = starts[sum(k <= heat.lowest_bin for k in starts) - 1 :]
    last = next(k for k in range(top, top + BINS_A_DECADE) if k % BINS_A_DECADE in _ROUND)
    every = -(-buckets // most_spans)
    columns = np.arange(0, buckets, every)
    inside: Ints = np.maximum(np.array(starts) - heat.lowest_bin, 0)
    counts = np.add.reduceat(np.add.reduceat(heat.counts, inside, axis=0), columns, axis=1)
    bands_ns = 10.0 ** (np.array([*starts, last]) / BINS_A_DECADE)
    return bands_ns, np.append(columns, buckets) * heat.width_s, counts
