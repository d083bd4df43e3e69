"""How crowded arrivals are at an instant, beside what is usual around it: classes of instants, as a value.

What clones make of a class is in `crowd_shifts`, how it is chosen in `crowd_fit`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.burst_curve import WINDOWS_S

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NEAR_WINDOWS_S: Final = WINDOWS_S[:3]
"""Crowds are looked for in these windows: in a minute, it is the rate that varies."""
_AROUND: Final = 32
"""What is usual is what comes within so many windows around."""
_SHARES: Final = (0.3, 0.6, 0.8, 0.9, 0.96, 0.985, 0.995)
"""Shares of the arrivals at which classes end: few where many arrive at once, since these make the peaks."""


@dataclasses.dataclass(frozen=True, eq=False)
class Crowding:
    """Bins of time in classes of how crowded they are.

    `of_bin` int8[bins], the class of each bin of `bin_ns`; `density` float64[classes], the mean logarithm of
    how many times the usual number of others arrive near an arrival of the class, ascending.
    """

    bin_ns: int
    of_bin: npt.NDArray[np.int8]
    density: Float64

    def of(self, at_ns: Int64) -> npt.NDArray[np.int8]:
        """The class of each instant, `at_ns` int64[n] from 0 on, int8[n]."""
        return self.of_bin.take(at_ns // self.bin_ns, mode="clip")

    @staticmethod
    def among(due_ns: Int64, bin_ns: int, bins: int, windows_s: Sequence[float]) -> Crowding | None:
        """The classes for arrivals `due_ns` (int64[n], any order), counted in `bins` of `bin_ns`, by how many
        come within `windows_s`, one or more; None where all would be one class."""
        counts = np.bincount(due_ns // bin_ns, minlength=bins)
        passed = np.concatenate([[0], np.cumsum(counts)])
        density = np.zeros(bins)
        for window_s in windows_s:
            half = max(1, round(window_s * 5e8 / bin_ns))
            density += np.log(_beside(passed, half)) / len(windows_s)
        ordered = np.argsort(density, kind="stable")
        below = np.cumsum(counts[ordered]) / len(due_ns)
        ends = density[ordered[np.searchsorted(below, _SHARES)]]
        of_bin = np.searchsorted(np.unique(ends), density, side="right").astype(np.int8)
        arrivals = np.bincount(of_bin, weights=counts)
        used = np.flatnonzero(arrivals)
        if len(used) < 2:
            return None
        # A class without an arrival becomes the next one below that has some.
        of_bin = np.clip(np.searchsorted(used, of_bin, side="right") - 1, 0, None).astype(np.int8)
        mean = np.bincount(of_bin, weights=counts * density) / np.bincount(of_bin, weights=counts)
        return Crowding(bin_ns, of_bin, mean)


def _beside(passed: Int64, half: int) -> Float64:
    """(1 + others near) / (1 + others that are usual), for an arrival in each bin, float64[bins].

    `passed` int64[bins + 1] counts arrivals before each bin; near is within `half` bins.
    """
    bins = len(passed) - 1
    at = np.arange(bins)

    def others(reach: int) -> tuple[Int64, Int64]:
        padded = np.pad(passed, reach, "edge")  # 0 before, all after
        wide = np.minimum(at + reach + 1, bins) - np.maximum(at - reach, 0)
        return np.maximum(padded[2 * reach + 1 :] - padded[:bins] - 1, 0), wide

    near, wide = others(half)
    around, wider = others(half * _AROUND)
    ratio: Float64 = (near + 1) / (around * (wide / wider) + 1)
    return ratio
