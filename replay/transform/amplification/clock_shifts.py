"""How far a clone is moved where traffic keeps to a clock: by whole periods and a little besides, as values.

Clones without a clock are moved by `shifts`; how much of which is fitted in `clock_fit`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.shifts import folded_ns, seconds

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_ENTRIES: Final = 1 << 16


@dataclasses.dataclass(frozen=True)
class ClockShifts:
    """A mixture with `weights` that sum to 1: part i is a whole number of periods and a little besides.

    The number is triangular on (−`cycles[i]`, `cycles[i]`), so 1 is none at all; the little is triangular on
    ±`scales_ns[i]`.
    """

    period_ns: int
    cycles: tuple[int, ...]
    scales_ns: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def most_ns(self) -> int:
        """No shift is farther than this."""
        parts = zip(self.cycles, self.scales_ns, strict=True)
        return max(((most - 1) * self.period_ns + scale for most, scale in parts), default=0)

    def drawn_ns(self, chance: Float64, start_ns: Int64 | None = None) -> Int64:
        """The shift for each of `chance` (float64[n] in [0, 1)), int64[n] ns, wherever the original is."""
        whole_ns, scale_ns = self._entries
        place = chance * _ENTRIES
        entry = place.astype(np.int64)
        place -= entry
        # A triangle from what is left of the chance: below the middle by one root, above by the other.
        side = np.sqrt(2 * np.minimum(place, 1 - place))
        little = np.where(place < 0.5, side - 1, 1 - side) * scale_ns.take(entry)
        found: Int64 = whole_ns.take(entry) + np.rint(little).astype(np.int64)
        return found

    @functools.cached_property
    def _entries(self) -> tuple[Int64, Int64]:
        """Whole periods and scale, in ns, of 65,536 equally probable parts, int64 each."""
        whole, scale, weight = [], [], []
        for most, scale_ns, part in zip(self.cycles, self.scales_ns, self.weights, strict=True):
            number = np.arange(1 - most, most)
            whole.append(number * self.period_ns)
            scale.append(np.full(len(number), scale_ns))
            weight.append(part * (most - np.abs(number)) / most**2)
        below = np.cumsum(np.concatenate(weight))
        which = np.searchsorted(below / below[-1], (np.arange(_ENTRIES) + 0.5) / _ENTRIES)
        return np.concatenate(whole)[which], np.concatenate(scale)[which]

    def kept_within(self, shift_ns: Int64, low_ns: Int64, high_ns: Int64) -> Int64:
        """Shifts with their periods mirrored, then the rest, to lie in [low, high] (low ≤ 0 ≤ high)."""
        whole = np.rint(shift_ns / self.period_ns).astype(np.int64)
        little = shift_ns - whole * self.period_ns
        before = -(low_ns // -self.period_ns)  # how many periods there are room for; 0 or less
        lap = 2 * (high_ns // self.period_ns - before + 1)
        along = np.mod(whole - before, lap)
        whole = (before + np.minimum(along, lap - 1 - along)) * self.period_ns
        kept: Int64 = whole + folded_ns(little, low_ns - whole, high_ns - whole)
        return kept

    def __str__(self) -> str:
        far = sum(one for one, most in zip(self.weights, self.cycles, strict=True) if most > 1)
        if not far:
            return f"a clock of {seconds(self.period_ns)}, clones shifted by up to ±{seconds(self.most_ns)}"
        most = max(self.cycles) - 1
        little = max(scale for scale, many in zip(self.scales_ns, self.cycles, strict=True) if many > 1)
        return (
            f"a clock of {seconds(self.period_ns)}: {far:.0%} of the clones shifted by whole periods, up to "
            f"±{most}, and at most ±{seconds(little)} besides"
        )
