"""How far a clone is moved from its original: distributions of shifts, as values. Drawing is by hash.

A shift distribution is symmetric and bounded, so that a schedule can be sorted in a bounded window.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_QUANTILES: Final = 1 << 16
_KNOTS: Final = 1 << 13


@dataclasses.dataclass(frozen=True)
class Shifts:
    """A mixture of triangular distributions on ±`scales_ns`, with `weights` that sum to 1.

    A scale of 0 is no shift at all. With `uniform`, the parts are uniform on ±scale instead.
    """

    scales_ns: tuple[int, ...]
    weights: tuple[float, ...]
    uniform: bool = False

    @property
    def most_ns(self) -> int:
        """No shift is farther than this."""
        return max(self.scales_ns, default=0)

    def drawn_ns(self, chance: Float64) -> Int64:
        """The shift for each of `chance` (float64[n] in [0, 1)), one of 65,536, int64[n] ns."""
        drawn: Int64 = self._quantiles_ns.take((chance * _QUANTILES).astype(np.int64))
        return drawn

    @functools.cached_property
    def _quantiles_ns(self) -> Int64:
        """The shifts in the middle of each 1/65,536 of the probability, int64[65536]."""
        reach = np.concatenate([[0.0], np.geomspace(1e3, max(self.most_ns, 1e3), _KNOTS)])
        at = np.concatenate([-reach[:0:-1], reach])
        below = np.zeros(len(at))
        for scale, weight in zip(self.scales_ns, self.weights, strict=True):
            below += weight * self._below(at, scale)
        middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        quantiles: Int64 = np.rint(np.interp(middles, below, at)).astype(np.int64)
        return quantiles

    def _below(self, at: Float64, scale_ns: int) -> Float64:
        """The probability of a shift below `at` for one part of the mixture."""
        place = np.clip(at / max(scale_ns, 1), -1, 1)
        triangle: Float64 = np.where(place < 0, (1 + place) ** 2 / 2, 1 - (1 - place) ** 2 / 2)
        return (1 + place) / 2 if self.uniform else triangle

    def __str__(self) -> str:
        if not self.most_ns:
            return "clones not shifted"
        if self.uniform:
            return f"clones shifted evenly by up to ±{_seconds(self.most_ns)}"
        half, most = np.quantile(np.abs(self._quantiles_ns), [0.5, 0.9])
        return (
            f"clones shifted by up to ±{_seconds(self.most_ns)}, half of them within ±{_seconds(half)}, "
            f"nine of ten within ±{_seconds(most)}"
        )


TIED: Final = Shifts((0,), (1.0,))


def folded_ns(shift_ns: Int64, low_ns: Int64, high_ns: Int64) -> Int64:
    """Shifts mirrored at both ends of [low, high] (low ≤ 0 ≤ high) until they lie inside, int64[n] ns."""
    lap = np.maximum(2 * (high_ns - low_ns), 1)
    along = np.mod(shift_ns - low_ns, lap)
    inside: Int64 = np.clip(low_ns + np.minimum(along, lap - along), low_ns, high_ns)
    return inside


def _seconds(time_ns: float) -> str:
    return f"{time_ns / 1e9:.3g}s"
