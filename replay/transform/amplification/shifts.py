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

_KNOTS: Final = 4096


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

    @functools.cached_property
    def quantiles_ns(self) -> Float64:
        """The shifts at 0, 1/4096 … 1 of the probability, float64[4097]."""
        reach = np.concatenate([[0.0], np.geomspace(1e3, max(self.most_ns, 1e3), 2 * _KNOTS)])
        at = np.concatenate([-reach[:0:-1], reach])
        below = np.zeros(len(at))
        for scale, weight in zip(self.scales_ns, self.weights, strict=True):
            below += weight * self._below(at, scale)
        knots: Float64 = np.interp(np.linspace(0, 1, _KNOTS + 1), below, at)
        return knots

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
        parts = sorted(zip(self.weights, self.scales_ns, strict=True), key=lambda part: part[1])
        told = ", ".join(f"{weight:.0%} ±{_seconds(scale)}" for weight, scale in parts)
        return f"clones shifted by a mixture of {told}"


TIED: Final = Shifts((0,), (1.0,))


def drawn_ns(quantiles_ns: Float64, chance: Float64) -> Float64:
    """The shift for each of `chance` (float64[n] in [0, 1)) by `Shifts.quantiles_ns`, float64[n] ns."""
    place = chance * (len(quantiles_ns) - 1)
    below = place.astype(np.int64)
    place -= below
    return quantiles_ns[below] * (1 - place) + quantiles_ns[below + 1] * place


def folded_ns(shift_ns: Float64, low_ns: Int64, high_ns: Int64) -> Int64:
    """Shifts mirrored at both ends of [low, high] (low ≤ 0 ≤ high) until they lie inside, int64[n] ns."""
    room = (high_ns - low_ns).astype(np.float64)
    lap = np.maximum(2 * room, 1)
    along = np.mod(shift_ns - low_ns, lap)
    folded = low_ns + np.minimum(along, lap - along)
    inside: Int64 = np.clip(np.rint(folded).astype(np.int64), low_ns, high_ns)
    return inside


def _seconds(time_ns: int) -> str:
    return f"{time_ns / 1e9:.3g}s"
