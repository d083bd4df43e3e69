"""Large runs made from arrays, written by the engine's own writer: what a million-request replay leaves.

55 % streamed chats of two models, 30 % embeddings, 15 % predict; 1,000 requests/s with a spike in the
middle; latencies that wander together over seconds. Rows stand in the order in which requests ended.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from replay.engine.run_format import RUN_SCHEMA, RunMetadata
from replay.engine.run_writer import RunWriter

MS = 1_000_000
S = 1_000_000_000
PER_S = 1000.0
BATCH_ROWS = 500
ENDPOINTS = ("POST /v1/chat/completions", "POST /v1/embeddings", "POST /v2/models/churn/infer")
MODELS = ("llama-3.1-8b-instruct", "qwen-2.5-32b", "bge-m3", None)


def write_run(
    path: Path, label: str, requests: int, reads: float, noise: np.random.Generator, *, slower: float = 1.0
) -> None:
    """A run of `requests`, streams of about `reads` reads each; `slower` multiplies the time to first token.

    The workload is the same for the same `requests` and `reads`; `noise` makes the arm.
    """
    work = np.random.default_rng(20)
    due = np.sort(work.uniform(0, requests / PER_S * S, requests)).astype(np.int64)
    kind = work.choice(3, size=requests, p=(0.55, 0.30, 0.15))
    model = np.where(kind == 0, (work.random(requests) < 0.3).astype(int), np.where(kind == 1, 2, 3))
    prompt = np.maximum(work.lognormal(5.5, 1.2, requests), 1).astype(np.int32)
    tokens = np.where(kind == 0, np.maximum(work.lognormal(np.log(reads) - 0.18, 0.6, requests), 1), 0)
    tokens = tokens.astype(np.int64)
    speed = np.exp(0.1 * _wander(due, noise))
    jitter = noise.lognormal(0, 0.1, requests)
    first = np.choose(kind, (80 * MS + 0.05 * MS * prompt, 15 * MS, 6 * MS)) * speed * jitter
    first = (first * np.where(kind == 0, slower, 1.0)).astype(np.int64)
    gap = (12 * MS * speed * noise.lognormal(0, 0.05, requests)).astype(np.int64)
    sent = due + (noise.exponential(0.04 * MS, requests)).astype(np.int64)
    end = sent + first + gap * np.maximum(tokens - 1, 0)
    order = np.argsort(end, kind="stable")
    spike = (due > 0.5 * due[-1]) & (due < 0.6 * due[-1])
    metadata = RunMetadata(
        label, "http://127.0.0.1:9000", 1, 2, "trace", "schedule", ("speed 5",), scheduled=requests
    )
    writer = RunWriter(path)
    writer.begin(metadata)
    for start in range(0, requests, BATCH_ROWS):
        rows = order[start : start + BATCH_ROWS]
        n = len(rows)
        at = np.concatenate([[0], np.cumsum(tokens[rows])]).astype(np.int32)
        owner = np.repeat(np.arange(n), tokens[rows])
        nth = np.arange(at[-1]) - at[owner]
        chunks = (sent + first)[rows][owner] + gap[rows][owner] * nth
        chunks = chunks + noise.integers(0, 1 * MS, len(chunks))
        streams = kind[rows] == 0
        begun = (sent + first)[rows]
        columns = {
            "request_id": pa.array([f"{i:08x}-4c1d-9b7e" for i in rows]),
            "copy": np.zeros(n, np.int32),
            "session": rows // 3,
            "phase": pa.array(np.where(spike[rows], "spike", "base").tolist()),
            "endpoint": pa.array([ENDPOINTS[k] for k in kind[rows]]),
            "model": pa.array([MODELS[m] for m in model[rows]], pa.string()),
            "stream": streams,
            "due_ns": due[rows],
            "dequeued_ns": due[rows],
            "connected_ns": due[rows],
            "sent_ns": sent[rows],
            "first_byte_ns": begun,
            "first_token_ns": pa.array(begun, mask=~streams),
            "chunk_ns": pa.ListArray.from_arrays(at, pa.array(chunks)),
            "chunk_bytes": pa.ListArray.from_arrays(at, pa.array(np.full(len(chunks), 180, np.int32))),
            "chunk_tokens": pa.ListArray.from_arrays(at, pa.array(np.ones(len(chunks), np.int32))),
            "end_ns": end[rows],
            "status": np.full(n, 200, np.int32),
            "bytes_out": 400 + 5 * prompt[rows].astype(np.int64),
            "bytes_in": 200 + 180 * tokens[rows],
            "input_tokens": pa.array(prompt[rows], mask=kind[rows] == 2),
            "output_tokens": pa.array(tokens[rows].astype(np.int32), mask=kind[rows] != 0),
            "finish_reason": pa.array(np.where(streams, "stop", None).tolist(), pa.string()),
            "in_flight": noise.integers(0, 400, n).astype(np.int32),
            "worker": np.zeros(n, np.int32),
            "connection_reused": noise.random(n) < 0.98,
        }
        absent = pa.nulls(n)
        arrays = [_array(columns.get(field.name, absent), field.type) for field in RUN_SCHEMA]
        writer.add(pa.RecordBatch.from_arrays(arrays, schema=RUN_SCHEMA))
    writer.finish(metadata)


def _array(values: object, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, type=kind)


def _wander(due_ns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An autoregressive path in steps of 0.1 s with a correlation time of 2 s, of variance 1, at each due."""
    steps = int(due_ns[-1] / (0.1 * S)) + 2
    keep = np.exp(-0.1 / 2.0)
    shocks = rng.normal(0, np.sqrt(1 - keep**2), steps)
    path = np.empty(steps)
    level = rng.normal()
    for step in range(steps):
        level = keep * level + shocks[step]
        path[step] = level
    return path[(due_ns / (0.1 * S)).astype(np.int64)]
