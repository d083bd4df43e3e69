"""A curve: the factor of the traffic over time, in pieces; and what every shape is.

A shape is a spec in moments ("25%"); of a given replay it becomes a curve in ns. A request due at t is wanted
`factor(t)` times on average. Pieces are what clones stay in: a clone of a request of one piece is due in it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from replay.transform.moments import Instant, Moment, Share, resolve, resolve_end
from replay.transform.selecting import Selection
from replay.transform.settings import INSTANT, LENGTH, WORD, setting
from replay.transform.shapes.phases import OWN, RECOVERY, PhaseLabel
from replay.transform.wall_clock import WallTime

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def _nowhere(at: WallTime) -> int:
    raise BadInput(f"{at}: a time of day found, where no trace says when that was; give a time of the replay")


@dataclasses.dataclass(frozen=True)
class Setting:
    """The replay that a shape is laid over: its span (moments are shares of it), its end, and the mean rate
    of the requests that the shape is meant for; `due_ns` says when what came at a time of day is due."""

    span_ns: int
    end_ns: int
    per_s: float = float("nan")
    due_ns: Callable[[WallTime], int] = _nowhere

    def start(self, at: Instant) -> int:
        """Where a stretch begins, in ns; raises `BadInput` for a time of day outside of the trace."""
        return self.due_ns(at) if isinstance(at, WallTime) else resolve(at, self.span_ns)

    def until(self, at: Instant, lasting: Moment | None) -> int:
        """Where a stretch ends: at the replay's end where no length is given, or shares add up to 100 %."""
        start_ns = self.start(at)
        at = start_ns if isinstance(at, WallTime) else at
        if lasting is None:
            return max(self.end_ns, start_ns + 1)
        end_ns = max(resolve_end(at, lasting, self.span_ns), start_ns + 1)
        to_the_end = isinstance(lasting, Share) and abs(end_ns - self.span_ns) <= 1
        return max(end_ns, self.end_ns) if to_the_end else end_ns


@dataclasses.dataclass(frozen=True)
class Curve:
    """`borders_ns` int64[m + 1] ascending cut m pieces; outside of them the factor is 1.

    `within(t, piece)` gives the factors at instants (float64 ns) in pieces (int64 numbers), all of them
    0 … `most`. `labels` are the phases that the shape tells apart.
    """

    borders_ns: Int64
    within: Callable[[Float64, Int64], Float64]
    most: float
    labels: tuple[PhaseLabel, ...] = ()

    def pieces(self, at_ns: Int64) -> Int64:
        """The piece that each instant lies in, int64; −1 outside."""
        piece = np.searchsorted(self.borders_ns, at_ns, side="right") - 1
        return np.where(piece < len(self.borders_ns) - 1, piece, -1).astype(np.int64)

    def factors(self, at_ns: Int64) -> Float64:
        """The factor at each instant, float64."""
        piece = self.pieces(at_ns)
        inside = piece >= 0
        factors = np.ones(len(at_ns))
        factors[inside] = self.within(at_ns[inside].astype(np.float64), piece[inside])
        return factors


@dataclasses.dataclass(frozen=True)
class Shape(Selection, abc.ABC):
    """A shape as it is asked for, in a window of the replay: for all requests, or those selected.

    `name` names its phases; it has one of its own by default.
    """

    at: Instant = setting("at", INSTANT, 0)
    lasting: Moment | None = setting("for", LENGTH, None)
    _: dataclasses.KW_ONLY
    name: str | None = setting("name", WORD, None)

    wants_rate: ClassVar[bool] = False
    """Whether its curve depends on the rate of the requests that it is meant for."""

    @abc.abstractmethod
    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        """The curve over a replay; raises `BadInput` when the shape lies outside of it."""

    def window(self, over: Setting) -> tuple[int, int]:
        """[start, end) in ns, up to the replay's end where no length is given; raises `BadInput` outside."""
        start_ns = over.start(self.at)
        if start_ns > over.span_ns:
            raise BadInput(
                f"{self}: begins at {start_ns / 1e9:g}s; the schedule spans 0s to {over.span_ns / 1e9:g}s "
                "(after slice and speed), so move it there, or give its time as a share such as 25%"
            )
        return start_ns, over.until(self.at, self.lasting)

    def labelled(self, start_ns: int, end_ns: int, phase: str | None = None) -> PhaseLabel:
        """The phase of a part of the shape: as it was named, else `phase`, else the shape's word."""
        return PhaseLabel(self.name or phase or self.word, start_ns, end_ns, OWN, named=self.name is not None)

    def recovery(self, end_ns: int, length_ns: int) -> PhaseLabel:
        """The phase in which the service recovers from the shape, which any other phase precedes."""
        name = "recover" if self.name is None else f"{self.name}-recover"
        return PhaseLabel(name, end_ns, end_ns + length_ns, RECOVERY)


def constant(values: Float64) -> Callable[[Float64, Int64], Float64]:
    """`Curve.within` of a factor per piece, `values` float64[m]."""
    return lambda at_ns, piece: values[piece]
