"""Spikes in four forms, and the quiet. After each comes a phase in which the service recovers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Final

import numpy as np

from replay.transform.moments import Instant, Moment
from replay.transform.settings import FACTOR, FACTOR_OR_0, INSTANT, LENGTH, one_of, setting
from replay.transform.shapes.curves import Curve, Float64, Int64, Setting, Shape, constant

FORMS: Final = ("step", "triangle", "decay", "gaussian")

DECAY_LENGTHS: Final = 3.0
"""A decay falls to e^−3 = 5 % of its excess within its window."""
GAUSSIAN_SIGMAS: Final = 3.0
"""A Gaussian's window is so many standard deviations wide on each side: it begins at 1.1 % of its excess."""


def excess(form: str, place: Float64) -> Float64:
    """How much of its excess over 1 a spike has, 0 … 1, at places of its window (0 its start, 1 its end)."""
    match form:
        case "triangle":
            return 1 - np.abs(2 * place - 1)
        case "decay":
            decayed: Float64 = np.exp(-DECAY_LENGTHS * place)
            return decayed
        case "gaussian":
            bell: Float64 = np.exp(-0.5 * (GAUSSIAN_SIGMAS * (2 * place - 1)) ** 2)
            return bell
    return np.ones_like(place)


@dataclasses.dataclass(frozen=True)
class Spike(Shape):
    """From `at`, for `lasting`, up to `x` times the traffic; then a phase `recover` of the same length.

    step: x all the time. triangle: linearly up to x in the middle and down again. decay: x at once, then
    exponentially back. gaussian: a bell, x in the middle.
    """

    word: ClassVar[str] = "spike"

    at: Instant = setting("at", INSTANT)
    lasting: Moment = setting("for", LENGTH)
    x: float = setting("x", FACTOR)
    form: str = setting("form", one_of(FORMS), "step")

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)
        length_ns = end_ns - start_ns

        def within(at_ns: Float64, piece: Int64) -> Float64:
            return 1 + (self.x - 1) * excess(self.form, (at_ns - start_ns) / length_ns)

        return Curve(
            np.array([start_ns, end_ns], np.int64),
            within,
            max(1.0, self.x),
            (self.recovery(end_ns, length_ns), self.labelled(start_ns, end_ns)),
        )


@dataclasses.dataclass(frozen=True)
class Quiet(Shape):
    """From `at`, for `lasting`, only the share `x` of the traffic, 0 for none."""

    word: ClassVar[str] = "quiet"

    at: Instant = setting("at", INSTANT)
    lasting: Moment = setting("for", LENGTH)
    x: float = setting("x", FACTOR_OR_0)

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)
        labels = (self.recovery(end_ns, end_ns - start_ns), self.labelled(start_ns, end_ns))
        borders = np.array([start_ns, end_ns], np.int64)
        return Curve(borders, constant(np.array([self.x])), max(1.0, self.x), labels)
