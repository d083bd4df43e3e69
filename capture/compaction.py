"""From a journal file to a segment: frames are joined to rows, rows become Parquet, the journal goes.

Safe to be killed anywhere and done again: a segment appears by rename, its number is its journal's, and the
journal is removed after it. Run by the compactor's process, and by a recovery. What was found wrong on the
way is counted; what is in a journal beside rows does not concern this room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from capture.body_levels import body_levels
from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused, where_it_failed
from capture.journal import Frame, Kind
from capture.journal_folder import segment_of
from capture.row_frames import readable_columns
from capture.sealing import opened_frames
from capture.segments import sync_path
from capture.trace_format import TRACE_SCHEMA, TraceMetadata, check_schema
from capture.trace_writer import ROW_GROUP_ROWS, TraceFile, batch_of

BATCH_ROWS: Final = 200
BATCH_BYTES: Final = 2 << 20

_WANTED: Final = tuple(field.name for field in TRACE_SCHEMA if not field.nullable)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Compacted:
    """What came of a journal: rows in its segment, the segment's size, and rows lost by cause."""

    rows: int
    segment_bytes: int
    dropped: dict[str, int]


def compact(
    journal: Path, metadata: TraceMetadata, keys: Keys | None = None, *, empty_too: bool = False
) -> Compacted:
    """Make the segment of a closed journal file, then remove the file.

    A journal without rows leaves no segment, unless `empty_too`. A segment that is there already is this
    journal's when it is of the same capture; anything else in its place is set aside as NAME.damaged.
    With `keys`, the segment is encrypted, and the journal may be sealed.
    Raises OSError when the disk refuses, `KeyRefused` when a key is missing; the journal stays then.
    """
    segment = segment_of(journal)
    done = _rows_of_same(segment, metadata, keys)
    if done is not None:
        journal.unlink()
        return Compacted(done, segment.stat().st_size, {})
    dropped: Counter[str] = Counter()
    batches = list(_batches(opened_frames(journal.read_bytes(), keys, str(journal)), dropped))
    rows = sum(batch.num_rows for batch in batches)
    size_bytes = 0
    if rows or empty_too:
        size_bytes = write_segment(segment, batches, _counted(metadata, dropped), keys)
    journal.unlink()
    sync_path(journal.parent)
    return Compacted(rows, size_bytes, dict(dropped))


def _counted(metadata: TraceMetadata, dropped: Counter[str]) -> TraceMetadata:
    """The metadata with the rows that were lost here counted as such."""
    if not dropped:
        return metadata
    counts = dict(metadata.counts)
    counts["recorded"] = counts.get("recorded", 0) - dropped.total()
    counts["dropped"] = dict(Counter(counts.get("dropped", {})) + dropped)
    return dataclasses.replace(metadata, counts=counts)


def rows_in(frames: Iterable[Frame]) -> Iterator[dict[str, Any]]:
    """The rows of a journal in the order in which they ended: what was asked joined with what came of it."""
    asked: dict[Any, dict[str, Any]] = {}
    for kind, columns in readable_columns(frames):
        name = columns.get("request_id")
        if kind == Kind.REQUEST:
            asked[name] = columns
        elif kind == Kind.LOST:
            asked.pop(name, None)
        elif kind == Kind.END:
            yield {**asked.pop(name, {}), **columns}


def _rows_of_same(segment: Path, metadata: TraceMetadata, keys: Keys | None) -> int | None:
    """The rows of a segment that this capture wrote before, None when there is none; others are set aside."""
    if not segment.exists():
        return None
    try:
        with open_parquet(segment, keys) as file:
            found = check_schema(file.schema_arrow, file.metadata.metadata, str(segment))
            if (found.source, found.wall_zero_ns) == (metadata.source, metadata.wall_zero_ns):
                return int(file.metadata.num_rows)
    except KeyRefused:
        raise
    except (OSError, pa.ArrowException, BadInput) as error:
        logger.warning("peaktape: %s is in the way and is set aside: %s", segment, error)
    segment.rename(segment.with_name(f"{segment.name}.damaged"))
    return None


def _batches(frames: Iterable[Frame], dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    size_bytes = 0
    for row in rows_in(frames):
        if any(row.get(name) is None for name in _WANTED):
            dropped["journal_damaged"] += 1
            continue
        rows.append(row)
        size_bytes += len(row.get("request_body") or b"") + len(row.get("response_body") or b"")
        if len(rows) >= BATCH_ROWS or size_bytes >= BATCH_BYTES:
            yield from _written(rows, dropped)
            rows, size_bytes = [], 0
    yield from _written(rows, dropped)


def _written(rows: list[dict[str, Any]], dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
    """`rows` as a batch; a row that Arrow refuses does not take the others along."""
    if not rows:
        return
    try:
        yield batch_of(rows)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        if len(rows) == 1:
            said = "peaktape: %s is dropped (%s)"
            logger.warning(said, rows[0].get("request_id"), where_it_failed(error))
            dropped["unwritable"] += 1
            return
        for row in rows:
            yield from _written([row], dropped)


def write_segment(
    path: Path, batches: Iterable[pa.RecordBatch], metadata: TraceMetadata, keys: Keys | None = None
) -> int:
    """Write rows as one segment, sorted by arrival and encrypted if there are keys; the file's size in bytes.

    It appears by rename once it is safe on disk. Raises OSError when the disk refuses, and `KeyRefused`:
    nothing is left then.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # a half of one who was killed
        _write(temporary, batches, metadata, keys)
        temporary.replace(path)
        sync_path(path.parent)
        return path.stat().st_size
    except (OSError, pa.ArrowException, KeyRefused) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise error if isinstance(error, OSError | KeyRefused) else OSError(str(error)) from error


def _write(path: Path, batches: Iterable[pa.RecordBatch], metadata: TraceMetadata, keys: Keys | None) -> None:
    table = pa.Table.from_batches(batches, TRACE_SCHEMA).combine_chunks()
    order = pc.sort_indices(table["arrival_ns"])
    with TraceFile(path, keys, body_levels(table)) as file:
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            for batch in table.take(order.slice(start, ROW_GROUP_ROWS)).to_batches():
                file.write(batch)
        file.close(metadata)
    sync_path(path)
