"""A trace that an importer has begun to read and that is yet to be written; and the writing of it.

Rows are made as they are asked for and written batch by batch, so that memory stays flat however large the
source is.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from capture.__about__ import VERSION
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_writer import gathered, write_trace


@dataclasses.dataclass(frozen=True)
class PendingTrace:
    """What an importer hands over: metadata, and rows in arrival order, made on demand.

    `dropped` counts by cause what can't be a row; it is complete once the rows are drawn. `fraction_read`
    says how much of the source was worked through, 0 … 1.
    """

    place: Path
    source: str
    wall_zero_ns: int
    rows: Iterator[dict[str, Any]]
    fraction_read: Callable[[], float]
    clock_tick_ns: int = 1
    upstreams: tuple[str, ...] = ()
    redaction: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class RowsDrawn:
    """Counts rows as they are drawn, for sources whose number of rows is known."""

    total: int
    rows: int = 0

    def fraction(self) -> float:
        """Share drawn, 0 … 1."""
        return self.rows / self.total


@dataclasses.dataclass(frozen=True)
class WrittenTrace:
    """What an import came to. `span_ns` runs from the first arrival to the last."""

    rows: int
    span_ns: int
    file_bytes: int
    dropped: dict[str, int]


def write_pending(
    pending: PendingTrace,
    path: Path,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    on_rows: Callable[[int], None] = lambda _: None,
    keys: Keys | None = None,
) -> WrittenTrace:
    """Write at most `limit` rows of `pending` to `path`, encrypted if there are `keys`.

    `on_rows` hears how many are done so far.

    Raises `BadInput` when the source is broken or holds no request; `path` then stays as it was.
    """
    counts: dict[str, Any] = {}
    span: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in gathered(itertools.islice(pending.rows, limit)):
            column = batch.column(batch.schema.get_field_index("arrival_ns"))
            span[:] = [span[0] if span else column[0].as_py(), column[-1].as_py()]
            rows += batch.num_rows
            yield batch
            on_rows(rows)
        if not rows:
            raise BadInput(f"{pending.place}: no request found that can be a row{_told(pending.dropped)}")
        counts.update(seen=rows + sum(pending.dropped.values()), recorded=rows, dropped=dict(pending.dropped))

    metadata = TraceMetadata(
        wall_zero_ns=pending.wall_zero_ns,
        source=f"{pending.source} {pending.place.name}",
        upstreams=pending.upstreams,
        sampling="all" if limit is None else f"first {limit} rows",
        redaction=pending.redaction,
        counts=counts,
        tool_version=VERSION,
        clock_tick_ns=pending.clock_tick_ns,
        notes=pending.notes,
    )
    rows = write_trace(path, batches(), metadata, overwrite=overwrite, keys=keys)
    return WrittenTrace(rows, span[1] - span[0], path.stat().st_size, dict(pending.dropped))


def _told(dropped: dict[str, int]) -> str:
    causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items())
    return f" (left out: {causes})" if causes else ""
