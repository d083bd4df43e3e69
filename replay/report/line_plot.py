"""A small terminal plot of one to three lines, over linear or logarithmic axes; see also `rate_plot`.

plotext draws it; text, ticks and size are decided here, what is shown by the caller. Nothing is printed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from replay.report.figures import format_number

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_MARKS = (("hd", "━━"), ("•", "••"), ("·", "··"))
_COLOURS = ("cyan", "orange", "gray")
_STEPS = (1.0, 2.0, 5.0)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line's name and its points, x ascending."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_plot(
    lines: Sequence[Line],
    title: str,
    *,
    width: int = 80,
    height: int = 12,
    unit: str = "",
    log_x: bool = False,
    log_y: bool = False,
    colour: bool = False,
) -> str:
    """The plot, `width` × `height` characters and a line that names the lines, without a newline at its end.

    `unit` follows each tick of the x axis. On a logarithmic axis only what is above 0 is drawn. A line of
    text instead where there is nothing to draw.
    """
    shown = [(line, _drawable(line, log_x, log_y)) for line in lines]
    if not any(points for _, points in shown):
        return f"{title}: nothing to draw"
    series = [points for _, points in shown]

    def draw(plotext: Any, figure: Any) -> None:
        _draw_lines(plotext, figure, series, colour)
        _draw_ticks(figure, series, unit, log_x, log_y)

    drawn = on_canvas(draw, width, height, title, colour=colour)
    names = [
        f"{mark} {line.name}" for (line, points), (_, mark) in zip(shown, _MARKS, strict=False) if points
    ]
    legend = [f"     {'   '.join(names)}"] if len(lines) > 1 else []
    return "\n".join([drawn, *legend])


def _drawable(line: Line, log_x: bool, log_y: bool) -> list[tuple[float, float]]:
    points = [
        (float(x), float(y))
        for x, y in zip(line.x, line.y, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    return [
        (math.log10(x) if log_x else x, math.log10(y) if log_y else y)
        for x, y in points
        if (x > 0 or not log_x) and (y > 0 or not log_y)
    ]


def _draw_lines(
    plotext: Any, figure: Any, series: Sequence[Sequence[tuple[float, float]]], colour: bool
) -> None:
    """The lines, the first one on top."""
    for points, (symbol, _), paint in reversed(list(zip(series, _MARKS, _COLOURS, strict=False))):
        if points:
            xs, ys = (list(values) for values in zip(*points, strict=True))
            signal = figure.signal(xs, ys, marker=plotext.marker(symbol, paint if colour else "default"))
            signal.lines()
            figure.draw(signal)


def _draw_ticks(
    figure: Any, series: Sequence[Sequence[tuple[float, float]]], unit: str, log_x: bool, log_y: bool
) -> None:
    every = [point for points in series for point in points]
    for axis, place, log, most, ends in (("x", 0, log_x, 6, unit), ("y", 1, log_y, 4, "")):
        values = [point[place] for point in every]
        low, high = min(values), max(values)
        if axis == "y" and not log:
            low = min(low, 0.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        ruler = figure.ruler(axis)
        ruler.lim(low, high)
        ticks = _log_ticks(low, high, most) if log else _ticks(low, high, most)
        ruler.ticks(ticks, [f"{_short(10**tick if log else tick)}{ends}" for tick in ticks])


def on_canvas(draw: Callable[[Any, Any], None], width: int, height: int, title: str, *, colour: bool) -> str:
    """What `draw`, given plotext and its figure, makes in so many characters; no newline at its end."""
    import plotext  # 0.2 s to import, and only two verbs draw

    plotext.terminal.limit(False, False)  # the caller's size counts, not the terminal's
    figure = plotext.figure  # plotext has one canvas: it is left as clean as found
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(max(width, 20), max(height, 5))
    figure.title(title)
    draw(plotext, figure)
    built = str(figure.build())
    figure.clear()
    plain = built if colour else _ESCAPES.sub("", built)
    return "\n".join(line.rstrip() for line in plain.rstrip("\n").split("\n"))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, at most `most`."""
    size = 10 ** math.floor(math.log10((high - low) / most))
    step = next(s * size for s in (*_STEPS, 10.0, 20.0) if (high - low) / (s * size) <= most)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten from `low` to `high` (both logarithms), at most `most`; 1, 2, 5 where those are few."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    digits = _STEPS if high - low < 2 else (1.0,)
    ticks = [decade + math.log10(digit) for decade in decades for digit in digits]
    inside = [tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9] or [low]
    return inside[:: math.ceil(len(inside) / most)]


def _short(value: float) -> str:
    if value >= 1 or value == 0:
        return f"{value:,.6g}"
    return format_number(value).rstrip("0").rstrip(".") if value > 0 else f"{value:.3g}"
