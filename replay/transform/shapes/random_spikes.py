"""Spikes at random: how often, how high and how long are drawn, from the seed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Final

import numpy as np

from capture.failures import BadInput
from replay.transform.moments import Drawn, Moment, resolve
from replay.transform.settings import DRAWN_FACTOR, DRAWN_LENGTH, LENGTH, one_of, setting
from replay.transform.shapes.curves import Curve, Float64, Int64, Setting, Shape
from replay.transform.shapes.spike import FORMS, excess

MOST_SPIKES: Final = 10_000
HIGHEST: Final = 1000.0
"""A heavy-tailed law may draw anything; no spike is higher than this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomSpikes(Shape):
    """Spikes that begin as a Poisson process would while none is on: the time from the end of one to the next
    is exponential with mean `every`. `x` and `length` are drawn anew for each."""

    word: ClassVar[str] = "random-spikes"

    every: Moment = setting("every", LENGTH)
    x: Drawn = setting("x", DRAWN_FACTOR)
    length: Drawn = setting("length", DRAWN_LENGTH)
    form: str = setting("form", one_of(FORMS), "step")

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)
        every_ns = max(1, resolve(self.every, over.span_ns))
        starts, lengths = self._drawn(start_ns, end_ns, every_ns, rng)
        xs = np.minimum(self.x.sample(rng, len(starts)), HIGHEST)
        # Pieces in turn: before the first spike, the first spike, after it, …
        borders = np.concatenate([[start_ns], np.stack([starts, starts + lengths], axis=1).ravel(), [end_ns]])
        borders = np.maximum.accumulate(np.minimum(borders, end_ns)).astype(np.int64)

        def within(at_ns: Float64, piece: Int64) -> Float64:
            factors = np.ones(len(at_ns))
            on = piece % 2 == 1
            which = piece[on] // 2
            place = (at_ns[on] - starts[which]) / lengths[which]
            factors[on] = 1 + (xs[which] - 1) * excess(self.form, place)
            return factors

        labels = []
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            labels.append(self.recovery(start + length, length))
            labels.append(self.labelled(start, min(start + length, end_ns), "spike"))
        return Curve(borders, within, max(1.0, float(xs.max(initial=1.0))), tuple(labels))

    def _drawn(
        self, start_ns: int, end_ns: int, every_ns: int, rng: np.random.Generator
    ) -> tuple[Int64, Int64]:
        """Starts and lengths of the spikes that begin in the window, int64 ns."""
        if (end_ns - start_ns) / (every_ns + min(self.length.mean, 1e18)) > MOST_SPIKES / 2:
            raise BadInput(f"{self}: more than {MOST_SPIKES // 2} spikes found, fewer wanted; raise every")
        gaps = rng.exponential(every_ns, MOST_SPIKES)
        lengths = np.minimum(np.maximum(self.length.sample(rng, MOST_SPIKES), 1e6), 1e17)
        starts = start_ns + np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        begun = starts < end_ns
        return np.rint(starts[begun]).astype(np.int64), np.rint(lengths[begun]).astype(np.int64)
