"""A schedule's file read for inspection, in batches: 8 bytes a request are held, and bounded samples.

Reading one to replay it, all in memory, is in `schedule_format`, which says what a sound one is, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.even_sample import EvenSample
from replay.transform.schedule_format import Schedule, read_batches, read_rows
from replay.transform.session_sample import SessionSample
from replay.transform.traffic_columns import MOST_PROMPTS

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

BATCH_ROWS: Final = 1 << 18


@dataclasses.dataclass(frozen=True)
class ScheduleColumns:
    """`due_ns` int64[n]; the rows of each phase, int64[phases]; samples of sessions, of think times in ns,
    and of the lengths of what is sent, by their names. `numbers` int64[n] has each row's session where that
    was asked for, else None. `first` holds the first rows."""

    due_ns: Int64
    phases: Int64
    sessions: SessionSample
    think_ns: EvenSample
    lengths: Mapping[str, EvenSample]
    numbers: Int64 | None
    first: Schedule

    @property
    def session(self) -> Int64:
        """A number per session, int64[n]; raises `ValueError` where it was not asked for."""
        if self.numbers is None:
            raise ValueError("sessions by row were not read")
        return self.numbers


def read_schedule_columns(
    path: Path, by_row: Mapping[str, Int32], *, sessions_by_row: bool = False
) -> ScheduleColumns:
    """Read the schedule at `path`; `by_row` holds the lengths of its trace's rows, int32[trace rows] each.

    Raises what `schedule_format.read_schedule` raises.
    """
    rows = read_rows(path)
    due_ns, at = np.empty(rows, np.int64), 0
    numbers = np.empty(rows, np.int64) if sessions_by_row else None
    first: list[Schedule] = []
    phases = np.zeros(np.iinfo(np.int8).max + 1, np.int64)
    sessions, think_ns = SessionSample(), EvenSample()
    lengths = {name: EvenSample() for name in by_row}
    for piece in read_batches(path, BATCH_ROWS):
        here = slice(at, at + len(piece))
        due_ns[here] = piece.due_ns
        phases += np.bincount(piece.phase, minlength=len(phases))
        sessions.add(piece.session, piece.due_ns, piece.due_ns)
        think_ns.add(piece.think_ns[piece.after >= 0])
        for name, of_all in by_row.items():
            lengths[name].add(of_all[piece.row])
        if numbers is not None:
            numbers[here] = piece.session
        if at < MOST_PROMPTS:
            first.append(piece.part(0, MOST_PROMPTS - at))
        at = here.stop
    return ScheduleColumns(
        due_ns=due_ns,
        phases=phases[: int(np.flatnonzero(phases)[-1]) + 1] if phases.any() else phases[:0],
        sessions=sessions,
        think_ns=think_ns,
        lengths=lengths,
        numbers=numbers,
        first=Schedule.joined(first) if first else Schedule.none(),
    )
