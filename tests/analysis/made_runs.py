"""Runs made from arrays, for the tests of analysis: what the engine would have written for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from capture.encryption_keys import Keys
from replay.analysis.run_table import RunTable
from replay.engine.run_format import RUN_SCHEMA, RunMetadata
from replay.engine.run_writer import RunWriter

MS = 1_000_000
S = 1_000_000_000

CHAT = "POST /v1/chat/completions"
EMBED = "POST /v1/embeddings"
PREDICT = "POST /v2/models/churn/infer"


def metadata(**changes: Any) -> RunMetadata:
    """The metadata of a whole, healthy run."""
    given: dict[str, Any] = {
        "label": "build-a",
        "target": "http://127.0.0.1:9000",
        "zero_monotonic_ns": 0,
        "zero_wall_ns": 0,
        "trace_fingerprint": "trace",
        "schedule_fingerprint": "schedule",
        "steps": (),
        "scheduled": 0,
        "workers": ({"worker": 0, "cpu_s": 1.0, "wall_s": 10.0, "loop_lag_ns": [], "gc_pause_ns": []},),
        **changes,
    }
    return RunMetadata(**given)


@dataclasses.dataclass
class MadeRun:
    """Columns of a run; `None` stands for a sensible default. All times are ns, TTFT and E2E from sent."""

    due_ns: np.ndarray
    e2e_ns: np.ndarray
    ttft_ns: np.ndarray | None = None
    tokens: np.ndarray | None = None
    lateness_ns: np.ndarray | None = None
    endpoint: list[str] | None = None
    model: list[str | None] | None = None
    phase: list[str] | None = None
    status: np.ndarray | None = None
    error: list[str | None] | None = None
    in_flight: np.ndarray | None = None
    sent: np.ndarray | None = None
    retry_after_s: np.ndarray | None = None

    def table(self) -> pa.Table:
        """The Parquet table. Streams are the rows with a TTFT; tokens come evenly from TTFT to E2E."""
        n = len(self.due_ns)
        late = np.zeros(n) if self.lateness_ns is None else self.lateness_ns
        sent_ns = self.due_ns + late
        ttft = np.full(n, np.nan) if self.ttft_ns is None else self.ttft_ns
        tokens = np.full(n, 10) if self.tokens is None else self.tokens
        was_sent = np.ones(n, dtype=bool) if self.sent is None else self.sent
        error: list[str | None] = [None] * n if self.error is None else self.error
        stream = ~np.isnan(ttft)
        offsets, chunks = _reads(sent_ns, ttft, self.e2e_ns, np.where(stream, tokens, 0))
        answered = was_sent & np.array([kind is None for kind in error], dtype=bool)
        columns: dict[str, Any] = {
            "request_id": pa.array([f"r{i:06}" for i in range(n)]),
            "copy": np.zeros(n, dtype=np.int32),
            "session": np.arange(n),
            "phase": self.phase or ["base"] * n,
            "endpoint": self.endpoint or [CHAT] * n,
            "model": self.model or [None] * n,
            "stream": stream,
            "due_ns": self.due_ns.astype(np.int64),
            "dequeued_ns": _instants(self.due_ns, was_sent),
            "connected_ns": _instants(self.due_ns, was_sent),
            "sent_ns": _instants(sent_ns, was_sent),
            "first_byte_ns": _instants(sent_ns + np.nan_to_num(ttft), answered),
            "first_token_ns": _instants(sent_ns + np.nan_to_num(ttft), answered & stream),
            "chunk_ns": pa.ListArray.from_arrays(offsets, pa.array(chunks)),
            "chunk_bytes": pa.ListArray.from_arrays(offsets, pa.array(np.full(len(chunks), 9, np.int32))),
            "chunk_tokens": pa.ListArray.from_arrays(offsets, pa.array(np.ones(len(chunks), np.int32))),
            "end_ns": _instants(sent_ns + self.e2e_ns, was_sent),
            "status": pa.array(
                np.full(n, 200) if self.status is None else self.status, mask=~answered, type=pa.int32()
            ),
            "error": error,
            "error_text": pa.nulls(n, pa.string()),
            "bytes_out": np.full(n, 100),
            "bytes_in": np.full(n, 100),
            "input_tokens": np.full(n, 7, dtype=np.int32),
            "output_tokens": pa.array(tokens.astype(np.int32), mask=~answered),
            "finish_reason": pa.nulls(n, pa.string()),
            "retry_after_s": pa.array(
                np.zeros(n) if self.retry_after_s is None else self.retry_after_s,
                mask=np.ones(n, dtype=bool) if self.retry_after_s is None else np.isnan(self.retry_after_s),
            ),
            "in_flight": np.zeros(n, np.int32) if self.in_flight is None else self.in_flight,
            "worker": np.zeros(n, dtype=np.int32),
            "connection_reused": np.ones(n, dtype=bool),
            "body_sha256": pa.nulls(n, pa.binary(32)),
            "body": pa.nulls(n, pa.binary()),
        }
        arrays = [pa.array(columns[field.name], type=field.type) for field in RUN_SCHEMA]
        return pa.Table.from_arrays(arrays, schema=RUN_SCHEMA)

    def written(self, path: Path, keys: Keys | None = None, **changes: Any) -> Path:
        """The run as a file at `path`, with `metadata` changed as told."""
        about = metadata(**{"scheduled": len(self.due_ns), "label": path.stem, **changes})
        writer = RunWriter(path, keys=keys)
        writer.begin(about)
        for batch in self.table().combine_chunks().to_batches():
            writer.add(batch)
        writer.finish(about)
        return path

    def run(self, **changes: Any) -> RunTable:
        """The run, with `metadata` changed as told."""
        return RunTable.of(self.table(), metadata(**{"scheduled": len(self.due_ns), **changes}))


def _instants(values: np.ndarray, present: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values).astype(np.int64), mask=~present)


def _reads(
    sent_ns: np.ndarray, ttft_ns: np.ndarray, e2e_ns: np.ndarray, tokens: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum(tokens)])
    owner = np.repeat(np.arange(len(tokens)), tokens)
    index = np.arange(offsets[-1]) - offsets[owner]
    gap = (e2e_ns - ttft_ns)[owner] / np.maximum(tokens[owner] - 1, 1)
    chunks = sent_ns[owner] + ttft_ns[owner] + gap * index
    return pa.array(offsets.astype(np.int32)), np.nan_to_num(chunks).astype(np.int64)
