"""A trace and a plan become a schedule, piece by piece; where the pieces go is the caller's business."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from capture.__about__ import VERSION
from capture.trace_reader import Trace
from replay.transform.pipeline import stream
from replay.transform.plan import Plan
from replay.transform.replayable import told
from replay.transform.schedule_format import Lineage, Schedule
from replay.transform.trace_rows import TraceRows


def _nothing(rows: int) -> None:
    """Tells nobody how far it is."""


class Making:
    """The making of one schedule, in memory for a few batches, whatever the trace's size."""

    def __init__(self, trace: Trace, plan: Plan) -> None:
        self._trace = trace
        self._plan = plan
        self._read = TraceRows(trace)
        self.rows_to_read = trace.rows * self._read.passes
        """Trace rows that will be read in all, those read twice counted twice."""

    def pieces(self, on_rows: Callable[[int], None] = _nothing) -> Iterator[Schedule]:
        """The schedule in due order, in pieces (see `pipeline.stream`); `on_rows` is told of rows read."""
        followed = self._read.followed(on_rows)
        steps = self._plan.bound()
        copies = math.prod(step.most_copies for step in steps)
        return stream(self._read.batches(on_rows, copies), steps, followed)

    def lineage(self) -> Lineage:
        """Where the schedule comes from; what was left out is known when all pieces were taken."""
        left_out = self._read.left_out
        steps = (told(left_out), *self._plan.steps) if left_out else self._plan.steps
        return Lineage(
            trace_path=str(Path(self._trace.name).absolute()),
            trace_fingerprint=self._trace.fingerprint,
            trace_rows=self._trace.rows,
            steps=steps,
            seed=self._plan.seed,
            tool_version=VERSION,
        )
