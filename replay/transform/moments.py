"""Instants and lengths of time as a person gives them: in time, or as a share of the replay's span.

"90s" is what it is; "25%" is a quarter of the span that the schedule has after slice and speed, so that one
recipe serves traces of any length; "10:00" is when the trace's 10:00 is due. Random quantities of a given
distribution are here too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.quantities import UNIT_NS, parse_duration_ns, parse_factor, parse_share, quoted
from replay.transform.wall_clock import WallTime, is_wall, parse_wall


@dataclasses.dataclass(frozen=True, order=True)
class Share:
    """A share of the replay's span, 0 … 1."""

    of_span: float

    def __str__(self) -> str:
        return f"{self.of_span * 100:.12g}%"


type Moment = int | Share
"""Int ns, or a share of the span."""

type Instant = Moment | WallTime
"""A moment, or a time of day in the trace."""


def parse_moment(text: str, place: str) -> Moment:
    """ "90s" or "25%"; raises `BadInput` naming `place`."""
    if text.strip().endswith("%"):
        return Share(parse_share(text, place))
    try:
        return parse_duration_ns(text, place)
    except BadInput:
        raise BadInput(
            f"{place}: {quoted(text)} found, a duration such as 30s, 250ms or 1m30s, or a share of the "
            "replay such as 25% wanted"
        ) from None


def parse_instant(text: str, place: str) -> Instant:
    """As `parse_moment`, or a time of day such as "10:00" or "2026-11-27T10:00"."""
    return parse_wall(text, place) if is_wall(text) else parse_moment(text, place)


def resolve(moment: Moment, span_ns: int) -> int:
    """The moment in ns, of a replay of `span_ns`."""
    return round(moment.of_span * span_ns) if isinstance(moment, Share) else moment


def resolve_end(at: Moment, lasting: Moment, span_ns: int) -> int:
    """Where a stretch ends, in ns: where one begins whose share is the sum of both, to the ns."""
    if isinstance(at, Share) and isinstance(lasting, Share):
        return resolve(Share(round(at.of_span + lasting.of_span, 12)), span_ns)
    return resolve(at, span_ns) + resolve(lasting, span_ns)


def show_moment(moment: Instant) -> str:
    """The text that `parse_instant` reads as the same."""
    if not isinstance(moment, int) or moment == 0:
        return str(moment)
    unit = next(unit for unit in ("h", "m", "s", "ms", "us", "ns") if moment % UNIT_NS[unit] == 0)
    return f"{moment // UNIT_NS[unit]}{unit}"


type _Law = Callable[[np.random.Generator, int, float, float], npt.NDArray[np.float64]]

_LAWS: Final[dict[str, tuple[tuple[str, str], _Law]]] = {
    "uniform": (("least", "most"), lambda rng, n, a, b: rng.uniform(a, b, n)),
    "exponential": (("mean", ""), lambda rng, n, a, b: rng.exponential(a, n)),
    "lognormal": (("median", "sigma"), lambda rng, n, a, b: rng.lognormal(math.log(a), b, n)),
    "pareto": (("least", "alpha"), lambda rng, n, a, b: a * (1 + rng.pareto(b, n))),
}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A random quantity: its law and that law's one or two parameters, the first one in the quantity's unit
    (so is the second of "uniform"). A `law` of "" is no chance: always `first`."""

    law: str
    first: float
    second: float = 0.0

    def sample(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """`n` independent draws, float64[n], in the quantity's unit."""
        return _LAWS[self.law][1](rng, n, self.first, self.second) if self.law else np.full(n, self.first)

    @property
    def mean(self) -> float:
        """The law's mean; infinite for a Pareto law of alpha ≤ 1."""
        match self.law:
            case "uniform":
                return (self.first + self.second) / 2
            case "lognormal":
                return self.first * math.exp(self.second**2 / 2)
            case "pareto":
                return self.first * self.second / (self.second - 1) if self.second > 1 else math.inf
        return self.first


def parse_drawn(text: str, place: str, *, seconds: bool) -> Drawn:
    """ "4", "uniform:2:6", "exponential:30s", "lognormal:3:0.5", "pareto:2:1.5"; `BadInput` naming `place`.

    With `seconds` the quantity is a time, in ns, else a plain number.
    """

    def quantity(piece: str) -> float:
        return float(parse_duration_ns(piece, place)) if seconds else parse_factor(piece, place)

    law, *pieces = text.strip().split(":")
    if not pieces:
        return Drawn("", quantity(law))
    if law not in _LAWS:
        raise BadInput(f"{place}: {quoted(law)} found, a value or one of {', '.join(_LAWS)} wanted")
    wanted = [name for name in _LAWS[law][0] if name]
    if len(pieces) != len(wanted):
        raise BadInput(f"{place}: {quoted(text)} found, {':'.join([law, *map(str.upper, wanted)])} wanted")
    first = quantity(pieces[0])
    second = 0.0
    if len(pieces) > 1:
        second = quantity(pieces[1]) if law == "uniform" else parse_factor(pieces[1], place)
    if first <= 0 or (law == "uniform" and second < first):
        raise BadInput(f"{place}: {quoted(text)} found, values above 0 in ascending order wanted")
    return Drawn(law, first, second)


def show_drawn(drawn: Drawn, *, seconds: bool) -> str:
    """The text that `parse_drawn` reads as the same quantity."""

    def quantity(value: float) -> str:
        return show_moment(round(value)) if seconds else f"{value:.12g}"

    if not drawn.law:
        return quantity(drawn.first)
    pieces = [drawn.law, quantity(drawn.first)]
    if _LAWS[drawn.law][0][1]:
        pieces.append(quantity(drawn.second) if drawn.law == "uniform" else f"{drawn.second:.12g}")
    return ":".join(pieces)
