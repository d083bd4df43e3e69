"""A trace as rows of a schedule, batch by batch: what is replayable, numbered sessions, linked turns.

What is done with the rows is in `steps`; reading the file's columns in order in `capture.trace_stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from capture.failures import BadInput
from capture.trace_reader import Trace
from capture.trace_stream import STREAM_ROWS, stream_batches, untold
from replay.transform.linking import TurnLinker
from replay.transform.replayable import Choosing, told
from replay.transform.rows import Rows, rows_of
from replay.transform.sessions import number_sessions

BATCH_ROWS: Final = 1 << 17
"""Rows that a batch shall have after the steps: the columns of so many fit the processor's cache."""

LINKED_ROWS: Final = 1 << 20
_FIRST_ROWS: Final = 1 << 10


class TraceRows:
    """The replayable rows of a trace, due at arrival − the first one's; may be read several times.

    `left_out` counts the rows that aren't, by why, once all batches of a reading were taken. `passes` is how
    often the trace is read: twice where it has sessions, whose followed turns must be known beforehand.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.left_out: dict[str, int] = {}
        self._has_sessions = trace.has_any("session_id")
        self.passes = 2 if self._has_sessions else 1

    @property
    def zero_ns(self) -> int:
        """The arrival of the first replayable row, ns from the trace's zero; reads no further than that.

        Raises `BadInput` when none can be replayed.
        """
        choosing = Choosing(self.trace)
        for light in self._light(choosing, _FIRST_ROWS):
            if (kept := _kept(light)).any():
                return _first_arrival_ns(light, kept)
        raise self._none_left(choosing)

    def followed(self, on_rows: Callable[[int], None] = untold) -> npt.NDArray[np.bool_] | None:
        """Which trace rows a later turn follows, bool[rows]; None where the trace has no sessions.

        `on_rows` is told how many rows more were read.
        """
        if not self._has_sessions:
            return None
        followed = np.zeros(self.trace.rows, np.bool_)
        linker, first = TurnLinker(), 0
        for light in _gathered(
            stream_batches(self.trace, ("arrival_ns", "end_ns", "session_id")), LINKED_ROWS
        ):
            rows = _rows(linker, first, light, 0)
            followed[rows.follows[rows.follows >= 0]] = True
            first += len(rows)
            on_rows(len(rows))
        return followed

    def batches(
        self, on_rows: Callable[[int], None] = untold, copies: int = 1, *, numbered: bool = True
    ) -> Iterator[Rows]:
        """The rows in the trace's order, at least `BATCH_ROWS` / `copies` at a time; `on_rows` as above.

        Without `numbered`, rows of a trace without sessions have no session's number yet (see `Rows.lone`).
        Raises `BadInput` when none can be replayed.
        """
        choosing = Choosing(self.trace)
        linker, first = TurnLinker(), 0
        zero_ns: int | None = None
        wanted = max(1, BATCH_ROWS // copies)
        for light in _gathered(self._light(choosing, wanted), wanted):
            kept = _kept(light)
            if zero_ns is None and kept.any():
                zero_ns = _first_arrival_ns(light, kept)
            rows = _rows(linker, first, light, zero_ns or 0, numbered=numbered)
            first += len(rows)
            on_rows(len(rows))
            if zero_ns is not None:
                yield rows if kept.all() else rows.take(kept)
        self.left_out = choosing.left_out
        if zero_ns is None:
            raise self._none_left(choosing)

    def _none_left(self, choosing: Choosing) -> BadInput:
        why = told(choosing.left_out)
        return BadInput(f"{self.trace.name}: no request in it can be replayed ({why}); capture others")

    def _light(self, choosing: Choosing, wanted: int) -> Iterator[pa.RecordBatch]:
        light = ("arrival_ns", "end_ns", "session_id") if self._has_sessions else ("arrival_ns",)
        names = tuple(dict.fromkeys((*light, *choosing.columns)))
        for batch in stream_batches(self.trace, names, min(wanted, STREAM_ROWS)):
            if not choosing.columns:  # all of them fit
                yield batch
                continue
            yield batch.select(light).append_column("kept", pa.array(choosing.choose(batch)))


def _gathered(batches: Iterator[pa.RecordBatch], wanted: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `wanted` rows or a little more."""
    pieces: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        pieces.append(batch)
        count += batch.num_rows
        if count >= wanted:
            yield pa.concat_batches(pieces) if len(pieces) > 1 else batch
            pieces, count = [], 0
    if count:
        yield pa.concat_batches(pieces)


def _kept(light: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    if "kept" not in light.schema.names:
        return np.ones(light.num_rows, np.bool_)
    return np.asarray(light.column("kept").to_numpy(zero_copy_only=False), np.bool_)


def _first_arrival_ns(light: pa.RecordBatch, kept: npt.NDArray[np.bool_]) -> int:
    return int(light.column("arrival_ns")[int(np.argmax(kept))].as_py())


def _rows(
    linker: TurnLinker, first: int, light: pa.RecordBatch, zero_ns: int, *, numbered: bool = True
) -> Rows:
    arrival_ns = light.column("arrival_ns").to_numpy()
    if "session_id" not in light.schema.names:
        return Rows.lone(first, arrival_ns - zero_ns, numbered=numbered)
    end_ns = light.column("end_ns").fill_null(-1).to_numpy(zero_copy_only=False)
    return rows_of(
        linker, first, arrival_ns, end_ns, number_sessions(light.column("session_id"), first), zero_ns
    )
