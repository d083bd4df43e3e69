"""How far a clone is moved where that depends on how crowded its original's instant is, as values."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.crowding import Crowding
from replay.transform.amplification.shifts import Shifts, drawn_from, folded_ns

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class CrowdShifts:
    """A mixture of triangular distributions on ±`scales_ns`, whose weights depend on the class of crowding.

    `weights` float64[classes, scales], each class's sum to 1; `shares` float64[classes] of the arrivals.
    `tilt` is above 0 where clones stay nearer the more crowded it is, below 0 where they move farther.
    """

    crowding: Crowding
    scales_ns: tuple[int, ...]
    weights: Float64
    shares: Float64
    tilt: float

    @property
    def most_ns(self) -> int:
        """No shift is farther than this."""
        return max(self.scales_ns, default=0)

    def drawn_ns(self, chance: Float64, start_ns: Int64) -> Int64:
        """The shift for each of `chance` (float64[n] in [0, 1)), int64[n] ns, of clones of what begins at
        `start_ns` (int64[n])."""
        return drawn_from(self._pieces_ns, chance, self.crowding.of(start_ns).astype(np.int64))

    def kept_within(self, shift_ns: Int64, low_ns: Int64, high_ns: Int64) -> Int64:
        """Shifts (int64[n]) mirrored to lie in [low, high], int64[n] each (low ≤ 0 ≤ high)."""
        return folded_ns(shift_ns, low_ns, high_ns)

    @functools.cached_property
    def _pieces_ns(self) -> tuple[Float64, Float64]:
        """`Shifts.pieces_ns` of all classes, one after the other: float64[classes × 4096] each."""
        pieces = [Shifts(self.scales_ns, tuple(one.tolist())).pieces_ns for one in self.weights]
        return np.concatenate([one[0] for one in pieces]), np.concatenate([one[1] for one in pieces])

    def __str__(self) -> str:
        together = Shifts(self.scales_ns, tuple((self.shares @ self.weights).tolist()))
        how = "nearer" if self.tilt > 0 else "farther"
        return f"{together}, {how} where arrivals crowd (tilt {self.tilt:+.2g})"
