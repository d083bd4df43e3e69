"""Amplify as a user asks for it: a factor and a method, which become a step once the arrivals were measured.

How each method works is in `methods` and `whole_trace`; how `auto` decides is in `choice`.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from capture.failures import BadInput
from capture.quantities import check_factor
from replay.transform.amplification.choice import Measured, Measuring, choose
from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.methods import NO_LATE_SESSIONS, ShiftedClones
from replay.transform.amplification.shifts import TIED, Shifts
from replay.transform.amplification.whole_trace import Resampling, Superposition, TraceUpscaler
from replay.transform.rows import Step
from replay.transform.steps import DEFAULT_JITTER_NS, Speed

METHODS: Final = ("auto", "jitter", "tied", "speed", "superposition", "traceupscaler", "resample")
"""`auto` fits clones to the burst curve; the others are for those who want theirs."""
MEASURED: Final = ("auto", "jitter")
"""The methods that need a pass over the arrivals first."""


@dataclasses.dataclass(frozen=True)
class SpeedDivision(Speed):
    """Instants divided by the factor: as many requests in less time, IDC'(w) = IDC(factor · w)."""

    def __str__(self) -> str:
        return f"amplify {self.factor:g} (speed: instants divided, no request added)"


@dataclasses.dataclass(frozen=True)
class Amplify:
    """`factor` times the traffic by `method`, drawn by `key`; `settled` makes it a step.

    `jitter_ns` is how far the method `jitter` shifts clones; `copies_before` the product of the `most_copies`
    of the steps before. Raises `BadInput` for a method that isn't known.
    """

    factor: float
    key: np.uint64
    method: str = "auto"
    jitter_ns: int = DEFAULT_JITTER_NS
    copies_before: int = 1

    def __post_init__(self) -> None:
        check_factor(self.factor, "--amplify")
        if self.method not in METHODS:
            raise BadInput(f"--method: {self.method!r} found, one of {', '.join(METHODS)} wanted")

    @property
    def most_copies(self) -> int:
        """At most so many copies of a request, whatever is measured."""
        return self.settled(Measured(0, 0, None, NO_LATE_SESSIONS, None)).most_copies

    @property
    def needs_arrivals(self) -> bool:
        """Whether the arrivals must be measured before it is known what to do."""
        return self.factor > 1 and self.method in MEASURED

    def measuring(self, span_ns: int, expected: int, tick_ns: int = 1) -> Measuring:
        """What takes in the arrivals before the step can be settled (see `Measuring`)."""
        reach_ns = self.jitter_ns if self.method == "jitter" else 0
        wanted = self.method == "auto" and self.factor > 1
        return Measuring(span_ns, expected, self.factor, tick_ns, spectrum=wanted, reach_ns=reach_ns)

    def settled(self, measured: Measured) -> Step:
        """The step, for arrivals of which so much was measured."""
        factor, key, copies = self.factor, self.key, self.copies_before
        if self.method == "speed":
            return SpeedDivision(factor)
        for name, method in _WHOLE_TRACE.items():
            if self.method == name:
                return method(factor, key, measured.span_ns, copies)
        told = ""
        shifts: Shifts | ClockShifts | CrowdShifts
        if self.method == "tied" or factor <= 1:
            shifts = TIED
        elif self.method == "jitter":
            shifts = Shifts((self.jitter_ns,), (1.0,), uniform=True)
        else:
            choice = choose(measured, factor, key)
            shifts, key, told = choice.shifts, choice.key, choice.told
        return ShiftedClones(factor, key, shifts, measured.span_ns, measured.late, copies, told)


_WHOLE_TRACE: Final = {
    "superposition": Superposition,
    "traceupscaler": TraceUpscaler,
    "resample": Resampling,
}
