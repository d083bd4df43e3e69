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

PIECES: Final = 1 << 12
"""Into so many pieces of one probability a distribution is cut, to draw from."""
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

    def drawn_ns(self, chance: Float64, start_ns: Int64 | None = None) -> Int64:
        """The shift for each of `chance` (float64[n] in [0, 1)), int64[n] ns, wherever the original is."""
        return drawn_from(self.pieces_ns, chance)

    def kept_within(self, shift_ns: Int64, low_ns: Int64, high_ns: Int64) -> Int64:
        """Shifts (int64[n]) mirrored to lie in [low, high], int64[n] each (low ≤ 0 ≤ high)."""
        return folded_ns(shift_ns, low_ns, high_ns)

    @functools.cached_property
    def pieces_ns(self) -> tuple[Float64, Float64]:
        """Where each 1/4096 of the probability begins, and how wide it is: float64[4096] each, ns."""
        reach = np.concatenate([[0.0], np.geomspace(1e3, max(self.most_ns, 1e3), _KNOTS)])
        at = np.clip(np.concatenate([-reach[:0:-1], reach]), -self.most_ns, self.most_ns)
        below = np.zeros(len(at))
        for scale, weight in zip(self.scales_ns, self.weights, strict=True):
            below += weight * self._below(at, scale)
        borders = np.interp(np.linspace(0, 1, PIECES + 1), below, at)
        return borders[:-1], np.diff(borders)

    def _below(self, at: Float64, scale_ns: int) -> Float64:
        """The probability of a shift below `at` for one part of the mixture."""
        place = np.clip(at / max(scale_ns, 1), -1, 1)
        triangle: Float64 = np.where(place < 0, (1 + place) ** 2 / 2, 1 - (1 - place) ** 2 / 2)
        return (1 + place) / 2 if self.uniform else triangle

    def __str__(self) -> str:
        if not self.most_ns:
            return "clones not shifted"
        if self.uniform:
            return f"clones shifted evenly by up to ±{seconds(self.most_ns)}"
        half, most = np.quantile(np.abs(self.pieces_ns[0]), [0.5, 0.9])
        return (
            f"clones shifted by up to ±{seconds(self.most_ns)}, half of them within ±{seconds(half)}, "
            f"nine of ten within ±{seconds(most)}"
        )


TIED: Final = Shifts((0,), (1.0,))


def drawn_from(pieces_ns: tuple[Float64, Float64], chance: Float64, law: Int64 | None = None) -> Int64:
    """The shift for each of `chance` (float64[n] in [0, 1)), int64[n] ns.

    `pieces_ns` are those of `Shifts`; of several laws one after the other, where `law` (int64[n], from 0)
    says which is drawn from.
    """
    low, width = pieces_ns
    place = chance * PIECES
    piece = place.astype(np.int64)
    place -= piece
    if law is not None:
        piece += law * PIECES
    place *= width.take(piece)
    place += low.take(piece)
    return np.rint(place, out=place).astype(np.int64)


def folded_ns(shift_ns: Int64, low_ns: Int64, high_ns: Int64) -> Int64:
    """Shifts mirrored at both ends of [low, high] (low ≤ 0 ≤ high) until they lie inside, int64[n] ns."""
    lap = np.maximum(2 * (high_ns - low_ns), 1)
    along = np.mod(shift_ns - low_ns, lap)
    inside: Int64 = np.clip(low_ns + np.minimum(along, lap - along), low_ns, high_ns)
    return inside


def seconds(time_ns: float) -> str:
    """A time for people to read."""
    return f"{time_ns / 1e9:.3g}s"
