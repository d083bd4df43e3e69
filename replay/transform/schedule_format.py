"""The Schedule: what shall happen, as references to trace rows; its schema, its metadata, its file.

Bodies are never copied: a row is some 30 bytes. Deciding *when* something is due is not here (see `steps`
and `shapes`); this module knows the columns and how they are stored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from capture.failures import BadInput
from capture.footers import footer_of, read_footer
from capture.trace_format import other_kind

FORMAT_VERSION: Final = 1
GROUP_ROWS: Final = 1 << 20
METADATA_KEY: Final = b"peaktape.schedule"
_GROUPS_WAITING: Final = 2
"""Row groups, some 45 MB each, that may wait to be written: so that neither side waits for the other."""

PHASES: Final = ("base", "ramp", "spike", "recover")
"""The phases of a schedule whose lineage names none: all had these once."""

SCHEDULE_SCHEMA: Final = pa.schema(
    [
        pa.field("due_ns", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("copy", pa.int32(), nullable=False),
        pa.field("session", pa.int64(), nullable=False),
        pa.field("after", pa.int64(), nullable=False),
        pa.field("think_ns", pa.int64(), nullable=False),
        pa.field("phase", pa.int8(), nullable=False),
    ]
)

# Measured on amplified rows: differences bit-packed are smaller than zstd makes them, in a fifth of the time;
# session numbers are hashes, which nothing makes smaller. Without the Arrow schema, whose metadata would hide
# what is added at the end; the types need none.
ENCODING: Final[dict[str, Any]] = {
    "compression": "none",
    "use_dictionary": ["phase"],
    "column_encoding": {
        **dict.fromkeys(("due_ns", "row", "copy", "after", "think_ns"), "DELTA_BINARY_PACKED"),
        "session": "PLAIN",
    },
    "store_schema": False,
}

Int64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Arrays of one length n, ordered by `due_ns` (int64 ns from the schedule's zero, ascending).

    `row` int64 is the trace row to send, `copy` int32 which clone of it (0 is the original), `session` int64
    a number per (session, copy), 0 or more and not compact, `after` int64 the index of the turn it follows
    or −1, `think_ns` int64 the time between that turn's end and this due instant, `phase` int8 an index into
    the lineage's `phases`.
    """

    due_ns: Int64
    row: Int64
    copy: npt.NDArray[np.int32]
    session: Int64
    after: Int64
    think_ns: Int64
    phase: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.due_ns)

    @property
    def span_ns(self) -> int:
        """Time from the schedule's zero to the last due instant, in ns; 0 when empty."""
        return int(self.due_ns[-1]) if len(self) else 0

    def part(self, start: int, end: int) -> Schedule:
        """The rows in [start, end), not copied; `after` still counts from the whole schedule's first row."""
        return Schedule(**{name: getattr(self, name)[start:end] for name in SCHEDULE_SCHEMA.names})

    @staticmethod
    def none() -> Schedule:
        """A schedule without rows."""
        return Schedule(
            **{field.name: np.empty(0, field.type.to_pandas_dtype()) for field in SCHEDULE_SCHEMA}
        )

    @staticmethod
    def joined(pieces: Sequence[Schedule]) -> Schedule:
        """The schedule of which `pieces` (at least one) are the pieces, in order."""
        columns = {
            name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in SCHEDULE_SCHEMA.names
        }
        return Schedule(**columns)


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Where a schedule comes from: the trace, the steps in order, the seed, and what a replay rewrites.

    `phases` are the names that the schedule's `phase` is an index into; `recipe` says all of it as YAML.
    """

    trace_path: str
    trace_fingerprint: str
    trace_rows: int
    steps: tuple[str, ...]
    seed: int
    rewrite: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    phases: tuple[str, ...] = PHASES
    recipe: str = ""
    tool_version: str = ""
    format_version: int = FORMAT_VERSION


def write_schedule(path: Path, schedule: Schedule, lineage: Lineage, *, overwrite: bool = False) -> None:
    """Write the schedule as Parquet, whole or not at all; raises `BadInput` if `path` exists already."""
    write_pieces(path, [schedule], lambda: lineage, overwrite=overwrite)


def write_pieces(
    path: Path, pieces: Iterable[Schedule], lineage: Callable[[], Lineage], *, overwrite: bool = False
) -> None:
    """Write a schedule that comes in pieces, in order: whole or not at all, in memory for a few of them.

    `lineage` is asked when all pieces were taken. Raises `BadInput` if `path` exists already, and what
    taking a piece raises. Encoding goes on beside the making of what comes next.
    """
    from capture.trace_writer import replace_when_whole  # each worker of a replay reads, and none writes

    with (
        replace_when_whole(path, overwrite=overwrite) as temporary,
        pq.ParquetWriter(temporary, SCHEDULE_SCHEMA, **ENCODING) as writer,
        ThreadPoolExecutor(1) as thread,
    ):
        under_way: deque[Future[None]] = deque()
        for group in _row_groups(pieces):
            under_way.append(thread.submit(writer.write_table, group, GROUP_ROWS))
            if len(under_way) > _GROUPS_WAITING:
                under_way.popleft().result()
        for written in under_way:
            written.result()
        writer.add_key_value_metadata({METADATA_KEY.decode(): footer_of(lineage()).decode()})


def _row_groups(pieces: Iterable[Schedule]) -> Iterator[pa.Table]:
    """The pieces as tables of `GROUP_ROWS` rows or a multiple, the last one of fewer."""
    gathered: list[pa.RecordBatch] = []
    count = 0
    for piece in pieces:
        columns = [_column(getattr(piece, field.name), field.type) for field in SCHEDULE_SCHEMA]
        gathered.append(pa.RecordBatch.from_arrays(columns, schema=SCHEDULE_SCHEMA))
        count += len(piece)
        if count >= GROUP_ROWS:
            table = pa.Table.from_batches(gathered)
            whole = count - count % GROUP_ROWS
            yield table.slice(0, whole)
            gathered = table.slice(whole).to_batches()
            count -= whole
    if count:
        yield pa.Table.from_batches(gathered)


def _column(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    if values.strides == (0,) and 0 < len(values) <= GROUP_ROWS:  # one value throughout (see `rows.same`)
        return _repeated(values[0].item(), kind).slice(0, len(values))
    return pa.array(values, type=kind)


@functools.lru_cache(8)
def _repeated(value: int, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), GROUP_ROWS)


def schedule_fingerprint(schedule: Schedule, lineage: Lineage) -> str:
    """sha256 (hex) of what is due when, and of which trace: equal for runs that may be compared."""
    digest = hashlib.sha256(lineage.trace_fingerprint.encode())
    if lineage.rewrite:
        digest.update(json.dumps(lineage.rewrite, sort_keys=True).encode())
    for field in SCHEDULE_SCHEMA:
        digest.update(np.ascontiguousarray(getattr(schedule, field.name)).tobytes())
    return digest.hexdigest()


def is_schedule(path: Path) -> bool:
    """Whether `path` is a Parquet file that carries a schedule's metadata."""
    try:
        return METADATA_KEY in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def read_schedule(path: Path) -> tuple[Schedule, Lineage]:
    """Read a schedule back; raises `BadInput` for what is no schedule, or is out of order."""
    with _readable(path):
        table = pq.read_table(path)
    lineage = _lineage_of(table.schema, path)
    schedule = Schedule(**{name: table.column(name).to_numpy() for name in SCHEDULE_SCHEMA.names})
    _check(schedule, path, 0, None, len(lineage.phases))
    return schedule, lineage


def read_lineage(path: Path) -> Lineage:
    """The lineage of a schedule, without its rows; raises `BadInput` as `read_schedule` does."""
    with _readable(path):
        schema = pq.read_schema(path)
    return _lineage_of(schema, path)


def read_rows(path: Path) -> int:
    """How many rows a schedule has; raises `BadInput` where its file can't be read."""
    with _readable(path):
        return int(pq.read_metadata(path).num_rows)


def read_batches(path: Path, batch_rows: int) -> Iterator[Schedule]:
    """A schedule's rows in order, up to `batch_rows` at a time; raises what `read_schedule` raises.

    Their `after` counts from the whole schedule's first row.
    """
    phases = len(read_lineage(path).phases)
    first, last_ns = 0, None
    for batch in _batches(path, batch_rows, SCHEDULE_SCHEMA.names):
        piece = Schedule(**{name: batch.column(name).to_numpy() for name in SCHEDULE_SCHEMA.names})
        _check(piece, path, first, last_ns, phases)
        yield piece
        first += len(piece)
        last_ns = int(piece.due_ns[-1]) if len(piece) else last_ns


def row_batches(path: Path, batch_rows: int) -> Iterator[Int64]:
    """The trace rows of a schedule's requests in order, int64[n], up to `batch_rows` at a time; unchecked."""
    return (batch.column(0).to_numpy() for batch in _batches(path, batch_rows, ["row"]))


def _batches(path: Path, batch_rows: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with _readable(path), pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=columns)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"{path}: not a readable schedule ({error}); make one with `peaktape transform`"
        ) from error


def _lineage_of(schema: pa.Schema, path: Path) -> Lineage:
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None and (other := other_kind(schema.metadata)):
        raise BadInput(f"{path}: {other} found, a schedule wanted; make one with `peaktape transform`")
    if raw is None or not schema.equals(SCHEDULE_SCHEMA):
        raise BadInput(f"{path}: not a peaktape schedule; make one with `peaktape transform`")
    parsers = dict.fromkeys(("steps", "phases"), tuple)
    again = "make it again"
    return read_footer(Lineage, raw, str(path), "schedule", again, FORMAT_VERSION, parsers, ("seed",))


def _check(piece: Schedule, path: Path, first: int, before_ns: int | None, phases: int) -> None:
    """Raise `BadInput` for rows out of order, or of a phase without a name; `first` is the number of the
    first row, `before_ns` when the row before it is due."""
    gaps = np.diff(piece.due_ns, prepend=piece.due_ns[:1] if before_ns is None else before_ns)
    backwards = np.flatnonzero(gaps < 0)
    if len(backwards):
        at = int(backwards[0])
        raise BadInput(
            f"{path}: row {first + at}, column due_ns: {piece.due_ns[at]} found after "
            f"{piece.due_ns[at] - gaps[at]}, ascending wanted; make the schedule again with "
            "`peaktape transform`"
        )
    unnamed = np.flatnonzero((piece.phase < 0) | (piece.phase >= phases))
    if len(unnamed):
        at = int(unnamed[0])
        raise BadInput(
            f"{path}: row {first + at}, column phase: {piece.phase[at]} found, one of the {phases} "
            "phases named wanted; make the schedule again with `peaktape transform`"
        )
