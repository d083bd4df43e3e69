"""A whole transformation as one value: which steps, in which order, under which seed.

Order: slice (in the trace's time), then speed, thin, amplify, ramps, spikes (in the schedule's time).
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from capture.failures import BadInput
from capture.quantities import check_factor
from capture.trace_reader import Trace
from replay.transform import steps
from replay.transform.replayable import choose, told
from replay.transform.schedule_format import Schedule
from replay.transform.shapes import Ramp, Spike, lay_ramp, lay_spike

MAX_ROWS: Final = 2_000_000_000


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

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in order, as a person writes them, for the lineage."""
        named: list[str] = []
        if self.slice_ns is not None:
            named.append(f"slice {self.slice_ns[0] / 1e9:g}s..{self.slice_ns[1] / 1e9:g}s")
        if self.speed != 1:
            named.append(f"speed {self.speed:g}")
        if self.thin != 1:
            named.append(f"thin {self.thin:g}")
        if self.amplify != 1:
            named.append(
                f"amplify {self.amplify:g} (sessions cloned whole, jitter ±{self.jitter_ns / 1e9:g}s)"
            )
        return (*named, *map(str, self.ramps), *map(str, self.spikes))


def apply_plan(schedule: Schedule, plan: Plan) -> Schedule:
    """All steps of `plan`, in order. Each step draws from its own stream, so one does not shift another's."""
    streams = iter(np.random.default_rng(plan.seed).spawn(2 + len(plan.ramps) + len(plan.spikes)))
    for_thin, for_amplify = next(streams), next(streams)
    if plan.slice_ns is not None:
        schedule = steps.cut_out(schedule, *plan.slice_ns)
    if plan.speed != 1:
        schedule = steps.speed(schedule, plan.speed)
    if plan.thin != 1:
        schedule = steps.thin(schedule, plan.thin, for_thin)
    if plan.amplify != 1:
        if len(schedule) * plan.amplify > MAX_ROWS:
            raise BadInput(
                f"--amplify: {plan.amplify:g} × {len(schedule)} requests, at most {MAX_ROWS} wanted"
            )
        schedule = steps.amplify(schedule, plan.amplify, for_amplify, plan.jitter_ns)
    for ramp in plan.ramps:
        schedule = lay_ramp(schedule, ramp, next(streams), plan.jitter_ns)
    for spike in plan.spikes:
        schedule = lay_spike(schedule, spike, next(streams), plan.jitter_ns)
    if not len(schedule):
        raise BadInput("transform: no request is left; thin less, or amplify by more")
    return schedule


def schedule_of(trace: Trace) -> tuple[Schedule, dict[str, int]]:
    """The trace as it was, as a schedule (see `steps.base_schedule`), and the counts of rows left out.

    See `replayable` for what is left out. Raises `BadInput` when nothing is left.
    """
    kept, left_out = choose(trace)
    if not kept.any():
        raise BadInput(f"{trace.name}: no request in it can be replayed ({told(left_out)}); capture others")
    end_ns = trace.column("end_ns").fill_null(-1).to_numpy(zero_copy_only=False)
    session = steps.number_sessions(trace.column("session_id").to_pylist())
    schedule = steps.select(steps.base_schedule(trace.arrival_ns, end_ns, session), kept)
    first_ns = int(schedule.due_ns[0])
    return dataclasses.replace(schedule, due_ns=schedule.due_ns - first_ns), left_out
