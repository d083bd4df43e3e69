"""Ascending instants taken a block at a time: gaps between them, counts in windows, in little memory.

A hundred million instants are 0.8 GB; an array beside them for every question would be several times that.
What counts and gaps mean is in `arrival_facts`, `burst_curve` and `clock_doubts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

BLOCK_ROWS: Final = 1 << 20
MOST_VALUES: Final = 5_000_000
"""Quantiles of more values than so many are those of some of them, evenly chosen."""
_FEW: Final = 16


def gap_blocks(at_ns: Int64) -> Iterator[tuple[int, Int64]]:
    """All gaps between neighbours, int64 ns, in blocks, and the number of each block's first gap."""
    for first in range(0, len(at_ns) - 1, BLOCK_ROWS):
        yield first, np.diff(at_ns[first : first + BLOCK_ROWS + 1])


def some_gaps(at_ns: Int64) -> Int64:
    """The gaps between neighbours, int64 ns: all of them, or up to `MOST_VALUES`, evenly chosen."""
    step = math.ceil((len(at_ns) - 1) / MOST_VALUES) or 1
    gaps: Int64 = at_ns[1::step] - at_ns[:-1:step]
    return gaps


def window_counts(at_ns: Int64, window_ns: int) -> Iterator[tuple[Int64, Int64]]:
    """The windows from the first instant on that hold any, by number, and how many: int64 each, in blocks."""
    if not len(at_ns):
        return
    zero_ns, n = int(at_ns[0]), len(at_ns)
    windows = (int(at_ns[-1]) - zero_ns) // window_ns + 1
    if windows <= n // _FEW:  # finding the borders of many long windows beats dividing every instant
        for low in range(0, windows, BLOCK_ROWS):
            window = np.arange(low, min(low + BLOCK_ROWS, windows), dtype=np.int64)
            edges_ns = zero_ns + np.append(window, window[-1] + 1) * window_ns
            counts = np.diff(np.searchsorted(at_ns, edges_ns)).astype(np.int64)
            yield window[counts > 0], counts[counts > 0]
        return
    start = 0
    while start < n:
        end = min(n, start + BLOCK_ROWS)
        if end < n:  # up to the beginning of a window, so that none is cut
            cut = (int(at_ns[end]) - zero_ns) // window_ns
            end = int(np.searchsorted(at_ns, zero_ns + cut * window_ns))
            if end <= start:
                end = int(np.searchsorted(at_ns, zero_ns + (cut + 1) * window_ns))
        window = (at_ns[start:end] - zero_ns) // window_ns
        starts = np.flatnonzero(np.diff(window, prepend=-1))
        yield window[starts], np.diff(starts, append=len(window))
        start = end
