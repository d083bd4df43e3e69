"""Reading traces in bounded memory: a file, a folder, a glob or a store, as one trace in arrival order.

Rows are numbered 0 … n−1 in arrival order over all files; segments may overlap in time. Nothing is held but
8 bytes per row (24 for several files) and a window of row groups. Writing is in `trace_writer`.
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import BadInput, first_line
from capture.merged_metadata import merged
from capture.object_store import StoredFile, is_url, stored_files
from capture.stored_stamps import needed, restored
from capture.trace_format import OUTCOMES, STORED_AS, TRACE_SCHEMA, TraceMetadata, check_schema

BATCH_ROWS: Final = 1000
_LIGHT_ROWS: Final = 1 << 17
_AT_ONCE: Final = 16
WINDOW_ROW_GROUPS: Final = 8
_INSTANTS: Final = ("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns", *STORED_AS)

_MOST_NS: Final = 2**63 - 1

Int64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Segment:
    """One Parquet file of a trace; `shift_ns` moves its instants onto the trace's common zero."""

    path: Path | StoredFile
    file: pq.ParquetFile
    metadata: TraceMetadata
    shift_ns: int = 0


def open_trace(argument: str | Path, keys: Keys | None = None) -> Trace:
    """The trace that `argument` names: a file, a folder of segments, a glob, or an s3:// URL of one of them.

    Files that are encrypted are opened with `keys`. Raises `KeyRefused` when those are missing or wrong, and
    `BadInput` (place, found, wanted) for what is missing, truncated, no trace, empty, or out of order.
    """
    paths = _paths(str(argument))
    segments = list(_at_once(lambda path: _open_segment(path, keys), paths))
    zero_ns = min(segment.metadata.wall_zero_ns for segment in segments)
    segments = [
        dataclasses.replace(segment, shift_ns=segment.metadata.wall_zero_ns - zero_ns) for segment in segments
    ]
    trace = Trace(str(argument), segments, keys)
    if trace.rows == 0:
        seen = trace.metadata.counts.get("seen", 0)
        lost = ", ".join(f"{cause} {n:,}" for cause, n in trace.metadata.counts.get("dropped", {}).items())
        raise BadInput(
            f"{argument}: empty trace (seen {seen:,}, recorded 0, dropped {lost or 'none'}), "
            "at least one request wanted; was anything captured?"
        )
    return trace


def _at_once[Of, To](what: Callable[[Of], To], items: Sequence[Of]) -> Iterator[To]:
    """`what` of each item in their order; several of a store at once, where each waits for the network."""
    if not any(isinstance(item, StoredFile) for item in items):
        yield from map(what, items)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(what, items)


def _paths(argument: str) -> Sequence[Path | StoredFile]:
    if is_url(argument):
        return stored_files(argument)
    if os.path.isdir(argument):
        found = sorted(path for path in Path(argument).glob("*.parquet") if not path.name.startswith("."))
        if not found:
            raise BadInput(
                f"{argument}: folder without .parquet segments; name a folder that `peaktape capture` wrote"
            )
        return found
    if os.path.exists(argument):
        return [Path(argument)]
    found = sorted(Path(name) for name in glob.glob(argument) if os.path.isfile(name))
    if not found:
        raise BadInput(
            f"{argument}: no such file, folder or glob; a trace file, a folder of segments or a glob wanted"
        )
    return found


def _open_segment(path: Path | StoredFile, keys: Keys | None) -> Segment:
    try:
        # Of a store the columns of a row group are asked for together: each request takes a while.
        file = open_parquet(path, keys, pre_buffer=isinstance(path, StoredFile))
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{path}: not a whole Parquet file ({first_line(error)}); a trace wanted; copy it again"
        ) from error
    return Segment(path, file, check_schema(file.schema_arrow, file.metadata.metadata, str(path)))


def _footer(path: Path | StoredFile) -> bytes:
    """The end of a Parquet file, from its footer on."""
    try:
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            footer_bytes = int.from_bytes(file.read(4), "little")
            file.seek(-(footer_bytes + 8), os.SEEK_END)
            return bytes(file.read())
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({first_line(error)}); is it still there?") from error


class Trace:
    """A trace opened for reading. Rows come in arrival order; every batch read is checked.

    `keys` are those it was opened with: another process that opens it needs them too.
    """

    def __init__(self, name: str, segments: Sequence[Segment], keys: Keys | None = None) -> None:
        self.name = name
        self.keys = keys
        self.segments = tuple(segments)
        self.metadata = merged([(s.metadata, int(s.file.metadata.num_rows)) for s in self.segments])
        counts = [
            s.file.metadata.row_group(i).num_rows for s in segments for i in range(s.file.num_row_groups)
        ]
        self._group_starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        self._groups = [(s, i) for s in self.segments for i in range(s.file.num_row_groups)]
        self.rows = int(self._group_starts[-1])
        self._window: OrderedDict[tuple[int, tuple[str, ...]], pa.RecordBatch] = OrderedDict()

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the files' footers: sizes, places and statistics of every column chunk."""
        digest = hashlib.sha256()
        for footer in _at_once(_footer, [segment.path for segment in self.segments]):
            digest.update(footer)
        return digest.hexdigest()

    @functools.cached_property
    def _order(self) -> Int64 | None:
        """Position in the files of each row, or None where they are the same; then nothing is held."""
        if len(self.segments) == 1:
            for _ in self._sound_arrivals(self.segments[0]):
                pass
            return None
        return np.argsort(self._stored_arrivals, kind="stable").astype(np.int64)

    @functools.cached_property
    def _stored_arrivals(self) -> Int64:
        return np.concatenate([self._read_arrivals(segment) for segment in self.segments])

    def _read_arrivals(self, segment: Segment) -> Int64:
        return np.concatenate([np.empty(0, np.int64), *self._sound_arrivals(segment)])

    def _sound_arrivals(self, segment: Segment) -> Iterator[Int64]:
        """The segment's arrivals in pieces; raises `BadInput` for what is none, or out of order."""
        row, last_ns = 0, np.empty(0, np.int64)
        for batch in segment_batches(segment, ["arrival_ns"], _LIGHT_ROWS):
            arrivals = valid_arrivals(batch.column(0), segment, row)
            check_ascending(np.concatenate((last_ns, arrivals)), segment, row - len(last_ns))
            yield arrivals
            row += len(arrivals)
            last_ns = arrivals[-1:] if len(arrivals) else last_ns

    @functools.cached_property
    def arrival_ns(self) -> Int64:
        """Arrival of every row, int64[rows], ns from the trace's zero, ascending."""
        order = self._order
        return self._stored_arrivals if order is None else self._stored_arrivals[order]

    @property
    def span_ns(self) -> int:
        """Time from the first arrival to the last, in ns."""
        return int(self.arrival_ns[-1] - self.arrival_ns[0])

    def column(self, name: str) -> pa.Array:
        """One light column for all rows, in arrival order; not for bodies."""
        pieces = [batch.column(0) for segment in self.segments for batch in segment_batches(segment, [name])]
        stored = pa.concat_arrays(pieces)
        order = self._order
        return stored if order is None else stored.take(pa.array(order))

    def iter_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in arrival order, some `BATCH_ROWS` at a time, in flat memory."""
        names = list(columns or TRACE_SCHEMA.names)
        if self._order is None:
            first = 0
            for batch in segment_batches(self.segments[0], names):
                yield checked(batch, self.segments[0], first)
                first += batch.num_rows
            return
        step = min(BATCH_ROWS, self.rows_a_group)
        for start in range(0, self.rows, step):
            yield self.take(np.arange(start, min(start + step, self.rows)), names)

    @property
    def rows_a_group(self) -> int:
        """Rows of a row group on average, at least 1: groups of large bodies are short."""
        return max(1, self.rows // max(1, len(self._groups)))

    def may_lack(self, name: str) -> bool:
        """Whether the column may hold nulls, by the files' own statistics; True where they don't say."""
        return any(
            found is None or not found.has_null_count or found.null_count for found in self._statistics(name)
        )

    def has_any(self, name: str) -> bool:
        """Whether the column may hold anything but nulls, by the files' own statistics."""
        return any(
            found is None or not found.has_null_count or found.num_values for found in self._statistics(name)
        )

    def may_reach(self, name: str, least: Any) -> bool:
        """Whether the column may hold a value of `least` or more, by the files' own statistics."""
        return any(_may_lie(found, lambda low, high: high >= least) for found in self._statistics(name))

    def may_hold(self, name: str, value: Any) -> bool:
        """Whether the column may hold `value`, by the files' own statistics."""
        return any(
            _may_lie(found, lambda low, high: low <= value <= high) for found in self._statistics(name)
        )

    def may_differ(self, name: str, value: Any) -> bool:
        """Whether the column may hold another value than `value`, by the files' own statistics."""
        return any(
            _may_lie(found, lambda low, high: not low == value == high) for found in self._statistics(name)
        )

    def _statistics(self, name: str) -> Iterator[Any]:
        """Of each row group, what Parquet keeps of the column; None where that is nothing."""
        for segment, index in self._groups:
            group = segment.file.metadata.row_group(index)
            columns = [group.column(i) for i in range(group.num_columns)]
            found = [column.statistics for column in columns if column.path_in_schema == name]
            yield found[0] if found else None

    def take(
        self, rows: npt.NDArray[np.integer[Any]], columns: Sequence[str] | None = None
    ) -> pa.RecordBatch:
        """The named columns of `rows`, in the order asked for; reads through a window of row groups."""
        names = tuple(columns or TRACE_SCHEMA.names)
        stored = np.asarray(rows, np.int64) if self._order is None else self._order[rows]
        groups = np.searchsorted(self._group_starts, stored, side="right") - 1
        needed, which = np.unique(groups, return_inverse=True)
        batches = [self._row_group(int(group), names) for group in needed]
        starts = np.concatenate(([0], np.cumsum([batch.num_rows for batch in batches])))
        places = starts[which] + (stored - self._group_starts[groups])
        table = pa.Table.from_batches(batches) if batches else pa.Table.from_batches([], _schema_of(names))
        taken = table.take(pa.array(places)).combine_chunks()
        return taken.to_batches()[0] if taken.num_rows else pa.RecordBatch.from_pylist([], _schema_of(names))

    def _row_group(self, group: int, names: tuple[str, ...]) -> pa.RecordBatch:
        key = (group, names)
        if key in self._window:
            self._window.move_to_end(key)
            return self._window[key]
        segment, index = self._groups[group]
        pieces = list(segment_batches(segment, names, groups=[index]))
        batch = pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]
        first = int(self._group_starts[group]) - self._first_row(segment)
        self._window[key] = batch = checked(batch, segment, first)
        while len(self._window) > WINDOW_ROW_GROUPS:
            self._window.popitem(last=False)
        return batch

    def _first_row(self, segment: Segment) -> int:
        before = self.segments[: self.segments.index(segment)]
        return sum(int(earlier.file.metadata.num_rows) for earlier in before)


def _may_lie(found: Any, asked: Callable[[Any, Any], bool]) -> bool:
    """Whether a row group's least and greatest value answer yes; yes where they are not known."""
    if found is not None and found.has_null_count and not found.num_values:
        return False
    return found is None or not found.has_min_max or asked(found.min, found.max)


def _schema_of(names: Sequence[str]) -> pa.Schema:
    return pa.schema([TRACE_SCHEMA.field(name) for name in names])


def valid_arrivals(column: pa.Array, segment: Segment, first_row: int) -> Int64:
    """A piece of the segment's arrivals from `first_row` on, int64[n]; raises `BadInput` for no arrival."""
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null().to_numpy(False)))
        raise BadInput(f"{segment.path}: row {row}, column arrival_ns: null found, int64 ns wanted")
    arrivals: Int64 = column.to_numpy()
    # As it stands in the file: a sum that wrapped comes back.
    stored = arrivals - segment.shift_ns if segment.shift_ns else arrivals
    most_ns = _MOST_NS - segment.shift_ns
    if len(stored) and (int(stored.min()) < 0 or int(stored.max()) > most_ns):
        strange = np.flatnonzero((stored < 0) | (stored > most_ns))
        row = int(strange[0])
        raise BadInput(
            f"{segment.path}: row {first_row + row}, column arrival_ns: {stored[row]} found, 0 to {most_ns} "
            "ns from the trace's zero wanted; write the offsets anew"
        )
    return arrivals


def check_ascending(arrivals: Int64, segment: Segment, first_row: int = 0) -> None:
    """Raise `BadInput` where `arrivals`, the segment's from `first_row` on, go backwards."""
    falls = arrivals[1:] < arrivals[:-1]
    if falls.any():
        backwards = np.flatnonzero(falls)
        row = int(backwards[0]) + 1
        steps_ns = arrivals[backwards] - arrivals[backwards + 1]
        often = f" ({len(steps_ns):,} times, by up to {steps_ns.max() / 1e9:.3g} s)"
        times = often if len(steps_ns) > 1 else ""
        raise BadInput(
            f"{segment.path}: row {first_row + row}, column arrival_ns: {arrivals[row]} found after "
            f"{arrivals[row - 1]}{times}, ascending wanted; sort the rows by arrival_ns"
        )


def segment_batches(
    segment: Segment, names: Sequence[str], batch_rows: int = BATCH_ROWS, groups: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The columns of a segment's rows in the file's order; `groups` are the row groups read, None for all.

    Types and order are the schema's, instants on the trace's zero. Raises `BadInput` for damaged data.
    """
    # One row group at a time: a batch would else span many, and with large bodies take all memory.
    chosen = range(segment.file.num_row_groups) if groups is None else groups
    there = needed(names, segment.file.schema_arrow.names)
    try:
        for group in chosen:
            for batch in segment.file.iter_batches(batch_size=batch_rows, columns=there, row_groups=[group]):
                yield _normal(batch, names, segment.shift_ns)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{segment.path}: damaged data ({first_line(error)}); capture or copy the file again"
        ) from error


def _normal(batch: pa.RecordBatch, names: Sequence[str], shift_ns: int) -> pa.RecordBatch:
    """The batch with the schema's own types and order, its instants on the trace's common zero."""
    columns = []
    for name in names:
        wanted = TRACE_SCHEMA.field(name).type
        found = restored(batch, name)
        column = pa.nulls(batch.num_rows, wanted) if found is None else found
        column = column if column.type == wanted else column.cast(wanted)
        if shift_ns and name in _INSTANTS:
            column = _shifted(column, shift_ns)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=_schema_of(names))


def _shifted(column: pa.Array, shift_ns: int) -> pa.Array:
    if pa.types.is_list(column.type):
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(False)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        shifted = pc.add(column.flatten(), shift_ns)
        return pa.ListArray.from_arrays(pa.array(offsets), shifted, mask=column.is_null())
    return pc.add(column, shift_ns)


def checked(batch: pa.RecordBatch, segment: Segment, first_row: int) -> pa.RecordBatch:
    """`batch` itself when its values are a trace's; raises `BadInput` with row, column, found, wanted."""
    for name in batch.schema.names:
        column, field = batch.column(name), TRACE_SCHEMA.field(name)
        if not field.nullable and column.null_count:
            row = first_row + int(np.argmax(column.is_null().to_numpy(False)))
            raise BadInput(f"{segment.path}: row {row}, column {name}: null found, {field.type} wanted")
        if name == "outcome":
            known = pc.is_in(column, pa.array(OUTCOMES)).to_numpy(False)
            if not known.all():
                row = int(np.argmin(known))
                raise BadInput(
                    f"{segment.path}: row {first_row + row}, column outcome: "
                    f"{column[row].as_py()!r} found, one of {', '.join(OUTCOMES)} wanted"
                )
    return batch
