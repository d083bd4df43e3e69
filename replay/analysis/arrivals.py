"""Planned against achieved arrivals: gaps, burstiness, and lateness against requests in flight.

Statistics only; what bounds they are held against is told to the user by `validity`. Each has a practical
size beside its significance: over many requests a microsecond is significant, and harmless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from replay.analysis.distributions import spearman
from replay.analysis.run_table import Floats, Ints

WINDOWS_S = (0.1, 1.0, 10.0, 60.0)
FEWEST_WINDOWS = 10
EDGE_PLACES = 8
IDC_BOUND = 0.05
IDC_SLACK = 0.05
"""A regular schedule has an index of dispersion near 0, of which 5 % is nothing: this much is always let."""

RANK_BOUND = 0.30
RANK_P_VALUE = 0.001
FEWEST_FOR_RANKS = 30

KS_LEAST = 0.05


@dataclasses.dataclass(frozen=True)
class Coupling:
    """How lateness goes with the requests in flight: Spearman's ρ, its p-value, and by how much in ns.

    `rise_ns` is the median lateness in the fourth of requests with most in flight, less that in the fourth
    with fewest.
    """

    rank_correlation: float
    p_value: float
    rise_ns: float

    def is_material(self, least_rise_ns: float) -> bool:
        """Whether lateness clearly grows with requests in flight, by at least `least_rise_ns`."""
        return (
            self.rank_correlation >= RANK_BOUND
            and self.p_value < RANK_P_VALUE
            and self.rise_ns >= least_rise_ns
        )


def coupling(lateness_ns: Floats, in_flight: Ints) -> Coupling | None:
    """Spearman's rank correlation of lateness and requests in flight; None where it can't be had."""
    if len(lateness_ns) < FEWEST_FOR_RANKS or np.ptp(in_flight) == 0 or np.ptp(lateness_ns) == 0:
        return None
    rho, p_value = spearman(lateness_ns, in_flight)
    order = np.argsort(in_flight, kind="stable")
    fourth = max(1, len(order) // 4)
    rise = np.median(lateness_ns[order[-fourth:]]) - np.median(lateness_ns[order[:fourth]])
    return Coupling(rho, p_value, float(rise))


def gap_distance(due_ns: Floats, sent_ns: Floats, slack_ns: float) -> tuple[float, float]:
    """Kolmogorov–Smirnov distance of planned and achieved gaps, and the bound it is to keep.

    The two distribution functions are compared with a horizontal slack: sup over x of F(x) − G(x + slack),
    either way (a one-sided Lévy distance). Without it, any schedule of equal gaps fails by microseconds. The
    bound is the two-sample critical value at 0.1 %, 1.95 √(2/n) (Smirnov 1948), at least 0.05.
    """
    planned, achieved = np.sort(np.diff(np.sort(due_ns))), np.sort(np.diff(np.sort(sent_ns)))
    n = len(planned)
    distance = max(_excess(planned, achieved, slack_ns), _excess(achieved, planned, slack_ns))
    return distance, max(KS_LEAST, 1.95 * float(np.sqrt(2.0 / n)))


def _excess(one: Floats, other: Floats, slack_ns: float) -> float:
    """sup of F_one(x) − F_other(x + slack), taken where F_one jumps."""
    reached = np.arange(1, len(one) + 1) / len(one)
    by_other = np.searchsorted(other, one + slack_ns, side="right") / len(other)
    return float(max(0.0, (reached - by_other).max()))


@dataclasses.dataclass(frozen=True)
class WindowDispersion:
    """Index of dispersion for counts (variance/mean) at one window, of planned and achieved arrivals."""

    window_s: float
    judged: bool
    planned: float
    achieved: float

    @property
    def close(self) -> bool:
        """Whether the achieved index is within 5 % of the planned one, or within 0.05."""
        return abs(self.achieved - self.planned) <= max(IDC_BOUND * self.planned, IDC_SLACK)


def dispersion(due_ns: Floats, sent_ns: Floats) -> Iterator[WindowDispersion]:
    """The index per window of `WINDOWS_S`; not judged where fewer than 10 whole windows fit into the run."""
    start, span = (float(due_ns.min()), float(np.ptp(due_ns))) if len(due_ns) else (0.0, 0.0)
    for window_s in WINDOWS_S:
        windows = int(span / (window_s * 1e9))
        if windows < FEWEST_WINDOWS:
            yield WindowDispersion(window_s, False, float("nan"), float("nan"))
            continue
        planned, achieved = (_index(at_ns - start, window_s * 1e9, windows) for at_ns in (due_ns, sent_ns))
        yield WindowDispersion(window_s, True, planned, achieved)


def _index(at_ns: Floats, window_ns: float, windows: int) -> float:
    """The mean over several places of the windows' edges: one request that slips over an edge is no burst."""
    fine = np.floor(at_ns * (EDGE_PLACES / window_ns)).astype(np.int64)
    total = np.bincount(fine[(fine >= 0) & (fine < windows * EDGE_PLACES)], minlength=windows * EDGE_PLACES)
    found = []
    for offset in range(EDGE_PLACES):
        whole = windows if offset == 0 else windows - 1
        counts = total[offset : offset + whole * EDGE_PLACES].reshape(whole, EDGE_PLACES).sum(axis=1)
        found.append(float(np.var(counts, ddof=1) / counts.mean()) if counts.any() else 0.0)
    return float(np.mean(found))
