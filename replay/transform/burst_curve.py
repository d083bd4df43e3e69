"""How bursty arrivals are: index of dispersion for counts by window, and the arrival envelope. Pure.

The index of dispersion of a window w is IDC(w) = variance/mean of the counts per window w: 1 for Poisson
arrivals of a constant rate, more where the rate varies or arrivals come in clusters. A trace of sessions has
IDC(w) = C(w) + R(w): C is what the requests of one session have in common, R what the rate's variation adds.
With f times as many users under the same rate curve, a session stays what it is, and the rate's variance
grows with f² where the mean grows with f, so that

    IDC*(w) = C(w) + f · (IDC(w) − C(w)),

which is 1 + f · (IDC(w) − 1) where each session has one request (C = 1). Keeping each session with
probability p is the same law with f = p. How clones are placed to reach it is in `amplification`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.gaps import BLOCK_ROWS, window_counts

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

WINDOWS_S: Final = (0.1, 1.0, 10.0, 60.0)
"""The windows by which burstiness is judged."""
FEWEST_WINDOWS: Final = 10


def dispersion(at_ns: Int64, window_s: float) -> float | None:
    """Index of dispersion for counts: variance/mean of counts per window; None under 10 whole windows.

    `at_ns` int64[n], ascending; windows are counted from the first arrival.
    """
    window_ns = round(window_s * 1e9)
    windows = int(at_ns[-1] - at_ns[0]) // window_ns if len(at_ns) else 0
    if windows < FEWEST_WINDOWS:
        return None
    # Only windows with an arrival in them are held: a long idle gap costs nothing. All in exact integers.
    arrivals = squares = 0
    for window, counts in window_counts(at_ns, window_ns):
        whole = counts[window < windows]
        arrivals += int(whole.sum())
        squares += int((whole * whole).sum())
    return (windows * squares - arrivals * arrivals) / ((windows - 1) * arrivals)


def dispersion_curve(at_ns: Int64, windows_s: Sequence[float] = WINDOWS_S) -> Float64:
    """`dispersion` for each window, float64[windows]; NaN where fewer than 10 windows fit."""
    found = (dispersion(at_ns, window_s) for window_s in windows_s)
    return np.array([np.nan if value is None else value for value in found])


def session_dispersion(at_ns: Int64, session: Int64, window_s: float) -> float | None:
    """C(w), the part of the index of dispersion that each session brings by itself; None like `dispersion`.

    The sum over sessions of the sum of squares of their counts per window, about their own mean, divided by
    that of the counts: what the variance would be, did sessions begin wherever they like. `at_ns` int64[n]
    ascending, `session` int64[n], a number per session.
    """
    window_ns = round(window_s * 1e9)
    windows = int(at_ns[-1] - at_ns[0]) // window_ns if len(at_ns) else 0
    if windows < FEWEST_WINDOWS:
        return None
    window = (at_ns - at_ns[0]) // window_ns
    inside = window < windows
    _, whose = np.unique(session[inside], return_inverse=True)
    arrivals = len(whose)
    _, counts = np.unique(whose.astype(np.int64) * windows + window[inside], return_counts=True)
    per_session = np.bincount(whose).astype(np.float64)
    squares = float((counts.astype(np.float64) ** 2).sum() - (per_session**2).sum() / windows)
    return squares / arrivals * windows / (windows - 1)


def target_dispersion(
    at_ns: Int64, session: Int64, factor: float, windows_s: Sequence[float] = WINDOWS_S
) -> Float64:
    """IDC*(w) of `factor` times as many users under the same rate curve, float64[windows] (module docstring).

    Not below C(w), which sampling error could else bring about; NaN where fewer than 10 windows fit.
    """
    own = [session_dispersion(at_ns, session, window_s) for window_s in windows_s]
    c = np.array([np.nan if value is None else value for value in own])
    target: Float64 = c + factor * np.maximum(dispersion_curve(at_ns, windows_s) - c, 0)
    return target


def dispersion_error(span_ns: int) -> Float64:
    """The relative standard error of an index of dispersion estimated from so long a trace, float64[windows].

    √(2/k) for k windows: the variance of a variance of near-normal counts; more where tails are heavy.
    """
    windows = np.maximum(span_ns / 1e9 / np.asarray(WINDOWS_S, np.float64), 1.0)
    error: Float64 = np.sqrt(2 / windows)
    return error


def envelope(at_ns: Int64, windows_s: Sequence[float] = WINDOWS_S) -> Int64:
    """The arrival envelope, int64[windows]: the largest count in any window of each length, at any instant.

    `at_ns` int64[n], ascending. A window holds its beginning, and not its end.
    """
    if not len(at_ns):
        return np.zeros(len(windows_s), np.int64)
    return np.array([_fullest(at_ns, round(window_s * 1e9)) for window_s in windows_s], np.int64)


def _fullest(at_ns: Int64, window_ns: int) -> int:
    most = 0
    for first in range(0, len(at_ns), BLOCK_ROWS):
        # A window that holds the most may begin at an arrival.
        begins_ns = at_ns[first : first + BLOCK_ROWS]
        ends = np.searchsorted(at_ns, begins_ns + window_ns, side="left")
        ends -= np.arange(first, first + len(begins_ns))
        most = max(most, int(ends.max()))
    return most
