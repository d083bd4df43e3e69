"""The third factorial cumulant of counts per window: how skewed bursts are, and what more users make of it.

Thinning by p multiplies the r-th factorial cumulant of a count by p^r, so f times as many users have f³ times
the third one, as they have f² times the second (D. J. Daley, D. Vere-Jones: An Introduction to the Theory of
Point Processes I, 2003, ch. 5). That is where each request is a session of its own. Where sessions have
several, each is kept or cloned whole: of pairs and triples of requests in one window, those of one session
grow with f, those of two sessions with f², those of three with f³. With n_s requests of session s, N of all,
and n⁽ʳ⁾ = n (n − 1) … (n − r + 1),

    of one: P = Σ n_s⁽²⁾ pairs and T = Σ n_s⁽³⁾ triples;
    of two: N⁽²⁾ − P pairs and 3 (N P − T − 2 P) triples.
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


def third_moment(
    due_ns: Int64, span_ns: int, windows_s: Sequence[float], session: Int64 | None = None, users: float = 1.0
) -> ThirdMoment:
    """Of `users` times as many users as made arrivals `due_ns`, under the same rate curve.

    `due_ns` int64[n] in any order, of which those before `span_ns` count; `session` int64[n], a number per
    session, None where each has one request (with one times the users, it doesn't matter). `windows_s` are
    such as `judged_windows` gives.
    """
    by_session = None
    if session is not None and users != 1:
        order = np.lexsort((due_ns, session))
        by_session = due_ns[order], session[order]
    found = [_cumulant(due_ns, by_session, span_ns, round(one * 1e9), users) for one in windows_s]
    return ThirdMoment(windows_s, np.array([one[0] for one in found]), np.array([one[1] for one in found]))


def _cumulant(
    due_ns: Int64, by_session: tuple[Int64, Int64] | None, span_ns: int, window_ns: int, users: float
) -> tuple[float, float]:
    """E N⁽³⁾ − 3 E N⁽²⁾ E N + 2 (E N)³ with `users` times the users, and its standard error."""
    place_ns = window_ns // _PLACES
    places = span_ns // place_ns
    counts = np.bincount(np.minimum(due_ns // place_ns, places), minlength=places + 1)[:places]
    passed = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    inside = passed[_PLACES:] - passed[:-_PLACES]
    pairs = inside * (inside - 1)
    triples = pairs * (inside - 2)
    if by_session is None:
        falling = [users * inside, users**2 * pairs, users**3 * triples]
    else:
        own_pairs, own_triples = _of_one_session(by_session, place_ns, len(inside))
        of_two = 3 * (inside * own_pairs - own_triples - 2 * own_pairs)
        falling = [
            users * inside,
            users * own_pairs + users**2 * (pairs - own_pairs),
            users * own_triples + users**2 * of_two + users**3 * (triples - own_triples - of_two),
        ]
    begins = -(-np.arange(_BLOCKS) * len(inside) // _BLOCKS)
    many = np.diff(begins, append=len(inside))
    by_block = np.stack([np.add.reduceat(one, begins) for one in falling])
    without = _from_moments((by_block.sum(axis=1, keepdims=True) - by_block) / (many.sum() - many))
    error = np.sqrt((_BLOCKS - 1) * np.mean((without - without.mean()) ** 2))
    return float(_from_moments(by_block.sum(axis=1) / many.sum())), float(error)


def _of_one_session(by_session: tuple[Int64, Int64], place_ns: int, windows: int) -> tuple[Float64, Float64]:
    """Σ n_s⁽²⁾ and Σ n_s⁽³⁾ in each of so many sliding windows, float64[windows] each.

    `by_session` are instants and sessions (int64[n] each), sorted by session, then by instant.
    """
    due_ns, session = by_session
    place = due_ns // place_ns
    pairs, triples = np.zeros(windows), np.zeros(windows)
    for first in range(_PLACES):  # windows that begin at places first, first + 4, …: each row is in one
        begin = (place - first) // _PLACES * _PLACES + first
        changes = np.flatnonzero((begin[1:] != begin[:-1]) | (session[1:] != session[:-1])) + 1
        starts = np.concatenate([[0], changes])
        many = np.diff(starts, append=len(begin)).astype(np.float64)
        at = begin[starts]
        kept = (many > 1) & (at >= 0) & (at < windows)
        at, many = at[kept], many[kept]
        pairs += np.bincount(at, weights=many * (many - 1), minlength=windows)
        triples += np.bincount(at, weights=many * (many - 1) * (many - 2), minlength=windows)
    return pairs, triples


def _from_moments(falling: Float64) -> Float64:
    """The cumulant of factorial moments of order 1, 2, 3, float64[3, …]."""
    mean, pairs, triples = falling
    cumulant: Float64 = triples - 3 * pairs * mean + 2 * mean**3
    return cumulant
