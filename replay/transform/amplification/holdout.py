"""Does amplification tell the truth? Thin a real trace by sessions, amplify back, compare with the whole.

Compared are the index of dispersion and the arrival envelope by window, and the 99th percentile of the wait
in a simulated G/G/k queue. One trace is one draw of chance: so several thinnings are tried, and the truth is
drawn again, with its sessions moved by up to a minute, to see how far a peak or a wait would differ anyway.
Users can't be steadier than their sessions alone would make them: where the whole is, by no more than chance,
its index of dispersion counts as theirs (C(w) of `burst_curve`).
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from replay.transform import draws
from replay.transform.amplification.amplify import Amplify
from replay.transform.amplification.methods import LateSessions, ShiftedClones
from replay.transform.amplification.settling import settled
from replay.transform.amplification.shifts import Shifts
from replay.transform.burst_curve import (
    WINDOWS_S,
    dispersion_curve,
    dispersion_error,
    envelope,
    session_dispersion,
)
from replay.transform.queue_wait import p99_wait_s
from replay.transform.rows import Rows, Step

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

TOLERANCE: Final = 0.10
WAIT_FACTOR: Final = 2.0
FEWEST_REQUESTS: Final = 1000
_REDRAWN_NS: Final = 60_000_000_000

WITHIN: Final = "within"
BY_CHANCE: Final = "within chance"
OFF: Final = "off"


@dataclasses.dataclass(frozen=True)
class Compared:
    """One measure: the truth, what amplification made of it, and how sure that is.

    `truth` of the held-out trace (see above where it is steadier than its sessions), `amplified` the mean of
    the thinnings, `ratio` of these; `error` is the standard error of the ratio, of the thinnings and of the
    truth's own chance together. `lowest` and `highest` are the extreme ratios of single thinnings. `verdict`:
    `within` the bound, `within chance` (not inside, but by less than two standard errors, or a count that
    differs by at most one), or `off`.
    """

    name: str
    truth: float
    amplified: float
    ratio: float
    error: float
    lowest: float
    highest: float
    verdict: str


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What a hold-out found, as values. `step` is what the lineage would say of the last thinning's."""

    factor: float
    method: str
    thinnings: int
    requests: int
    step: str
    compared: tuple[Compared, ...]

    @property
    def holds(self) -> bool:
        """Whether no measure is off."""
        return all(one.verdict != OFF for one in self.compared)


def hold_out(rows: Rows, factor: float, method: str, thinnings: int, seed: int, tick_ns: int = 1) -> HeldOut:
    """Keep 1/factor of the sessions of `rows` (a trace as it was), amplify back, compare; `thinnings` times.

    `factor` is above 1. Raises `BadInput` for a trace too small to judge by.
    """
    if factor <= 1:
        raise BadInput(f"--amplify: {factor:g} found, above 1 wanted: by so much the trace is thinned first")
    if len(rows) < FEWEST_REQUESTS or len(rows) < 100 * factor:
        raise BadInput(
            f"hold-out: {len(rows)} requests found, {max(FEWEST_REQUESTS, round(100 * factor)):,} or more "
            "wanted to judge amplification by; take a longer trace or a smaller --amplify"
        )
    order = np.argsort(rows.due_ns, kind="stable")
    rows = rows.take(order)
    span_ns = int(rows.due_ns[-1])
    truth = _measures(rows.due_ns, span_ns, seed)
    truth[: len(WINDOWS_S)] = _by_users(truth[: len(WINDOWS_S)], rows, span_ns)
    streams = np.random.default_rng([seed, round(factor * 1000)]).spawn(thinnings)
    again = [_measures(_redrawn(rows, span_ns, draws.key_of(stream)), span_ns, seed) for stream in streams]
    found, step = [], ""
    for nth, stream in enumerate(streams):
        due_ns, last = _amplified_back(rows, factor, method, stream, tick_ns)
        found.append(_measures(due_ns, span_ns, seed + nth))
        step = str(last)
    compared = _compare(truth, np.array(found), np.array(again))
    return HeldOut(factor, method, thinnings, len(rows), step, compared)


def _measures(due_ns: Int64, span_ns: int, seed: int) -> Float64:
    """Dispersion and envelope by window, and the wait, one after the other."""
    wait_s = p99_wait_s(due_ns, span_ns, np.random.default_rng(seed))
    return np.concatenate([dispersion_curve(due_ns), envelope(due_ns).astype(np.float64), [wait_s]])


def _by_users(dispersion: Float64, rows: Rows, span_ns: int) -> Float64:
    """The dispersion by window; that of the sessions where it is below by two standard errors or less."""
    own = [session_dispersion(rows.due_ns, rows.session, window_s) for window_s in WINDOWS_S]
    alone = np.array([np.nan if value is None else value for value in own])
    by_chance = dispersion >= alone * (1 - 2 * dispersion_error(span_ns))
    return np.where(by_chance, np.maximum(dispersion, alone), dispersion)


def _redrawn(rows: Rows, span_ns: int, key: np.uint64) -> Int64:
    """The due instants with every session moved by up to a minute."""
    shifts = Shifts((min(_REDRAWN_NS, max(span_ns // 16, 1)),), (1.0,))
    late = LateSessions.of(rows.due_ns, rows.session)
    both = ShiftedClones(2, key, shifts, span_ns, late).apply(rows)
    return np.sort(both.due_ns[both.copy == 1])


def _amplified_back(
    rows: Rows, factor: float, method: str, stream: np.random.Generator, tick_ns: int
) -> tuple[Int64, Step]:
    """A 1/factor of the sessions, amplified: due instants (ascending), and the step that did it."""
    for_thin, for_amplify = draws.key_of(stream), draws.key_of(stream)
    kept = rows.take(draws.uniform(for_thin, rows.session, 0) < 1 / factor)
    if not len(kept):
        raise BadInput("hold-out: no session is left after thinning; take a smaller --amplify")
    wanted = Amplify(factor, for_amplify, method)
    span_ns = int(rows.due_ns[-1])
    (step,) = settled([wanted], lambda: [kept], span_ns, len(kept), tick_ns)
    return np.sort(step.apply(kept).due_ns), step


def _compare(truth: Float64, found: Float64, again: Float64) -> tuple[Compared, ...]:
    """Each measure's `Compared`; windows too long for the trace are left out."""
    names = [f"dispersion, {window:g}s" for window in WINDOWS_S]
    names += [f"most arrivals in {window:g}s" for window in WINDOWS_S]
    names += ["p99 wait in a G/G/k queue"]
    compared = []
    for at, name in enumerate(names):
        if not np.isfinite(truth[at]) or truth[at] <= 0:
            continue
        ratios = found[:, at] / truth[at]
        if not np.isfinite(ratios).all():
            continue
        count = name.startswith("most")
        wait = at == len(names) - 1
        # Peaks and waits hang on few instants: there the truth's own chance counts, too.
        own = float(np.std(again[:, at] / truth[at], ddof=1)) if (count or wait) and len(again) > 1 else 0.0
        spread = float(np.std(ratios, ddof=1)) if len(ratios) > 1 else float("inf")
        ratio = float(np.mean(ratios))
        error = float(np.hypot(spread / np.sqrt(len(ratios)), own))
        low, high = (1 / WAIT_FACTOR, WAIT_FACTOR) if wait else (1 - TOLERANCE, 1 + TOLERANCE)
        slack = max(2 * error, 1 / truth[at] if count else 0.0)
        verdict = (
            WITHIN if low <= ratio <= high else BY_CHANCE if low - slack <= ratio <= high + slack else OFF
        )
        amplified = float(np.mean(found[:, at]))
        extremes = float(ratios.min()), float(ratios.max())
        compared.append(Compared(name, float(truth[at]), amplified, ratio, error, *extremes, verdict))
    return tuple(compared)
