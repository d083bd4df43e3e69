"""Shapes laid over a part of a schedule's time: spike and ramp, by cloning and thinning what is there.

No request is invented. Within the shape's window the unit is a session's turns that lie in it, so that the
rate in the window is what was asked for and turns keep their order; phases are labelled for the results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.quantities import parse_duration_ns, parse_factor, parse_settings
from replay.transform.schedule_format import PHASES, Schedule
from replay.transform.steps import DEFAULT_JITTER_NS, clone, whole_copies

Float64 = npt.NDArray[np.float64]


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

    def __str__(self) -> str:
        window = f"at={self.at_ns / 1e9:g}s,for={self.for_ns / 1e9:g}s"
        return f"ramp {window},from={self.start_x:g},to={self.end_x:g}"


def _positive_ns(text: str, place: str) -> int:
    duration_ns = parse_duration_ns(text, place)
    if duration_ns <= 0:
        raise BadInput(f"{place}: {text} found, more than 0 wanted")
    return duration_ns


def lay_spike(
    schedule: Schedule, spike: Spike, rng: np.random.Generator, jitter_ns: int = DEFAULT_JITTER_NS
) -> Schedule:
    """The schedule with the spike; raises `BadInput` when its window holds no request."""
    end_ns = spike.at_ns + spike.for_ns
    laid = _lay(
        schedule, str(spike), spike.at_ns, end_ns, lambda at: np.full(len(at), spike.x), rng, jitter_ns
    )
    laid = _label(laid, "recover", end_ns, end_ns + spike.for_ns)
    return _label(laid, "spike", spike.at_ns, end_ns)


def lay_ramp(
    schedule: Schedule, ramp: Ramp, rng: np.random.Generator, jitter_ns: int = DEFAULT_JITTER_NS
) -> Schedule:
    """The schedule with the ramp; raises `BadInput` when its window holds no request."""

    def factor(at_ns: Float64) -> Float64:
        return ramp.start_x + (ramp.end_x - ramp.start_x) * (at_ns - ramp.at_ns) / ramp.for_ns

    end_ns = ramp.at_ns + ramp.for_ns
    laid = _lay(schedule, str(ramp), ramp.at_ns, end_ns, factor, rng, jitter_ns)
    return _label(laid, "ramp", ramp.at_ns, end_ns)


def _lay(
    schedule: Schedule,
    name: str,
    start_ns: int,
    end_ns: int,
    factor: Callable[[Float64], Float64],
    rng: np.random.Generator,
    jitter_ns: int,
) -> Schedule:
    inside = (schedule.due_ns >= start_ns) & (schedule.due_ns < end_ns)
    if not inside.any():
        raise BadInput(
            f"{name}: no request is due in its window; the schedule spans 0s to {schedule.span_ns / 1e9:g}s "
            "(after speed), so move it there"
        )
    # Rows outside the window are units that are kept once; inside, a unit is a session's part.
    key = np.where(inside, schedule.session, int(schedule.session.max()) + 1 + np.arange(len(schedule)))
    _, first_row, unit = np.unique(key, return_index=True, return_inverse=True)
    factors = np.where(inside[first_row], factor(schedule.due_ns[first_row].astype(np.float64)), 1.0)
    copies = whole_copies(factors, rng)
    return clone(schedule, unit, copies, rng, min(jitter_ns, (end_ns - start_ns) // 4), start_ns, end_ns - 1)


def _label(schedule: Schedule, phase: str, start_ns: int, end_ns: int) -> Schedule:
    inside = (schedule.due_ns >= start_ns) & (schedule.due_ns < end_ns)
    return dataclasses.replace(
        schedule, phase=np.where(inside, PHASES.index(phase), schedule.phase).astype(np.int8)
    )
