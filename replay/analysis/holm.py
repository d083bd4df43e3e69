"""Holm's step-down: what a family of tests may claim together."""

from __future__ import annotations

import dataclasses

import numpy as np

from replay.analysis.run_table import Floats

ALPHA = 0.05

ALPHA_BESIDE = 0.05 / 3
"""For each of the three families beside the quantiles: failures, slowed requests, answers. Where two builds
are the same, any of the four calls a regression, one of two directions, in at most (5 + 3 · 5/3)/2 = 5 %."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Per test, float64: `adjusted` p-values, and the `level` (an α) that its interval is to be built with.

    An interval of confidence 1 − level excludes zero exactly where the adjusted p-value is below α.
    """

    adjusted: Floats
    level: Floats


def holm(p_values: Floats, alpha: float = ALPHA) -> Family:
    """S. Holm: A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6 (1979), 65–70.

    The k-th smallest of m p-values is held against α/(m − k + 1), until the first that fails; that one and
    all after it stay unrejected, at that one's level. NaN p-values are no members of the family.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted, level = np.full(len(p), np.nan), np.full(len(p), np.nan)
    members = np.flatnonzero(~np.isnan(p))
    order = members[np.argsort(p[members], kind="stable")]
    m = len(order)
    if m == 0:
        return Family(adjusted, level)
    left = m - np.arange(m)
    stepped = np.minimum(1.0, np.maximum.accumulate(left * p[order]))
    kept = np.flatnonzero(stepped >= alpha)
    first_kept = int(kept[0]) if len(kept) else m
    levels = alpha / left
    levels[first_kept:] = alpha / (m - first_kept) if first_kept < m else alpha
    adjusted[order], level[order] = stepped, levels
    return Family(adjusted, level)
