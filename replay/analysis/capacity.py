"""Which load a build holds: the levels of a staircase against the objectives, nothing else.

A level is what the shape `stairs` names one: `x` and its factor, after a prefix for stairs with a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from scipy import special

from replay.analysis.planning_values import Capacity
from replay.analysis.values import ObjectiveResult, PhaseSummary

FEWEST_LEVELS: Final = 3
BY_CHANCE: Final = 0.05
"""A miss that a build which just meets the objective would show at least so often may be chance."""
_LEVEL: Final = re.compile(r"(?P<stairs>.*-)?x(?P<factor>\d+(\.\d+)?(e[+-]?\d+)?)")


def find_capacity(phases: Sequence[PhaseSummary]) -> Capacity | None:
    """Up to which level every objective was met; None for phases that are no rising staircase.

    `phases` are in the order of time. A level that no objective speaks of counts as none, and of fewer than
    three there is nothing to say. Stairs that lead down say nothing either: below a level that was too much,
    what is late is still its backlog.
    """
    matches = [
        (match, phase)
        for phase in phases
        if phase.objectives and (match := _LEVEL.fullmatch(phase.phase)) is not None
    ]
    factors = [float(match["factor"]) for match, _ in matches]
    one_staircase = len({match["stairs"] for match, _ in matches}) == 1
    if len(matches) < FEWEST_LEVELS or not one_staircase or factors != sorted(set(factors)):
        return None
    levels = [phase for _, phase in matches]
    good = [all(result.met for result in phase.objectives) for phase in levels]
    over = [any(map(_beyond_chance, phase.objectives)) for phase in levels]
    first = over.index(True) if True in over else len(levels)
    below = list(zip(levels[:first], good[:first], strict=True))
    held = next((phase for phase, met in reversed(below) if met), None)
    return Capacity(
        levels=tuple(phase.phase for phase in levels),
        held=held.phase if held else None,
        held_per_s=held.offered_per_s if held else float("nan"),
        missed=levels[first].phase if first < len(levels) else None,
        undecided=tuple(phase.phase for phase, met in below if not met),
        met_again=tuple(phase.phase for phase, met in zip(levels[first:], good[first:], strict=True) if met),
    )


def _beyond_chance(result: ObjectiveResult) -> bool:
    """Whether more requests missed than a share of just the allowed one would make: the binomial's tail.

    Requests are taken as independent. Those of one queue are not, so a short jam counts as a miss.
    """
    wanted = result.objective
    allowed = wanted.limit if wanted.quantile is None else 1.0 - wanted.quantile
    missed = round((1.0 - result.attainment) * result.requests)
    return not result.met and float(special.bdtrc(missed - 1, result.requests, allowed)) < BY_CHANCE
