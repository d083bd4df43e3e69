"""The stationary bootstrap over time cells, and the block length that its data ask for.

Latencies of neighbouring requests hang together, so single requests must not be resampled: stretches of
time are, the same ones in both arms. What is resampled and what is computed from it is decided elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.analysis.run_table import Floats


def politis_white(series: Floats) -> float:
    """The mean block length, in steps of `series`, that suits the stationary bootstrap of its mean.

    D. N. Politis, H. White: Automatic block-length selection for the dependent bootstrap. Econometric
    Reviews 23 (2004), 53–70; with the constant corrected by A. Patton, D. N. Politis, H. White, ibid. 28
    (2009), 372–375: b = (G²/g²)^(1/3) n^(1/3), where g = Σ λ(k/M) R(k) and G = Σ λ(k/M) |k| R(k) over
    autocovariances R, with the flat-top window λ. At least 1, at most min(3 √n, n/3).
    """
    n = len(series)
    centred = series - series.mean() if n else series
    if n < 8 or not np.any(centred):
        return 1.0
    covariance = _autocovariance(centred)
    bandwidth = _bandwidth(covariance / covariance[0], n)
    lag = np.arange(1, min(bandwidth, n - 1) + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - lag / bandwidth))
    at_lag = window * covariance[lag]
    long_run = covariance[0] + 2.0 * at_lag.sum()
    slope = 2.0 * (lag * at_lag).sum()
    most = max(1.0, min(3.0 * np.sqrt(n), n / 3.0))
    if long_run <= 0.0:
        return 1.0
    length = ((slope / long_run) ** 2) ** (1 / 3) * n ** (1 / 3)
    return float(min(max(length, 1.0), most))


def _autocovariance(centred: Floats) -> Floats:
    n = len(centred)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    return np.asarray(np.fft.irfft(spectrum * np.conj(spectrum), size)[:n] / n)


def _bandwidth(correlation: Floats, n: int) -> int:
    """M = 2m, m the first lag after which K correlations in a row are insignificant (ibid., section 3.2)."""
    bound = 2.0 * np.sqrt(np.log10(n) / n)
    in_a_row = max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    most = int(np.ceil(np.sqrt(n))) + in_a_row
    tail = np.abs(correlation[1 : most + 1])
    quiet = tail < bound
    for m in range(len(quiet) - in_a_row + 1):
        if quiet[m : m + in_a_row].all():
            return 2 * max(m, 1)
    significant = np.flatnonzero(~quiet)
    return 2 * max(int(significant[-1]) + 1 if len(significant) else 1, 1)


def stationary_multiplicities(
    cells: int, mean_block: float, resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """How often each cell appears in each resample: float32, resamples × cells, rows summing to `cells`.

    D. N. Politis, J. P. Romano: The stationary bootstrap. J. Amer. Statist. Assoc. 89 (1994), 1303–1313:
    blocks start anywhere and run on around the circle; after each cell the block ends with probability
    1/`mean_block`, so that lengths are geometric.
    """
    index = stationary_indices(cells, mean_block, resamples, rng)
    flat = (index + cells * np.arange(resamples)[:, None]).ravel()
    counts = np.bincount(flat, minlength=resamples * cells)
    return counts.reshape(resamples, cells).astype(np.float32)


def stationary_indices(
    cells: int, mean_block: float, resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The cells of each resample in order: int64, resamples × cells, see `stationary_multiplicities`."""
    starts = rng.random((resamples, cells)) < 1.0 / max(mean_block, 1.0)
    starts[:, 0] = True
    origin = rng.integers(0, cells, size=(resamples, cells))
    position = np.arange(cells)
    begun = np.maximum.accumulate(np.where(starts, position, 0), axis=1)
    return np.asarray((np.take_along_axis(origin, begun, axis=1) + position - begun) % cells)


def stationary_variance(residuals: Floats, mean_block: float) -> Floats:
    """The variance that the stationary bootstrap gives the sum of each column over all cells: float64.

    `residuals` is float64, cells × columns, each column of mean 0. No resample is drawn: D. N. Politis,
    J. P. Romano (1994), lemma 1: n (R(0) + 2 Σ (1 − k/n) (1 − 1/`mean_block`)^k R(k)) over k from 1 to n − 1,
    R the autocovariances around the circle.
    """
    n = len(residuals)
    spectrum = np.abs(np.fft.rfft(residuals, axis=0)) ** 2
    around = np.fft.irfft(spectrum, n, axis=0) / n
    lag = np.arange(n)
    weight = 2.0 * (1.0 - lag / n) * (1.0 - 1.0 / max(mean_block, 1.0)) ** lag
    weight[0] = 1.0
    return np.asarray(np.maximum(n * (weight[:, None] * around).sum(axis=0), 0.0))
