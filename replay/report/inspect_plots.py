"""The terminal plots of `inspect`: rate, burst curve, gaps, lengths, sessions. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from replay.report.line_plot import Line, line_plot
from replay.report.rate_plot import rate_plot
from replay.transform.arrival_facts import ArrivalFacts, Distribution
from replay.transform.burst_target import BurstTarget
from replay.transform.content_facts import LENGTHS
from replay.transform.inspection import Facts, TraceFacts

_CHANCE = "1: chance alone"
_LEAST_LEVEL = 0.01
"""A plot is narrow: its axis begins where one value in a hundred lies below."""


def plots(
    one: Facts, other: Facts | None, target: BurstTarget | None, *, width: int, height: int = 10, colour: bool
) -> Iterator[str]:
    """Each plot in turn, of one trace or schedule or of both."""
    both = (one,) if other is None else (one, other)
    names = short_names(both)
    for facts, name in zip(both, names, strict=True):
        how = "as captured" if isinstance(facts, TraceFacts) else "as scheduled"
        rate = facts.arrivals.rate
        title = f"requests/s {how}" if other is None else f"{name}: requests/s {how}"
        starts, per_s = rate.start_s.tolist(), rate.per_s.tolist()
        yield rate_plot(starts, per_s, width=width, height=height, title=title, colour=colour)
    lines = _burst_lines([facts.arrivals for facts in both], names, target)
    if any(len(line.x) > 1 for line in lines):
        title = "index of dispersion by window"
        yield line_plot(
            lines, title, width=width, height=height, unit=" s", log_x=True, log_y=True, colour=colour
        )
    gaps = [_at_or_below(name, facts.arrivals.gaps_s) for facts, name in zip(both, names, strict=True)]
    if other is None and one.arrivals.gaps_s is not None and one.arrivals.gaps_s.mean > 0:
        gaps.append(_poisson_gaps(one.arrivals.gaps_s.mean))
    yield line_plot(
        gaps,
        "gaps between requests: % at or below",
        width=width,
        height=height,
        unit=" s",
        log_x=True,
        colour=colour,
    )
    for column, what in LENGTHS.items():
        found = [
            _at_or_below(name, facts.content.lengths[column])
            for facts, name in zip(both, names, strict=True)
            if facts.content is not None and column in facts.content.lengths
        ]
        if found and column != "body_bytes":
            title = f"{what}: % at or below"
            yield line_plot(found, title, width=width, height=height, log_x=True, colour=colour)


def short_names(both: Sequence[Facts]) -> list[str]:
    """File names, short where they tell the two apart."""
    short = [facts.name.rpartition("/")[2] or facts.name for facts in both]
    return short if len(set(short)) == len(both) else [facts.name for facts in both]


def _burst_lines(arrivals: list[ArrivalFacts], names: list[str], target: BurstTarget | None) -> list[Line]:
    lines = [
        Line(name, [point.window_s for point in one.bursts], [point.dispersion for point in one.bursts])
        for one, name in zip(arrivals, names, strict=True)
    ]
    if target is not None and target.points:
        windows = [point.window_s for point in target.points]
        return [*lines, Line("target", windows, [point.target for point in target.points])]
    if len(lines) == 1 and lines[0].x:
        return [*lines, Line(_CHANCE, lines[0].x, [1.0] * len(lines[0].x))]
    return lines


def _at_or_below(name: str, found: Distribution | None) -> Line:
    if found is None:
        return Line(name, (), ())
    inside = found.levels >= _LEAST_LEVEL
    return Line(name, found.values[inside].tolist(), (100 * found.levels[inside]).tolist())


def _poisson_gaps(mean_s: float) -> Line:
    """Exponential gaps of the same mean: those of independent users at a constant rate."""
    levels = np.linspace(0.01, 0.99, 99)
    return Line("independent users", (-mean_s * np.log1p(-levels)).tolist(), (100 * levels).tolist())
