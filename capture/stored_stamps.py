"""How the stamps of a row's chunks and messages lie on disk, and back: the one room that knows.

In memory such a column is a list of instants, int64 ns from the trace's zero. On disk it is a list of gaps,
int64, in steps of 10 µs: the first since another instant of the row, each other since the one before it. So
each costs what its jitter holds, some 2 bytes or less (`tests/benchmarks/capture/encodings.py` compares), in
an encoding that other readers of Parquet have known for long. Steps of 1 µs would take half a byte more.

Each stamp is rounded to whole steps after the instant that its row counts from, and differences are taken of
what was rounded: an error of at most 5 µs, which does not add up, neither along a row nor from file to
file, and which leaves the order. The stamps themselves are good to some 50 µs. A stamp that rounding would
put after the row's end is the end; one at the end is rounded up, so that it comes back as just that. Both
ways are pure; files are `trace_writer`'s and `trace_reader`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from capture.trace_format import STORED_AS, STORED_SCHEMA

Int64 = npt.NDArray[np.int64]

_STEP_NS: Final = 10_000
_NEVER_NS: Final = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class _Bounds:
    """Columns with the instants between which a row's stamps lie: the first of `since` known, and `until`."""

    since: tuple[str, ...]
    until: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.since, self.until)


_BOUNDS: Final = {
    "chunk_ns": _Bounds(("first_byte_ns", "arrival_ns"), "end_ns"),
    "request_chunk_ns": _Bounds(("arrival_ns",), "request_body_ns"),
    "message_ns": _Bounds(("arrival_ns",), "end_ns"),
}


def stored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with `TRACE_SCHEMA` as it goes to disk, with `STORED_SCHEMA`."""
    columns = []
    for name in batch.schema.names:
        column = batch.column(name)
        columns.append(_gaps(column, *_between(batch, _BOUNDS[name])) if name in _BOUNDS else column)
    return pa.RecordBatch.from_arrays(columns, schema=STORED_SCHEMA)


def needed(names: Iterable[str], there: Iterable[str]) -> list[str]:
    """The columns to read for the columns `names`, of a file that has those in `there`."""
    in_file = set(there)
    wanted: dict[str, None] = {}
    for name in names:
        if STORED_AS.get(name) in in_file:
            wanted |= dict.fromkeys((STORED_AS[name], *_BOUNDS[name].columns))
        elif name in in_file:
            wanted[name] = None
    return list(wanted)


def restored(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """The column `name` of a batch as it was read, stamps as instants; None where there is none.

    A file of format 1, from before stamps were stored as gaps, has the instants themselves. Raises
    `ArrowInvalid` for a gap that is null.
    """
    if STORED_AS.get(name) in batch.schema.names:
        return _instants(batch.column(STORED_AS[name]), *_between(batch, _BOUNDS[name]))
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else None


def _gaps(stamps: pa.Array, since_ns: Int64, until_ns: Int64) -> pa.Array:
    instants_ns, lengths = _flat(stamps)
    ends_ns = np.repeat(until_ns, lengths)
    ending = (instants_ns >= ends_ns) & (instants_ns - ends_ns < _STEP_NS)
    offsets_ns = np.where(ending, ends_ns, instants_ns) - np.repeat(since_ns, lengths)
    steps = (offsets_ns + np.where(ending, _STEP_NS - 1, _STEP_NS // 2)) // _STEP_NS
    gaps = np.diff(steps, prepend=0)
    begins = _begins(lengths)
    gaps[begins] = steps[begins]
    return _listed(gaps, lengths, stamps)


def _instants(stored_gaps: pa.Array, since_ns: Int64, until_ns: Int64) -> pa.Array:
    gaps, lengths = _flat(stored_gaps)
    running = np.cumsum(gaps)
    before = np.concatenate((np.zeros(1, np.int64), running))[_begins(lengths)]
    filled = lengths[lengths > 0]
    instants_ns = (running - np.repeat(before, filled)) * _STEP_NS + np.repeat(since_ns, lengths)
    ends_ns = np.repeat(until_ns, lengths)
    rounded_over = (instants_ns > ends_ns) & (instants_ns - ends_ns < _STEP_NS)
    return _listed(np.where(rounded_over, ends_ns, instants_ns), lengths, stored_gaps)


def _flat(lists: pa.Array) -> tuple[Int64, Int64]:
    """All values one after the other, and how many are each row's, none of a null one."""
    values = lists.flatten()
    if values.null_count:
        raise pa.ArrowInvalid("a list of instants holds a null")
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    return values.to_numpy(zero_copy_only=False), lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def _begins(lengths: Int64) -> Int64:
    """Where in the values each row begins that has any."""
    ends = np.cumsum(lengths)
    return (ends - lengths)[lengths > 0]


def _listed(values: Int64, lengths: Int64, like: pa.Array) -> pa.Array:
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.int64()), mask=like.is_null())


def _between(batch: pa.RecordBatch, bounds: _Bounds) -> tuple[Int64, Int64]:
    """From when each row's stamps count, 0 where that is not known, and when the last can be."""
    known = pc.coalesce(*(batch.column(name) for name in bounds.since))
    filled = pc.fill_null(known, 0), pc.fill_null(batch.column(bounds.until), _NEVER_NS)
    since_ns, until_ns = (column.to_numpy(zero_copy_only=False) for column in filled)
    return since_ns, until_ns
