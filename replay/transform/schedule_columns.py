"""A schedule's file read for inspection, in batches: 8 bytes a request are held, and bounded samples.

Reading one to replay it, all in memory, is in `schedule_format`, which says what a sound one is, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.even_sample import EvenSample
from replay.transform.gaps import MOST_VALUES
from replay.transform.schedule_format import Schedule, read_batches, read_rows, row_batches
from replay.transform.session_sample import SessionSample
from replay.transform.traffic_columns import MOST_PROMPTS

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

BATCH_ROWS: Final = 1 << 18


@dataclasses.dataclass(frozen=True)
class ScheduleColumns:
    """`due_ns` int64[n]; the rows of each phase, int64[phases]; samples of sessions and of think times in ns.
    `first` holds the first rows."""

    due_ns: Int64
    phases: Int64
    sessions: SessionSample
    think_ns: EvenSample
    first: Schedule


@dataclasses.dataclass(frozen=True)
class SentLengths:
    """Samples of the lengths of what is sent, by their names, of one request in `one_in`."""

    samples: Mapping[str, EvenSample]
    one_in: int


@dataclasses.dataclass(frozen=True)
class SentRows:
    """The trace rows of one request in `one_in` of a schedule, int64[k] in due order: of all of them, where
    these are up to 5 million."""

    row: Int64
    one_in: int

    def lengths(self, known: Int64, of_rows: Mapping[str, Int32]) -> SentLengths:
        """The lengths of what is sent: `of_rows` holds those of the trace's rows `known`, ascending."""
        place = np.searchsorted(known, self.row)
        samples = {name: EvenSample() for name in of_rows}
        for name, sample in samples.items():
            sample.add(of_rows[name][place])
        return SentLengths(samples, self.one_in)


def sent_rows(path: Path) -> SentRows:
    """Which rows of its trace the schedule at `path` sends; raises what `read_rows` raises."""
    rows, one_in = read_rows(path), 1
    while -(-rows // one_in) > MOST_VALUES:
        one_in *= 2
    first, pieces = 0, [np.empty(0, np.int64)]
    for row in row_batches(path, BATCH_ROWS):
        pieces.append(row[-first % one_in :: one_in].copy())
        first += len(row)
    return SentRows(np.concatenate(pieces), one_in)


def read_schedule_columns(path: Path, on_rows: Callable[[int], None] = lambda _: None) -> ScheduleColumns:
    """Read the schedule at `path`; `on_rows` hears how many rows are done.

    Raises what `schedule_format.read_schedule` raises.
    """
    rows = read_rows(path)
    due_ns, at = np.empty(rows, np.int64), 0
    first: list[Schedule] = []
    phases = np.zeros(np.iinfo(np.int8).max + 1, np.int64)
    sessions, think_ns = SessionSample(), EvenSample()
    for piece in read_batches(path, BATCH_ROWS):
        here = slice(at, at + len(piece))
        due_ns[here] = piece.due_ns
        phases += np.bincount(piece.phase, minlength=len(phases))
        sessions.add(piece.session, piece.due_ns, piece.due_ns)
        think_ns.add(piece.think_ns[piece.after >= 0])
        if at < MOST_PROMPTS:
            first.append(piece.part(0, MOST_PROMPTS - at))
        at = here.stop
        on_rows(at)
    return ScheduleColumns(
        due_ns=due_ns,
        phases=phases[: int(np.flatnonzero(phases)[-1]) + 1] if phases.any() else phases[:0],
        sessions=sessions,
        think_ns=think_ns,
        first=Schedule.joined(first) if first else Schedule.none(),
    )
