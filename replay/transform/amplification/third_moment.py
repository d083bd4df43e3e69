"""The third factorial cumulant of counts per window: how skewed bursts are.

Thinning by p multiplies the r-th factorial cumulant of a count by p^r, so f times as many users have f³ times
the third one, as they have f² times the second (D. J. Daley, D. Vere-Jones: An Introduction to the Theory of
Point Processes I, 2003, ch. 5). This holds where each request is a session of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_PLACES: Final = 4
"""A window is tried at so many places along its length."""
_BLOCKS: Final = 20
_MOST_PLACES: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class ThirdMoment:
    """The third factorial cumulant by window, float64[windows], and its standard error.

    The error is a jackknife's, which leaves out a twentieth of the time at a time: a burst that came only
    once tells next to nothing.
    """

    windows_s: Sequence[float]
    cumulant: Float64
    error: Float64

    def of_users(self, factor: float) -> ThirdMoment:
        """That of `factor` times as many users under the same rate curve."""
        return ThirdMoment(self.windows_s, factor**3 * self.cumulant, factor**3 * self.error)

    def away(self, cumulant: Float64) -> Float64:
        """How many standard errors `cumulant` (float64[windows]) is above this one, where one is known."""
        known = self.error > 0
        return (cumulant[known] - self.cumulant[known]) / self.error[known]


def judged_windows(windows_s: Sequence[float], span_ns: int, finest_ns: int) -> list[float]:
    """Those of which a span holds enough, and not too many to count in bounded memory; a window is several
    times what is known of instants, `finest_ns`."""
    span_s, finest_s = span_ns / 1e9, finest_ns / 1e9
    return [
        one
        for one in windows_s
        if 10 * _BLOCKS * one <= span_s <= one / _PLACES * _MOST_PLACES and one >= _PLACES * finest_s
    ]


def third_moment(due_ns: Int64, span_ns: int, windows_s: Sequence[float]) -> ThirdMoment:
    """Of arrivals `due_ns`, int64[n] in any order, of which those before `span_ns` count.

    `windows_s` are such as `judged_windows` gives.
    """
    found = [_cumulant(due_ns, span_ns, round(window_s * 1e9)) for window_s in windows_s]
    return ThirdMoment(windows_s, np.array([one[0] for one in found]), np.array([one[1] for one in found]))


def _cumulant(due_ns: Int64, span_ns: int, window_ns: int) -> tuple[float, float]:
    """E N⁽³⁾ − 3 E N⁽²⁾ E N + 2 (E N)³, N⁽ʳ⁾ = N (N − 1) … (N − r + 1), and its standard error."""
    place_ns = window_ns // _PLACES
    places = span_ns // place_ns
    counts = np.bincount(np.minimum(due_ns // place_ns, places), minlength=places + 1)[:places]
    passed = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    inside = passed[_PLACES:] - passed[:-_PLACES]
    block = np.arange(len(inside)) * _BLOCKS // len(inside)
    many = np.bincount(block, minlength=_BLOCKS)
    pairs = inside * (inside - 1)
    falling = np.stack(
        [np.bincount(block, weights=one, minlength=_BLOCKS) for one in (inside, pairs, pairs * (inside - 2))]
    )
    without = _from_moments((falling.sum(axis=1, keepdims=True) - falling) / (many.sum() - many))
    error = np.sqrt((_BLOCKS - 1) * np.mean((without - without.mean()) ** 2))
    return float(_from_moments(falling.sum(axis=1) / many.sum())), float(error)


def _from_moments(falling: Float64) -> Float64:
    """The cumulant of factorial moments of order 1, 2, 3, float64[3, …]."""
    mean, pairs, triples = falling
    cumulant: Float64 = triples - 3 * pairs * mean + 2 * mean**3
    return cumulant
