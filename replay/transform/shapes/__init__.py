"""Shapes laid over the time of a replay: what factor the traffic has when. Specs and their curves, no rows.

How a curve is laid over the real arrivals is in `laying`.
"""

from __future__ import annotations

from typing import Final

from replay.transform.shapes.bursts import Bursts
from replay.transform.shapes.curves import Curve, Setting, Shape
from replay.transform.shapes.phases import PhaseLabel
from replay.transform.shapes.random_spikes import RandomSpikes
from replay.transform.shapes.slow import Line, Ramp, Stairs, Wave
from replay.transform.shapes.spike import Quiet, Spike

KINDS: Final[dict[str, type[Shape]]] = {
    kind.word: kind for kind in (Spike, Ramp, Wave, Stairs, Line, RandomSpikes, Bursts, Quiet)
}
"""The shapes by the word for them in recipes and flags."""

__all__ = ["KINDS", "Bursts", "Curve", "Line", "PhaseLabel", "Quiet", "Ramp", "RandomSpikes"]
__all__ += ["Setting", "Shape", "Spike", "Stairs", "Wave"]
