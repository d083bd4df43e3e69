"""A trace and a plan become a schedule, piece by piece; where the pieces go is the caller's business."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from capture.__about__ import VERSION
from capture.choice import shares_told
from capture.object_store import is_url
from capture.trace_reader import Trace
from capture.trace_stream import untold
from replay.transform.ground import Ground
from replay.transform.pipeline import stream
from replay.transform.plan import Plan, phase_names
from replay.transform.recipe_file import recipe_text
from replay.transform.replayable import told
from replay.transform.schedule_format import Lineage, Schedule
from replay.transform.shapes.phases import BASE
from replay.transform.trace_rows import TraceRows

MEASURING: Final = "measuring arrivals"
"""After this one, how far clones are shifted is fitted: as long as a second or two, and nothing is read."""
CHOOSING: Final = "choosing requests"
LINKING: Final = "linking turns"


def unsampled(plan: Plan, trace: Trace) -> Plan:
    """The plan with the factor that makes up for the trace's sampling, if it asks for that, in `amplify`.

    Raises `BadInput` where the trace's parts were sampled differently.
    """
    times = plan.times(trace.metadata.samples, trace.name)
    return dataclasses.replace(plan, amplify=plan.amplify * times, unsample=False)


def _unsampling(asked: Plan, plan: Plan, trace: Trace) -> tuple[str, ...]:
    if not asked.unsample:
        return ()
    if plan.amplify == asked.amplify:
        return ("unsample: all sessions were recorded",)
    share = shares_told(trace.metadata.samples)
    return (f"unsample: {share} of sessions were recorded, amplify {asked.amplify:g} is {plan.amplify:g}",)


def sampling_note(samples: Sequence[float], lineage: Lineage) -> str:
    """What is to be said where a sampled trace was not amplified; "" where it was, or was not sampled."""
    if samples == (1.0,) or any(step.startswith(("amplify", "unsample")) for step in lineage.steps):
        return ""
    times = [f"{1 / share:g}" for share in reversed(samples)]
    had = f"production had some {' to '.join((times[0], times[-1])[: len(times)])} times as many"
    out = "add --unsample" if len(samples) == 1 else "amplify each part alone"
    return f"{shares_told(samples)} of sessions were recorded, and nothing is amplified: {had}; {out}"


class Making:
    """The making of one schedule, in memory for a few batches, whatever the trace's size."""

    def __init__(self, trace: Trace, plan: Plan, notes: Sequence[str] = ()) -> None:
        """`notes` are what else the lineage shall say, after the steps."""
        self._trace = trace
        self._asked = plan
        self._plan = unsampled(plan, trace)
        self._notes = tuple(notes)
        self._phases: tuple[str, ...] = (BASE,)
        self._told: tuple[str, ...] = ()
        self._read = TraceRows(trace)
        binding = self._plan.passes_to_bind(has_sessions=self._read.passes > 1)
        measuring = int(self._plan.measures)
        times = {MEASURING: measuring, CHOOSING: binding - measuring, LINKING: self._read.passes - 1}
        self.readings = {what: trace.rows * often for what, often in times.items() if often}
        """What the trace is read for before the first piece comes, in order, and rows read for each."""
        self.rows_to_read = sum(self.readings.values()) + trace.rows
        """Trace rows that will be read in all, those read several times counted so."""

    def pieces(self, on_rows: Callable[[int], None] = untold) -> Iterator[Schedule]:
        """The schedule in due order, in pieces (see `pipeline.stream`); `on_rows` is told of rows read."""
        ground = Ground(self._trace, on_rows=on_rows)
        steps = self._plan.bound(ground)  # what is wrong with it is said before all is read
        self._phases = phase_names(steps)
        self._told = self._plan.told(steps, ground)
        followed = self._read.followed(on_rows)
        copies = math.prod(step.most_copies for step in steps)
        batches = self._read.batches(on_rows, copies)
        return stream(batches, steps, followed)

    def lineage(self) -> Lineage:
        """Where the schedule comes from; what was left out is known when all pieces were taken."""
        left_out, rules = self._read.left_out, self._plan.rules
        steps = (*_unsampling(self._asked, self._plan, self._trace), *self._told, *self._notes)
        if left_out:
            steps = (told(left_out), *steps)
        return Lineage(
            trace_path=self._trace.name
            if is_url(self._trace.name)
            else str(Path(self._trace.name).absolute()),
            trace_fingerprint=self._trace.fingerprint,
            trace_rows=self._trace.rows,
            steps=steps,
            seed=self._plan.seed,
            rewrite={"content": rules.to_json()} if rules.active else {},
            phases=self._phases,
            recipe=recipe_text(self._asked),
            tool_version=VERSION,
        )
