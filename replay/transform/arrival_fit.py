"""From session starts to the arrival process that makes their like: rate curve, shape of the gaps, bursts.

The index of dispersion for counts (IDC) of the process is, over windows of length w,

    IDC(w) = B(w) + s²·R(w) + Σ_j v_j·λ·G(w, u_j)

B is the IDC of the renewal process alone, R that of the rate curve (variance over mean of the expected
counts), v_j the variance of the random factor that is drawn anew every u_j seconds, λ the mean rate, and

    G(w, u) = u·(1 − u/3w) for w ≥ u,   w·(1 − w/3u) for w < u

(the variance of the integral of piecewise constant noise over a window of random phase, divided by w). So s
and the v_j are found by bounded least squares from the measured curve. s shrinks the observed counts towards
their mean: counts have the process's own scatter in them, which a rate must not have twice.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import gammaln

from replay.transform.burst_curve import dispersion
from replay.transform.profile import EXPONENTIAL, GAMMA, WEIBULL, Arrivals, Burst
from replay.transform.session_starts import draw_starts, unit_gaps, weibull_shape

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

CURVE_S: Final = (0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
MOST_WINDOWS: Final = 288
_WIDTHS_S: Final = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600, 86400)
_SCALES_S: Final = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_ENOUGH_A_WINDOW: Final = 20
_ENOUGH_WINDOWS: Final = 20
_ROUNDS: Final = 4
_SIMULATED: Final = 100_000
_ENOUGH_GAPS: Final = 50
_POISSON_LIKE: Final = (0.93, 1.07)
_LEAST_DOUBT: Final = 0.03
_CV_RANGE: Final = (0.1, 20)


def fit_arrivals(at_ns: Int64, span_s: float, at_least: int, rng: np.random.Generator) -> Arrivals:
    """The process that makes arrivals like `at_ns` (int64 ns ascending, in [0, span)); `mix` is empty.

    Simulates what it found a few times and corrects the target by what came out. No rate stands for fewer
    than `at_least` arrivals.
    """
    n = len(at_ns)
    width_s = _width(n, span_s)
    windows = max(1, int(np.ceil(span_s / width_s - 1e-9)))
    if windows == 1:
        width_s = span_s
    counts = np.bincount(
        np.minimum(at_ns // round(width_s * 1e9), windows - 1).astype(int), minlength=windows
    )
    last_part = (span_s - (windows - 1) * width_s) / width_s
    rate = pooled(counts.astype(np.float64), at_least) / width_s
    rate[-1] /= last_part
    curve = measured_curve(at_ns, span_s)
    found = Arrivals(width_s, tuple(rate), {})
    if not curve:
        return _shrunk(found, 0.0, ())
    shapes = _gap_shapes(at_ns, np.repeat(rate, counts), rate)
    candidates = [dataclasses.replace(found, family=(family,), cv=(cv,)) for family, cv in shapes]
    found = min(candidates, key=lambda candidate: _solved(candidate, curve, curve)[1])
    return _calibrated(found, curve, n, rng)


def _calibrated(found: Arrivals, curve: dict[float, float], n: int, rng: np.random.Generator) -> Arrivals:
    """The best of a few solutions: each round aims off by what the one before missed, within a quarter."""
    target, best, least = dict(curve), found, np.inf
    for _ in range(_ROUNDS):
        fitted = _solved(found, target, curve)[0]
        simulated = _simulated_curve(fitted, tuple(curve), n, rng)
        missed = sum(
            ((simulated.get(w, 0.0) / wanted - 1) / (_LEAST_DOUBT + np.sqrt(2 * w / found.span_s))) ** 2
            for w, wanted in curve.items()
        )
        if missed < least:
            best, least = fitted, missed
        for w, wanted in curve.items():
            aimed = target[w] + 0.7 * (wanted - simulated.get(w, wanted))
            target[w] = float(np.clip(aimed, 0.75 * wanted, 1.25 * wanted))
    return best


def measured_curve(at_ns: Int64, span_s: float, windows: tuple[float, ...] = CURVE_S) -> dict[float, float]:
    """IDC by window in s, for windows of which at least 20 fit and that hold a twentieth of an arrival."""
    fitting = [w for w in windows if w * _ENOUGH_WINDOWS <= span_s and w * len(at_ns) / span_s >= 0.05]
    found = ((w, dispersion(at_ns, w)) for w in fitting)
    return {w: value for w, value in found if value is not None}


def pooled(counts: Float64, at_least: int) -> Float64:
    """Counts in which each one of 1 … at_least − 1 is shared out over it and its neighbours, float64[n].

    A run of windows is joined until it holds `at_least` together; its sum stays the same. Zeros that stand
    between others stay zero. No run is split again: the difference of two figures tells of none either.
    """
    starts: list[int] = []
    held = 0.0
    for i, count in enumerate(counts.tolist()):
        if held == 0:
            starts.append(i)
        held += count
        if held >= at_least:
            held = 0.0
    while held and len(starts) > 1:  # what is left at the end joins the run before, and so on
        starts.pop()
        held = counts[starts[-1] :].sum() if counts[starts[-1] :].sum() < at_least else 0.0
    edges = [*starts, len(counts)]
    sizes = np.diff(edges)
    return np.repeat(np.add.reduceat(counts, starts) / sizes, sizes)


def _width(n: int, span_s: float) -> float:
    least = max(span_s / MOST_WINDOWS, _ENOUGH_A_WINDOW * span_s / max(n, 1))
    return next((width for width in _WIDTHS_S if width >= least), span_s)


def _gap_shapes(at_ns: Int64, rate_at: Float64, rate: Float64) -> list[tuple[str, float]]:
    """Families and cvs that the gaps suggest: Poisson, as they are, and counted in expected arrivals."""
    shapes = [(EXPONENTIAL, 1.0)]
    gaps = np.diff(at_ns) / 1e9
    if len(gaps) < _ENOUGH_GAPS:
        return shapes
    for scaled in (gaps, gaps * np.where(rate_at[1:] > 0, rate_at[1:], rate.mean())):
        unit = np.maximum(scaled / scaled.mean(), 1e-6)
        cv = float(np.clip(unit.std(), *_CV_RANGE))
        if not _POISSON_LIKE[0] < cv < _POISSON_LIKE[1]:
            shapes.append((WEIBULL if _weibull_fits_better(unit, cv) else GAMMA, float(f"{cv:.3g}")))
    return shapes


def _weibull_fits_better(gaps: Float64, cv: float) -> bool:
    """By the likelihood of gaps of mean 1, each family having the shape that makes its cv."""
    shape = weibull_shape(cv)
    scale = np.exp(-gammaln(1 + 1 / shape))
    logs = np.log(gaps)
    weibull = np.log(shape / scale) + (shape - 1) * (logs - np.log(scale)) - (gaps / scale) ** shape
    k = cv**-2
    gamma = k * np.log(k) - gammaln(k) + (k - 1) * logs - k * gaps
    return bool(weibull.sum() > gamma.sum())


def _solved(found: Arrivals, target: dict[float, float], curve: dict[float, float]) -> tuple[Arrivals, float]:
    """`found` with the shrinkage of its rate curve and the bursts that come nearest to `target`, and how
    far they stay from it: the Euclidean norm, in standard errors of `curve` (about IDC·√(2/windows))."""
    windows = np.array(list(target))
    wanted = np.array(list(target.values()))
    rate = np.array(found.rate_per_s)
    mean = max(float(rate.mean()), 1e-12)
    base = _renewal_curve(found, windows, rate)
    spread = np.array([_rate_dispersion(rate, found.window_s, w) for w in windows])
    scales = [u for u in _SCALES_S if u <= found.window_s and u >= windows[0] / 2 and u <= windows[-1]]
    weight = float((rate * rate).mean()) / mean  # where the rate is high, bursts count for more
    columns = [spread, *(weight * _noise(windows, u) for u in scales)]
    measured = np.array(list(curve.values()))
    trust = 1 / (measured * (_LEAST_DOUBT + np.sqrt(2 * windows / found.span_s)))  # few windows say little
    matrix = np.stack(columns, axis=1) * trust[:, None]
    solution, distance = nnls(matrix, (wanted - base) * trust)
    if solution[0] > 1:  # a rate curve is never stretched
        rest, distance = nnls(matrix[:, 1:], (wanted - base) * trust - matrix[:, 0])
        solution = np.array([1.0, *rest])
    bursts = tuple(
        Burst(u, float(f"{v:.3g}")) for u, v in zip(scales, solution[1:].tolist(), strict=True) if v > 1e-4
    )
    return _shrunk(found, float(np.sqrt(solution[0])), bursts), float(distance)


def _shrunk(found: Arrivals, share: float, bursts: tuple[Burst, ...]) -> Arrivals:
    rate = np.array(found.rate_per_s)
    rate = rate.mean() + share * (rate - rate.mean())
    return dataclasses.replace(
        found, rate_per_s=tuple(float(f"{value:.4g}") for value in rate), bursts=bursts
    )


def _noise(windows: Float64, scale_s: float) -> Float64:
    """G(w, u) of the module's formula."""
    longer = scale_s * (1 - scale_s / (3 * windows))
    shorter = windows * (1 - windows / (3 * scale_s))
    return np.where(windows >= scale_s, longer, shorter)


def _rate_dispersion(rate: Float64, width_s: float, window_s: float) -> float:
    """Variance over mean of the expected counts in windows of `window_s`."""
    if window_s <= width_s:
        expected, within = rate * window_s, rate
    else:
        edges = np.arange(len(rate) + 1) * width_s
        cumulated = np.concatenate(([0.0], np.cumsum(rate * width_s)))
        within = np.diff(np.interp(np.arange(0, edges[-1] + 1e-9, window_s), edges, cumulated))
        expected = within
    mean = float(expected.mean()) if len(expected) else 0.0
    return float(expected.var()) / mean if mean > 0 else 0.0


def _renewal_curve(found: Arrivals, windows: Float64, rate: Float64) -> Float64:
    """B(w): the IDC of unit-rate renewals at w times each window's rate, averaged over arrivals."""
    if found.family == (EXPONENTIAL,):
        return np.ones(len(windows))
    gaps = unit_gaps(found.family[0], found.cv[0], _SIMULATED, np.random.default_rng(0))
    at_ns = np.rint(np.cumsum(gaps) * 1e9).astype(np.int64)
    expected = np.geomspace(0.03, 1000, 16)
    idc = np.array([dispersion(at_ns, w) or 1.0 for w in expected])
    busy = rate[rate > 0]
    return np.array(
        [float(np.average(np.interp(np.log(w * busy), np.log(expected), idc), weights=busy)) for w in windows]
    )


def _simulated_curve(
    arrivals: Arrivals, windows: tuple[float, ...], n: int, rng: np.random.Generator
) -> dict[float, float]:
    """The mean curve of a few draws: the more, the fewer arrivals each has."""
    runs = int(np.clip(_SIMULATED // max(n, 1), 2, 24))
    total: dict[float, list[float]] = {}
    for _ in range(runs):
        drawn = draw_starts(arrivals, rng)
        for w, value in measured_curve(drawn, arrivals.span_s, windows).items():
            total.setdefault(w, []).append(value)
    return {w: float(np.mean(values)) for w, values in total.items()}
