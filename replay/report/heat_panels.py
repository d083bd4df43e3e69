"""Heat maps of latency over time as data for plotly.js, and the classes of counts that colours stand for.

A count's colour is that of its class, one of at most six: an eye tells six steps apart, and a legend can say
what each is. Classes widen with the count, so that one stuck request shows beside a thousand.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from replay.analysis.heat_map import BINS_A_DECADE, bin_edges_ns
from replay.analysis.time_values import HeatMap
from replay.analysis.values import RunSummary
from replay.report.figures import format_count

COLOURS: Final = tuple(f"var(--heat-{step})" for step in "abcdef")
"""From the fewest requests to the most, a lightness each; the first stands out from the ground."""


def count_classes(largest: int) -> tuple[tuple[int, int], ...]:
    """Classes of counts as (fewest, most), both included, that cover 1 to `largest` without a gap.

    Each begins at about the same multiple of the one before, rounded to one digit; () for 0.
    """
    if largest < 1:
        return ()
    steps = len(COLOURS)
    starts = {_one_digit(largest ** (step / steps)) for step in range(steps)}
    ordered = sorted(start for start in starts if start <= largest)
    return tuple(zip(ordered, [*(start - 1 for start in ordered[1:]), largest], strict=True))


def count_keys(largest: int) -> list[tuple[str, str]]:
    """The legend: the kind of mark and the words of each class."""
    classes = count_classes(largest)
    keys = [f"heat {step}" for step in _steps_of(classes)]
    words = [
        format_count(low) if low == high else f"{format_count(low)}–{format_count(high)}"
        for low, high in classes
    ]
    if words:
        words[0] += " request" if classes[0] == (1, 1) else " requests"
    return list(zip(keys, words, strict=True))


def largest_count(runs: Sequence[RunSummary]) -> int:
    """The largest count of any of the runs' heat maps: all share one scale of colours."""
    return max((int(heat.counts.max()) for run in runs for heat in run.heat), default=0)


def heat_axis(maps: Sequence[HeatMap], factor: float) -> dict[str, Any]:
    """The axis of latencies that the maps share, in units of `factor` ns."""
    low = min(heat.lowest_bin for heat in maps)
    high = max(heat.lowest_bin + len(heat.counts) for heat in maps)
    shift = math.log10(factor)
    digits = (1, 2, 5) if high - low <= 2 * BINS_A_DECADE else (1,)
    decades = range(math.floor(low / BINS_A_DECADE - shift) - 1, math.ceil(high / BINS_A_DECADE - shift) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return {
        "type": "log",
        "range": [low / BINS_A_DECADE - shift, high / BINS_A_DECADE - shift],
        "tickvals": ticks,
        "ticktext": [f"{tick:,.10g}" for tick in ticks],
    }


def heat_trace(heat: HeatMap, label: str, unit: tuple[str, float], largest: int) -> dict[str, Any]:
    """One map: a cell per bin and bucket, transparent where no request is.

    `unit` is the latencies' (name, ns); `largest` ends the last class of counts.
    """
    name, factor = unit
    edges = bin_edges_ns(heat) / factor
    return {
        "type": "heatmap",
        "x": [round(i * heat.width_s, 6) for i in range(heat.counts.shape[1] + 1)],
        "y": [float(f"{edge:.6g}") for edge in edges],
        "z": heat.counts.tolist(),
        "zmin": 0,
        "zmax": largest + 0.5,
        "colorscale": _scale(largest),
        "showscale": False,
        "name": html.escape(label),
        "hovertemplate": f"at %{{x}} s, about %{{y:.3~g}} {name}, requests: %{{z:,}}<extra></extra>",
    }


def _scale(largest: int) -> list[list[Any]]:
    """Steps of colour: nothing below half a request, then class by class."""
    top = largest + 0.5
    scale: list[list[Any]] = [[0, "rgba(0,0,0,0)"], [0.5 / top, "rgba(0,0,0,0)"]]
    classes = count_classes(largest)
    for step, (low, high) in zip(_steps_of(classes), classes, strict=True):
        colour = f"var(--heat-{step})"
        scale += [[(low - 0.5) / top, colour], [(high + 0.5) / top, colour]]
    scale[-1][0] = 1
    return scale


def _steps_of(classes: Sequence[tuple[int, int]]) -> list[str]:
    """The step of colour of each class; few classes take steps that are far apart."""
    places = np.linspace(0, len(COLOURS) - 1, max(len(classes), 2)).round().astype(int)
    return ["abcdef"[place] for place in places[: len(classes)]]


def _one_digit(value: float) -> int:
    size = 10 ** math.floor(math.log10(value) + 1e-9)
    return int(round(value / size) * size)
