"""Writing a run while it happens: finished exchanges → rows of `RUN_SCHEMA` → one Parquet file, by rename."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from capture.failures import BadInput
from replay.engine.exchange import FINISHED_FIELDS
from replay.engine.responses import read_response
from replay.engine.run_format import METADATA_KEY, RUN_SCHEMA, RunMetadata
from replay.transform.schedule_format import PHASES

BATCH_ROWS: Final = 500
_COLUMNS: Final = frozenset(RUN_SCHEMA.names)  # Arrow builds the list anew at each look
_INSTANTS: Final = ("due_ns", "chunk_ns.list.element")


def run_row(worker: int, values: tuple[Any, ...], zero_ns: int) -> dict[str, Any]:
    """The run row of what a worker reported (`FINISHED_FIELDS`), instants as offsets from the zero."""
    found: dict[str, Any] = dict(zip(FINISHED_FIELDS, values, strict=True))
    reading = read_response(
        found.pop("body"), found["read_bytes"], found.pop("content_type"), found.pop("content_encoding")
    )
    read_ns = [stamp - zero_ns for stamp in found.pop("read_ns")]
    row = {name: found[name] for name in found if name in _COLUMNS}
    for name in ("dequeued_ns", "connected_ns", "sent_ns", "first_byte_ns", "end_ns"):
        row[name] = None if found[name] is None else found[name] - zero_ns
    answer = reading.answer
    if row["error"] is None and answer.error is not None and (row["status"] or 0) < 400:
        row["error"], row["error_text"] = "stream_error", answer.error
    return row | {
        "phase": PHASES[found["phase"]],
        "first_token_ns": None if reading.first_token_read is None else read_ns[reading.first_token_read],
        "chunk_ns": read_ns,
        "chunk_bytes": found["read_bytes"],
        "chunk_tokens": list(reading.tokens_per_read),
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "finish_reason": answer.finish_reason,
        "worker": worker,
    }


def unsent_row(facts: Mapping[str, Any], error: str) -> dict[str, Any]:
    """The row of a scheduled request that no worker reported; `facts` are its columns up to `due_ns`."""
    return dict(facts) | {
        "error": error,
        "chunk_ns": [],
        "chunk_bytes": [],
        "chunk_tokens": [],
        "bytes_out": 0,
        "bytes_in": 0,
        "in_flight": 0,
        "worker": -1,
        "connection_reused": False,
    }


class RunWriter:
    """Appends rows in batches to a temporary file beside `path`; `finish` gives it its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        self._rows: list[dict[str, Any]] = []
        self.written = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._temporary,
                RUN_SCHEMA,
                compression="zstd",
                compression_level=3,
                use_dictionary=["phase", "endpoint", "model", "error", "finish_reason"],
                column_encoding=dict.fromkeys(_INSTANTS, "DELTA_BINARY_PACKED"),
            )
        except OSError as error:
            raise self._failure(error) from error

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows; every `BATCH_ROWS` of them go to disk."""
        self._rows.extend(rows)
        if len(self._rows) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered as one row group."""
        if not self._rows:
            return
        columns = [
            pa.array([row.get(field.name) for row in self._rows], type=field.type) for field in RUN_SCHEMA
        ]
        try:
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=RUN_SCHEMA))
        except OSError as error:
            raise self._failure(error) from error
        self.written += len(self._rows)
        self._rows = []

    def finish(self, metadata: RunMetadata) -> None:
        """Write the rest and the metadata, and put the file in its place."""
        self.flush()
        try:
            self._writer.add_key_value_metadata({METADATA_KEY: metadata.to_json()})
            self._writer.close()
            self._temporary.replace(self._path)
        except OSError as error:
            raise self._failure(error) from error

    def abandon(self) -> None:
        """Remove what was written; harmless after `finish`."""
        if self._temporary.exists():
            self._writer.close()
            self._temporary.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> BadInput:
        return BadInput(
            f"{self._path}: can't be written ({error.strerror or error}); free space or choose another place"
        )
