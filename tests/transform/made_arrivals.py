"""Arrivals whose truth is known: users under a rate curve, once or f times as many, smooth and bursty."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.transform.draws import lone_session
from replay.transform.rows import Rows

Int64 = npt.NDArray[np.int64]

S = 1_000_000_000
SPAN_S = 1200


def rows_at(due_ns: Int64, session: Int64) -> Rows:
    """Rows due at `due_ns` (int64[n], any order), with `session` (int64[n], any numbers)."""
    order = np.argsort(due_ns, kind="stable")
    due_ns = due_ns[order]
    _, whose = np.unique(session[order], return_inverse=True)
    first = np.full(int(whose.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, whose, due_ns)
    n = len(due_ns)
    nothing = np.zeros(n, np.int64)
    return Rows(
        due_ns=due_ns,
        row=np.arange(n, dtype=np.int64),
        copy=np.zeros(n, np.int32),
        session=lone_session(whose.astype(np.int64)),
        start_ns=first[whose],
        follows=nothing - 1,
        think_ns=nothing,
        phase=np.zeros(n, np.int8),
    )


def smooth(users: float, rng: np.random.Generator) -> Rows:
    """Poisson arrivals, 6/s per user on average, under a rate that wanders."""
    at = _under_a_curve(6 * users, _QUICK, rng)
    return rows_at(at, np.arange(len(at)))


def bursty(users: float, rng: np.random.Generator) -> Rows:
    """Sessions, 1/s per user on average under a slower curve, of 1 to some 20 requests within seconds."""
    starts = _under_a_curve(users, _SLOW, rng)
    turns = rng.geometric(1 / 4, len(starts))
    session = np.repeat(np.arange(len(starts)), turns)
    gaps = rng.gamma(0.5, 3.0, len(session)) * S
    nth = np.arange(len(session)) - np.repeat(np.cumsum(turns) - turns, turns)
    gaps[nth == 0] = 0
    passed = np.cumsum(gaps)
    due = starts[session] + (passed - passed[np.flatnonzero(nth == 0)][session]).astype(np.int64)
    kept = due < SPAN_S * S
    return rows_at(due[kept], session[kept])


def _under_a_curve(mean_per_s: float, curve: np.ndarray, rng: np.random.Generator) -> Int64:
    """Poisson instants under a rate curve, given in each second as a multiple of the mean."""
    at = rng.integers(0, SPAN_S * S, rng.poisson(4 * mean_per_s * SPAN_S))
    kept = rng.random(len(at)) < np.interp(at / S, np.arange(SPAN_S + 1), curve) / 4
    return np.sort(at[kept])


def _wandering(*parts: tuple[int, float]) -> np.ndarray:
    """A rate that wanders around its mean: by so much within so many seconds, for each part."""
    rng = np.random.default_rng(11)
    level = np.zeros(SPAN_S + 1)
    for slowness, size in parts:
        steps = rng.normal(size=SPAN_S + 1) * size * np.sqrt(2 / slowness)
        walk = np.zeros(SPAN_S + 1)
        for second in range(1, SPAN_S + 1):
            walk[second] = walk[second - 1] * (1 - 1 / slowness) + steps[second]
        level += walk
    curve: np.ndarray = np.minimum(np.exp(level), 4)
    return curve / curve.mean()


_QUICK = _wandering((100, 0.35), (5, 0.25))
_SLOW = _wandering((100, 0.45))
