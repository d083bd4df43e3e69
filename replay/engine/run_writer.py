"""Writing a run while it happens: finished exchanges → rows of `RUN_SCHEMA` → a partial file → the run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from capture.failures import BadInput
from replay.engine.exchange import FINISHED_FIELDS
from replay.engine.responses import read_response
from replay.engine.run_format import DROP, KEEP, METADATA_KEY, RUN_SCHEMA, RunMetadata, partial_of
from replay.transform.schedule_format import PHASES

BATCH_ROWS: Final = 500
FLUSH_S: Final = 1.0
BATCH_BYTES: Final = 32 << 20
"""With so many bytes of bodies, a batch or a row group is full: memory is bounded by it."""
BATCHES_A_GROUP: Final = 20
_COLUMNS: Final = frozenset(RUN_SCHEMA.names)  # Arrow builds the list anew at each look
_INSTANTS: Final = ("due_ns", "chunk_ns.list.element")


def run_row(worker: int, values: tuple[Any, ...], zero_ns: int, bodies: str = DROP) -> dict[str, Any]:
    """The run row of what a worker reported (`FINISHED_FIELDS`), instants as offsets from the zero.

    `bodies` is one of `BODIES`. Of an answer that broke off, the body is what had come by then.
    """
    found: dict[str, Any] = dict(zip(FINISHED_FIELDS, values, strict=True))
    body = found.pop("body")
    reading = read_response(
        body, found["read_bytes"], found.pop("content_type"), found.pop("content_encoding")
    )
    answered = found["status"] is not None
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
        "body_sha256": hashlib.sha256(body).digest() if answered and bodies != DROP else None,
        "body": body if answered and bodies == KEEP else None,
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
    """Appends rows to `PATH.partial` as they come; `finish` makes the run file of it, and removes it.

    The partial file is an Arrow IPC stream: whatever ends the replay, it reads up to its last whole batch.
    `bodies` is what the run keeps of answers (`BODIES`); it stands in the metadata that is written, too.
    """

    def __init__(self, path: Path, bodies: str = DROP) -> None:
        self.bodies = bodies
        self._path = path
        self._partial = partial_of(path)
        self._rows: list[dict[str, Any]] = []
        self._body_bytes = 0
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._file: IO[bytes] | None = None
        self._flushed_at_s = 0.0
        self.written = 0
        self.longest_write_s = 0.0
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")

    def begin(self, metadata: RunMetadata) -> None:
        """Start the rows; `metadata` is what is known by now, and stays in the partial file."""
        schema = RUN_SCHEMA.with_metadata({METADATA_KEY: metadata.to_json()})
        with self._disk():
            self._stream = pa.ipc.new_stream(
                self._file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
            )

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows; every `BATCH_ROWS` of them, `BATCH_BYTES` of bodies, or `FLUSH_S`, they go to disk."""
        for row in rows:
            self._rows.append(row)
            self._body_bytes += len(row.get("body") or b"")
            if self._body_bytes >= BATCH_BYTES:
                self.flush()
        if len(self._rows) >= BATCH_ROWS or time.monotonic() - self._flushed_at_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered as one batch."""
        self._flushed_at_s = time.monotonic()
        if not self._rows or self._stream is None or self._file is None:
            return
        columns = [
            pa.array([row.get(field.name) for row in self._rows], type=field.type) for field in RUN_SCHEMA
        ]
        began_s = time.monotonic()
        with self._disk():
            self._write(pa.RecordBatch.from_arrays(columns, schema=RUN_SCHEMA))
        self.longest_write_s = max(self.longest_write_s, time.monotonic() - began_s)
        self.written += len(self._rows)
        self._rows, self._body_bytes = [], 0

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._stream is not None and self._file is not None:
            self._stream.write_batch(batch)
            self._file.flush()

    def finish(self, metadata: RunMetadata) -> None:
        """Write the rest, and the run file with `metadata`, whole or not at all."""
        if self._stream is None:  # stopped before the start
            self.begin(metadata)
        self.flush()
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with self._disk():
                self._close()
                _to_parquet(self._partial, temporary, metadata.to_json())
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(self._path)
                self._partial.unlink()
        finally:
            temporary.unlink(missing_ok=True)

    def abandon(self) -> Path | None:
        """Let go: the partial file, if it holds rows, is what comes back, else it is removed.

        Harmless after `finish`.
        """
        with contextlib.suppress(OSError, pa.ArrowException, BadInput):
            self.flush()
        with contextlib.suppress(OSError, pa.ArrowException):
            self._close()
        if self.written and self._partial.exists():
            return self._partial
        self._partial.unlink(missing_ok=True)
        return None

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._file is not None:
            self._file.close()
        self._stream = self._file = None

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"{self._path}: can't be written ({error.strerror or error}); "
                "free space or choose another place"
            ) from error


def _to_parquet(partial: Path, path: Path, metadata: bytes) -> None:
    with (
        partial.open("rb") as rows,
        pa.ipc.open_stream(rows) as stream,
        pq.ParquetWriter(
            path,
            RUN_SCHEMA,
            compression="zstd",
            compression_level=3,
            use_dictionary=["phase", "endpoint", "model", "error", "finish_reason"],
            column_encoding=dict.fromkeys(_INSTANTS, "DELTA_BINARY_PACKED"),
        ) as file,
    ):
        for batches in _groups(stream):
            file.write_table(pa.Table.from_batches(batches, stream.schema).replace_schema_metadata())
        file.add_key_value_metadata({METADATA_KEY: metadata})


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """The batches in groups of up to `BATCHES_A_GROUP`, smaller ones where bodies are large."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == BATCHES_A_GROUP or sum(one.nbytes for one in group) >= BATCH_BYTES:
            yield group
            group = []
    if group:
        yield group
