"""A whole transformation as one value: which steps, in which order, under which seed.

Order: slice (in the trace's time), then speed, thin, amplify, ramps, spikes (in the schedule's time).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from capture.failures import BadInput
from capture.quantities import check_factor
from capture.trace_reader import Trace
from replay.transform import draws, steps
from replay.transform.pipeline import schedule_rows
from replay.transform.rows import Rows, Step
from replay.transform.schedule_format import Schedule
from replay.transform.shapes import Lay, Ramp, Spike
from replay.transform.trace_rows import TraceRows


@dataclasses.dataclass(frozen=True)
class Plan:
    """The transformation flags of `transform` and `replay`, parsed."""

    slice_ns: tuple[int, int] | None = None
    speed: float = 1.0
    thin: float = 1.0
    amplify: float = 1.0
    jitter_ns: int = steps.DEFAULT_JITTER_NS
    ramps: tuple[Ramp, ...] = ()
    spikes: tuple[Spike, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_factor(self.speed, "--speed")
        check_factor(self.amplify, "--amplify")
        if not 0 < self.thin <= 1:
            raise BadInput(f"--thin: {self.thin:g} found, a share above 0 and up to 1 wanted")
        if self.seed < 0:
            raise BadInput(f"--seed: {self.seed} found, 0 or more wanted")

    def bound(self) -> tuple[Step, ...]:
        """The steps in order. Each draws by its own key, so one does not shift another's."""
        streams = iter(np.random.default_rng(self.seed).spawn(2 + len(self.ramps) + len(self.spikes)))
        keys = (draws.key_of(stream) for stream in streams)
        for_thin, for_amplify = next(keys), next(keys)
        found: list[Step] = []
        if self.slice_ns is not None:
            found.append(steps.Slice(*self.slice_ns))
        if self.speed != 1:
            found.append(steps.Speed(self.speed))
        if self.thin != 1:
            found.append(steps.Thin(self.thin, for_thin))
        if self.amplify != 1:
            found.append(steps.Amplify(self.amplify, for_amplify, self.jitter_ns))
        shapes: tuple[Ramp | Spike, ...] = (*self.ramps, *self.spikes)
        for shape in shapes:
            copies = math.prod(step.most_copies for step in found)
            found.append(Lay(shape, next(keys), self.jitter_ns, copies))
        return tuple(found)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in order, as a person writes them, for the lineage."""
        return tuple(map(str, self.bound()))


def apply_plan(rows: Rows, plan: Plan) -> Schedule:
    """All steps of `plan` on the rows of a whole trace, in memory; raises what `pipeline.stream` raises."""
    return schedule_rows(rows, plan.bound())


def rows_of_trace(trace: Trace) -> tuple[Rows, dict[str, int]]:
    """The trace as it was, as rows of a schedule (see `base_rows`), and the counts of rows left out.

    See `replayable` for what is left out. Raises `BadInput` when nothing is left.
    """
    read = TraceRows(trace)
    rows = Rows.joined(list(read.batches()))
    return rows, read.left_out
