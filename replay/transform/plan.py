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
from replay.transform.amplification.amplify import METHODS, Amplify
from replay.transform.amplification.settling import settled
from replay.transform.pipeline import schedule_rows
from replay.transform.replayable import choose, told
from replay.transform.rows import Rows, Step, base_rows
from replay.transform.schedule_format import Schedule
from replay.transform.sessions import number_sessions
from replay.transform.shapes import Lay, Ramp, Spike


@dataclasses.dataclass(frozen=True)
class Plan:
    """The transformation flags of `transform` and `replay`, parsed."""

    slice_ns: tuple[int, int] | None = None
    speed: float = 1.0
    thin: float = 1.0
    amplify: float = 1.0
    method: str = "auto"
    jitter_ns: int = steps.DEFAULT_JITTER_NS
    ramps: tuple[Ramp, ...] = ()
    spikes: tuple[Spike, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_factor(self.speed, "--speed")
        check_factor(self.amplify, "--amplify")
        if not 0 < self.thin <= 1:
            raise BadInput(f"--thin: {self.thin:g} found, a share above 0 and up to 1 wanted")
        if self.method not in METHODS:
            raise BadInput(f"--method: {self.method!r} found, one of {', '.join(METHODS)} wanted")
        if self.seed < 0:
            raise BadInput(f"--seed: {self.seed} found, 0 or more wanted")

    def bound(self) -> tuple[Step | Amplify, ...]:
        """The steps in order, to be settled. Each draws by its own key, so one does not shift another's."""
        streams = iter(np.random.default_rng(self.seed).spawn(2 + len(self.ramps) + len(self.spikes)))
        keys = (draws.key_of(stream) for stream in streams)
        for_thin, for_amplify = next(keys), next(keys)
        found: list[Step | Amplify] = []
        if self.slice_ns is not None:
            found.append(steps.Slice(*self.slice_ns))
        if self.speed != 1:
            found.append(steps.Speed(self.speed))
        if self.thin != 1:
            found.append(steps.Thin(self.thin, for_thin))
        if self.amplify != 1:
            found.append(Amplify(self.amplify, for_amplify, self.method, self.jitter_ns))
        shapes: tuple[Ramp | Spike, ...] = (*self.ramps, *self.spikes)
        for shape in shapes:
            copies = math.prod(step.most_copies for step in found)
            found.append(Lay(shape, next(keys), self.jitter_ns, copies))
        return tuple(found)


def settled_steps(rows: Rows, plan: Plan, tick_ns: int = 1) -> tuple[Step, ...]:
    """The steps of `plan` for the rows of a whole trace; `str` of each is what the lineage says.

    `tick_ns` is the step of the clock that stamped the trace.
    """
    return settled(plan.bound(), lambda: [rows], int(rows.due_ns.max(initial=0)), len(rows), tick_ns)


def apply_plan(rows: Rows, plan: Plan) -> Schedule:
    """All steps of `plan` on the rows of a whole trace, in memory; raises what `pipeline.stream` raises."""
    return schedule_rows(rows, settled_steps(rows, plan))


def rows_of_trace(trace: Trace) -> tuple[Rows, dict[str, int]]:
    """The trace as it was, as rows of a schedule (see `base_rows`), and the counts of rows left out.

    See `replayable` for what is left out. Raises `BadInput` when nothing is left.
    """
    kept, left_out = choose(trace)
    if not kept.any():
        raise BadInput(f"{trace.name}: no request in it can be replayed ({told(left_out)}); capture others")
    end_ns = trace.column("end_ns").fill_null(-1).to_numpy(zero_copy_only=False)
    rows = base_rows(trace.arrival_ns, end_ns, number_sessions(trace.column("session_id"))).take(kept)
    first_ns = int(rows.due_ns[0])
    return dataclasses.replace(
        rows, due_ns=rows.due_ns - first_ns, start_ns=np.maximum(rows.start_ns - first_ns, 0)
    ), left_out
