"""Shapes that change slowly: a ramp, a wave (a day's rise and fall), stairs, a line through given points."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Final

import numpy as np

from capture.failures import BadInput
from capture.quantities import parse_factor
from replay.transform.moments import Instant, Moment, parse_moment, resolve, show_moment
from replay.transform.settings import COUNT, FACTOR, FACTOR_OR_0, INSTANT, LENGTH, Kind, setting
from replay.transform.shapes.curves import Curve, Float64, Int64, Setting, Shape, constant
from replay.transform.shapes.phases import PhaseLabel

MOST_STEPS: Final = 60
QUARTERS: Final = ("rise", "crest", "fall", "trough")
"""A wave's phases, a quarter of its period each."""


@dataclasses.dataclass(frozen=True)
class Ramp(Shape):
    """From `at`, for `lasting`, traffic times a factor that goes linearly from `start_x` to `end_x`."""

    word: ClassVar[str] = "ramp"

    at: Instant = setting("at", INSTANT)
    lasting: Moment = setting("for", LENGTH)
    start_x: float = setting("from", FACTOR)
    end_x: float = setting("to", FACTOR)

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)

        def within(at_ns: Float64, piece: Int64) -> Float64:
            return self.start_x + (self.end_x - self.start_x) * (at_ns - start_ns) / (end_ns - start_ns)

        most = max(1.0, self.start_x, self.end_x)
        borders = np.array([start_ns, end_ns], np.int64)
        return Curve(borders, within, most, (self.labelled(start_ns, end_ns),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wave(Shape):
    """A sine between `low` and `high` with a given `period`, such as a day's; `crest` is when it is highest,
    by default half a period after its start, so that it starts at its lowest."""

    word: ClassVar[str] = "wave"

    period: Moment = setting("period", LENGTH)
    low: float = setting("low", FACTOR_OR_0)
    high: float = setting("high", FACTOR)
    crest: Instant | None = setting("crest", INSTANT, None)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise BadInput(f"{self}: low above high found, low ≤ high wanted")

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)
        period_ns = max(1, resolve(self.period, over.span_ns))
        crest_ns = start_ns + period_ns // 2 if self.crest is None else over.start(self.crest)
        middle, swing = (self.high + self.low) / 2, (self.high - self.low) / 2

        def within(at_ns: Float64, piece: Int64) -> Float64:
            return middle + swing * np.cos(2 * np.pi * (at_ns - crest_ns) / period_ns)

        labels = self._quarters(start_ns, end_ns, crest_ns, period_ns)
        borders = np.array([start_ns, end_ns], np.int64)
        return Curve(borders, within, max(1.0, self.high), labels)

    def _quarters(self, start_ns: int, end_ns: int, crest_ns: int, period_ns: int) -> tuple[PhaseLabel, ...]:
        if 4 * (end_ns - start_ns) // period_ns > 100_000:
            raise BadInput(f"{self}: a period of {period_ns / 1e9:g}s found, a longer one wanted")
        first = 4 * (start_ns - crest_ns) // period_ns - 2
        last = 4 * (end_ns - crest_ns) // period_ns + 2
        labels = []
        for quarter in range(first, last + 1):
            # Quarter 0 has the crest in its middle.
            at_ns = crest_ns + (2 * quarter - 1) * period_ns // 8
            until_ns = min(end_ns, crest_ns + (2 * quarter + 1) * period_ns // 8)
            if until_ns > start_ns and at_ns < end_ns:
                phase = QUARTERS[(quarter + 1) % 4]
                name = phase if self.name is None else f"{self.name}-{phase}"
                labels.append(dataclasses.replace(self.labelled(max(at_ns, start_ns), until_ns), name=name))
        return tuple(labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stairs(Shape):
    """`steps` levels of equal length, whose factors go evenly from `start_x` to `end_x`; each is a phase."""

    word: ClassVar[str] = "stairs"

    start_x: float = setting("from", FACTOR)
    end_x: float = setting("to", FACTOR)
    steps: int = setting("steps", COUNT)

    def __post_init__(self) -> None:
        if self.steps > MOST_STEPS:
            raise BadInput(f"{self}: {self.steps} steps found, at most {MOST_STEPS} wanted")

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)
        borders = np.rint(np.linspace(start_ns, end_ns, self.steps + 1)).astype(np.int64)
        values = np.linspace(self.start_x, self.end_x, self.steps)
        prefix = "" if self.name is None else f"{self.name}-"
        labels = tuple(
            dataclasses.replace(self.labelled(int(start), int(end)), name=f"{prefix}x{value:.3g}")
            for start, end, value in zip(borders, borders[1:], values, strict=False)
        )
        return Curve(borders, constant(values), max(1.0, float(values.max())), labels)


type Points = tuple[tuple[Moment, float], ...]


def _points(text: str, place: str) -> Points:
    points: list[tuple[Moment, float]] = []
    for piece in text.split("/"):
        at, colon, x = piece.strip().partition(":")
        if not colon:
            raise BadInput(f"{place}: {piece!r} found, INSTANT:FACTOR such as 0s:0.5/10m:3/25m:1 wanted")
        factor = 0.0 if x.strip() == "0" else parse_factor(x, place)
        points.append((parse_moment(at, place), factor))
    if len(points) < 2:
        raise BadInput(f"{place}: {text!r} found, at least two points wanted")
    return tuple(points)


POINTS: Final = Kind(_points, lambda points: "/".join(f"{show_moment(at)}:{x:.12g}" for at, x in points))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line(Shape):
    """A factor drawn through points (instant, factor) by straight lines; it takes no `at` and `for`."""

    word: ClassVar[str] = "line"

    points: Points = setting("points", POINTS)

    def __post_init__(self) -> None:
        if self.at != 0 or self.lasting is not None:
            raise BadInput(f"{self}: at or for found, only points wanted; they say when")
        if not any(x > 0 for _, x in self.points):
            raise BadInput(f"{self}: factor 0 everywhere found, one above 0 wanted")

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        borders = np.array([resolve(at, over.span_ns) for at, _ in self.points], np.int64)
        values = np.array([x for _, x in self.points])
        if (np.diff(borders) <= 0).any() or borders[0] > over.span_ns:
            raise BadInput(
                f"{self}: instants in ascending order wanted, the first within the schedule's span of "
                f"{over.span_ns / 1e9:g}s"
            )

        def within(at_ns: Float64, piece: Int64) -> Float64:
            factors: Float64 = np.interp(at_ns, borders, values)
            return factors

        cut = borders.copy()
        if cut[-1] == over.span_ns:  # what jitter moves beyond has the last point's factor
            cut[-1] = over.end_ns
        label = self.labelled(int(cut[0]), int(cut[-1]))
        return Curve(cut, within, max(1.0, float(values.max())), (label,))
