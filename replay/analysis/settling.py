"""When a series that left its usual band is back in it: bands from quiet windows, and the settling time.

The settling time is control theory's: "the time required for the response curve to reach and stay within a
range about the final value" (K. Ogata, Modern Control Engineering, 5th ed., 5-3), here the base phase's. The
range is a control chart's (W. Shewhart, Economic Control of Quality of Manufactured Product, 1931): the
base windows' middle and three standard deviations of theirs, robustly estimated (1.4826 MAD: P. Rousseeuw, C.
Croux, JASA 88 (1993), 1273), so that one odd window of the base makes no wide band. No run, no phase here.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from replay.analysis.run_table import Bools, Floats
from replay.analysis.values import Recovery, Settled

FEWEST_WINDOWS: Final = 8
"""So many windows of base make a band; fewer say little about what is usual."""

SPREAD: Final = 3.0
FLOOR: Final = 0.05
"""A band is at least 5 % of its middle wide: the classical settling band, for a server without noise."""

OUTSIDE: Final = 2
INSIDE: Final = 3
"""Windows in a row that leave a band, and that are back: one alone is chance."""

TREND: Final = 1.5
TREND_P: Final = 0.01

_MAD_TO_SIGMA: Final = 1.4826


@dataclasses.dataclass(frozen=True)
class Band:
    """What counts as base: a middle, and the largest value that still belongs to it."""

    base: float
    top: float


def band_of(windows: Floats, least_width: float = 0.0) -> Band | str:
    """The band of base windows (NaN: nothing known of a window), or in a few words why there is none."""
    known = windows[~np.isnan(windows)]
    if len(known) < FEWEST_WINDOWS:
        return f"{len(known)} whole windows of base, {FEWEST_WINDOWS} wanted"
    middle = float(np.median(known))
    if np.isinf(middle):
        return "base itself fails"
    if _grows(known[len(known) // 2 :]):
        return "base itself was not steady: it grew until the peak"
    # An infinite window is just a far one.
    distance = np.abs(np.where(np.isinf(known), np.finfo(np.float64).max, known) - middle)
    width = SPREAD * _MAD_TO_SIGMA * float(np.median(distance))
    return Band(middle, middle + max(width, FLOOR * abs(middle), least_width))


def _grows(windows: Floats) -> bool:
    """Whether a stretch rises by half or more, beyond chance (M. Kendall, Biometrika 30 (1938), 81).

    Asked of the later half of base: the earlier one may be the service's way from idle to its usual load.
    """
    if len(windows) < FEWEST_WINDOWS // 2:
        return False
    from scipy import stats  # half a second to import, and seldom asked

    rank = stats.kendalltau(np.arange(len(windows)), windows)
    quarter = max(len(windows) // 4, 1)
    first, last = float(np.median(windows[:quarter])), float(np.median(windows[-quarter:]))
    return bool(rank.statistic > 0 and rank.pvalue < TREND_P and last >= TREND * first)


def left_at(windows: Floats, band: Band) -> int | None:
    """The first of `OUTSIDE` windows in a row above the band; None if there is none. NaN is skipped."""
    return _first_of(windows, windows > band.top, OUTSIDE)


def back_at(windows: Floats, band: Band) -> int | None:
    """The first of `INSIDE` windows in a row within the band; None if there is none. NaN is skipped."""
    return _first_of(windows, windows <= band.top, INSIDE)


def _first_of(windows: Floats, wanted: Bools, in_a_row: int) -> int | None:
    known = np.flatnonzero(~np.isnan(windows))
    held = 0
    for place, is_wanted in enumerate(wanted[known].tolist()):
        held = held + 1 if is_wanted else 0
        if held == in_a_row:
            return int(known[place - in_a_row + 1])
    return None


def settle(
    during: Floats, after: Floats, band: Band | str, start_s: float, end_s: float, width_s: float
) -> Recovery:
    """The way back of a series: its windows during a peak from `start_s`, and after its end at `end_s`.

    It held when no `OUTSIDE` windows in a row lay above the band, from the peak's start until it was back:
    what leaves the band later is another matter.
    """
    nan = float("nan")
    worst = float(np.nanmax(found)) if len(found := _known(during, after)) else nan
    if isinstance(band, str):
        return Recovery(Settled.UNKNOWN, nan, nan, nan, nan, worst, width_s, band)
    back = back_at(after, band)
    left = left_at(np.concatenate([during, after[:back]]), band)
    left_s = nan if left is None else _place_s(left, len(during), start_s, end_s, width_s)
    settled, after_s, why = Settled.RECOVERED, nan, ""
    if left is None and len(found):
        settled, after_s = Settled.HELD, 0.0
    elif back is not None:
        after_s = back * width_s
    elif np.count_nonzero(~np.isnan(after)) < INSIDE:
        settled, why = Settled.UNKNOWN, f"watched for {len(after) * width_s:.3g} s after it"
    else:
        settled = Settled.NOT_YET
    return Recovery(settled, after_s, left_s, band.base, band.top, worst, width_s, why)


def _known(during: Floats, after: Floats) -> Floats:
    whole = np.concatenate([during, after])
    return whole[~np.isnan(whole)]


def _place_s(window: int, during: int, start_s: float, end_s: float, width_s: float) -> float:
    return start_s + window * width_s if window < during else end_s + (window - during) * width_s
