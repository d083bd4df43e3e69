"""Latencies cut into intervals of equal length, by the instant their request was *due*: for time series of
others' making. Pure.

By due, and not by when an answer came: a stalled server's interval then shows the stall, and an interval
lies in the phase that its requests belong to.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from replay.analysis.metrics import Sample
from replay.analysis.run_table import Ints, RunTable


def by_interval(
    run: RunTable, sample: Sample, width_ns: int, series: Ints | None = None
) -> Iterator[tuple[int, int, npt.NDArray[np.floating]]]:
    """(interval, series, values in ns) wherever there are values, in the order of interval, then series.

    Interval i holds what was due from i × `width_ns` on. `series` (int64 per row of the run, all 0 without)
    tells apart what is not to be mixed; rows with a negative one are left out.
    """
    interval = (run.due_ns // width_ns).astype(np.int64)[sample.row]
    of_row = np.zeros(len(run), dtype=np.int64) if series is None else series
    kind = of_row[sample.row]
    order = np.lexsort((kind, interval))
    order = order[kind[order] >= 0]
    if not len(order):
        return
    interval, kind, values = interval[order], kind[order], sample.values_ns[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(interval) != 0) | (np.diff(kind) != 0)]))
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield int(interval[start]), int(kind[start]), values[start:end]
