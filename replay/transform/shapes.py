"""Shapes laid over a part of a schedule's time: spike and ramp, by cloning and thinning what is there.

No request is invented. A session's copy c has those rows due when the shape is above c + u, with u of the
session: what a copy has of a session is coherent, and phases are labelled for the results.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.quantities import parse_duration_ns, parse_factor, parse_settings
from replay.transform.draws import uniform
from replay.transform.rows import Rows, Step
from replay.transform.schedule_format import PHASES
from replay.transform.steps import DEFAULT_JITTER_NS, clone_rows

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Spike:
    """From `at_ns`, for `for_ns`, `x` times the traffic; then a phase `recover` of the same length."""

    at_ns: int
    for_ns: int
    x: float

    @classmethod
    def parse(cls, text: str) -> Spike:
        """ "at=60s,for=30s,x=4"; raises `BadInput`."""
        found = parse_settings(text, "--spike", wanted=("at", "for", "x"))
        return cls(
            parse_duration_ns(found["at"], "--spike at"),
            _positive_ns(found["for"], "--spike for"),
            parse_factor(found["x"], "--spike x"),
        )

    @property
    def end_ns(self) -> int:
        """Where the spike is over."""
        return self.at_ns + self.for_ns

    @property
    def most_x(self) -> float:
        """The largest factor."""
        return self.x

    def factor(self, due_ns: Int64) -> Float64:
        """How many times the traffic, float64[n]."""
        return np.full(len(due_ns), self.x)

    def label(self, due_ns: Int64, phase: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """The phases, int8[n]: `spike` in the window, `recover` after it."""
        phase = _labelled(due_ns, phase, "recover", self.end_ns, self.end_ns + self.for_ns)
        return _labelled(due_ns, phase, "spike", self.at_ns, self.end_ns)

    def __str__(self) -> str:
        return f"spike at={self.at_ns / 1e9:g}s,for={self.for_ns / 1e9:g}s,x={self.x:g}"


@dataclasses.dataclass(frozen=True)
class Ramp:
    """From `at_ns`, for `for_ns`, traffic times a factor that goes linearly from `start_x` to `end_x`."""

    at_ns: int
    for_ns: int
    start_x: float
    end_x: float

    @classmethod
    def parse(cls, text: str) -> Ramp:
        """ "at=0s,for=60s,from=0.2,to=3"; raises `BadInput`."""
        found = parse_settings(text, "--ramp", wanted=("at", "for", "from", "to"))
        return cls(
            parse_duration_ns(found["at"], "--ramp at"),
            _positive_ns(found["for"], "--ramp for"),
            parse_factor(found["from"], "--ramp from"),
            parse_factor(found["to"], "--ramp to"),
        )

    @property
    def end_ns(self) -> int:
        """Where the ramp is over."""
        return self.at_ns + self.for_ns

    @property
    def most_x(self) -> float:
        """The largest factor."""
        return max(self.start_x, self.end_x)

    def factor(self, due_ns: Int64) -> Float64:
        """How many times the traffic, float64[n]."""
        return self.start_x + (self.end_x - self.start_x) * ((due_ns - self.at_ns) / self.for_ns)

    def label(self, due_ns: Int64, phase: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """The phases, int8[n]: `ramp` in the window."""
        return _labelled(due_ns, phase, "ramp", self.at_ns, self.end_ns)

    def __str__(self) -> str:
        window = f"at={self.at_ns / 1e9:g}s,for={self.for_ns / 1e9:g}s"
        return f"ramp {window},from={self.start_x:g},to={self.end_x:g}"


def _positive_ns(text: str, place: str) -> int:
    duration_ns = parse_duration_ns(text, place)
    if duration_ns <= 0:
        raise BadInput(f"{place}: {text} found, more than 0 wanted")
    return duration_ns


def _labelled(
    due_ns: Int64, phase: npt.NDArray[np.int8], name: str, start_ns: int, end_ns: int
) -> npt.NDArray[np.int8]:
    inside = (due_ns >= start_ns) & (due_ns < end_ns)
    return np.where(inside, PHASES.index(name), phase).astype(np.int8)


@dataclasses.dataclass(frozen=True)
class Lay(Step):
    """A shape laid over the rows due in its window: cloned, or thinned where it is below 1.

    Clones are shifted by ±jitter_ns per session and copy, kept inside the window.
    """

    shape: Spike | Ramp
    key: np.uint64
    jitter_ns: int = DEFAULT_JITTER_NS
    copies_before: int = 1

    @property
    def window_ns(self) -> tuple[int, int]:  # type: ignore[override]
        """The shape's window."""
        return self.shape.at_ns, self.shape.end_ns

    @property
    def spread_ns(self) -> int:  # type: ignore[override]
        """The jitter: at most a quarter of the window."""
        return min(self.jitter_ns, self.shape.for_ns // 4)

    @property
    def most_copies(self) -> int:  # type: ignore[override]
        """⌈the largest factor⌉, at least the original."""
        return max(1, math.ceil(self.shape.most_x))

    def apply(self, rows: Rows) -> Rows:
        """The rows with the shape laid over them, labelled."""
        start_ns, end_ns = self.window_ns
        inside = (rows.due_ns >= start_ns) & (rows.due_ns < end_ns)
        copies = np.ones(len(rows), np.int64)
        within, session = rows.due_ns[inside], rows.session[inside]
        wanted = self.shape.factor(within) - uniform(self.key, session, 0)
        copies[inside] = np.ceil(wanted.clip(min=0)).astype(np.int64)
        cloned, nth = clone_rows(rows, copies, self.copies_before)
        drawn = uniform(self.key, np.repeat(rows.session, copies), nth)
        shift = np.rint((2 * drawn - 1) * self.spread_ns).astype(np.int64)
        moved = _kept_inside(cloned.due_ns + shift, start_ns, end_ns - 1)
        due_ns = np.where(nth > 0, moved, cloned.due_ns)
        return dataclasses.replace(
            cloned,
            due_ns=due_ns,
            start_ns=np.where(nth > 0, np.minimum(cloned.start_ns, start_ns), cloned.start_ns),
            phase=self.shape.label(due_ns, cloned.phase),
        )

    def __str__(self) -> str:
        return str(self.shape)


def _kept_inside(due_ns: Int64, low_ns: int, high_ns: int) -> Int64:
    """Mirrored at the ends of [low_ns, high_ns]."""
    due_ns = low_ns + np.abs(due_ns - low_ns)
    mirrored: Int64 = high_ns - np.abs(high_ns - due_ns)
    return mirrored
