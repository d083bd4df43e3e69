"""Before a replay: where did the trace come from, how early to stage, how many workers are needed?"""

from __future__ import annotations

import math
import os
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from capture.trace_reader import Trace
from replay.engine.sender import SESSION, WIRE
from replay.engine.target import split_authority
from replay.transform.schedule_format import Schedule

LEAD_FLOOR_NS: Final = 20_000_000
LEAD_CEILING_NS: Final = 2_000_000_000
REQUESTS_PER_S_PER_WORKER: Final = {SESSION: 400.0, WIRE: 2500.0}
"""What one worker keeps up with comfortably, streams included; see tests/benchmarks/pacing."""
CHUNKS_PER_S_PER_WORKER: Final = {SESSION: 10_000.0, WIRE: 30_000.0}
TOKEN_NS: Final = 20_000_000
"""How long a token is taken to last where a trace knows how many there were and not when they came."""


def captured_places(trace: Trace) -> set[tuple[str, int]]:
    """Every (host, port) that requests of the trace went to: the upstreams, and the names clients called.

    A client's Host header may be the proxy's own name: in production that leads to the same servers.
    """
    hosts = trace.column("host").to_pylist()
    schemes = dict(zip(hosts, trace.column("scheme").to_pylist(), strict=True))
    places = {(authority, "http") for authority in trace.metadata.upstreams} | set(schemes.items())
    for batch in trace.iter_batches(["scheme", "request_headers"]):
        headers = batch.column("request_headers")
        names = pc.utf8_lower(pc.struct_field(headers.flatten(), "name"))
        values = pc.struct_field(headers.flatten(), "value")
        scheme = batch.column("scheme").take(pc.list_parent_indices(headers))
        named = pc.is_in(names, pa.array(["host", ":authority"]))
        called = zip(values.filter(named).to_pylist(), scheme.filter(named).to_pylist(), strict=True)
        places.update(called)
    return {split_authority(host, 443 if scheme == "https" else 80) for host, scheme in places if host}


def lead_ns(connect_ns: int) -> int:
    """How long before its due instant a request is staged, in ns: time to connect, four times over."""
    return min(LEAD_CEILING_NS, LEAD_FLOOR_NS + 4 * connect_ns)


def processors() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busiest_per_s(schedule: Schedule) -> int:
    """Requests in the schedule's busiest second."""
    if not len(schedule):
        return 0
    return int(np.unique(schedule.due_ns // 1_000_000_000, return_counts=True)[1].max())


def busiest_chunks_per_s(trace: Trace, schedule: Schedule) -> int:
    """Chunks of streams to be expected in the busiest second, if the target answers as the recorded one did.

    A request's recorded chunks are laid evenly over its recorded time, from its due instant. Streams without
    recorded chunks count one for each output token.
    """
    if not len(schedule) or not trace.may_hold("stream", True):
        return 0
    chunks, took_s = _chunks_of_rows(trace)
    streams = np.flatnonzero(chunks[schedule.row])
    if not len(streams):
        return 0
    due_s, row = schedule.due_ns[streams] / 1e9, schedule.row[streams]
    first = due_s.astype(np.int64)
    after = (due_s + took_s[row]).astype(np.int64) + 1
    each = chunks[row] / (after - first)
    _, edges = np.unique(np.concatenate((first, after)), return_inverse=True)
    return round(float(np.cumsum(np.bincount(edges, np.concatenate((each, -each)))).max()))


def _chunks_of_rows(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Of each trace row: chunks of its answer, int32, and the time it took from its arrival, float32 s."""
    counts, spans = [], []
    for batch in trace.iter_batches(["arrival_ns", "end_ns", "chunk_ns", "output_tokens", "stream"]):
        found = batch.column("chunk_ns").value_lengths().to_numpy(zero_copy_only=False)
        tokens = pc.fill_null(batch.column("output_tokens").cast(pa.int64()), 0)
        tokens = np.maximum(tokens.to_numpy(zero_copy_only=False), 0)
        guessed = (found == 0) & batch.column("stream").to_numpy(zero_copy_only=False)
        took_ns = pc.fill_null(pc.subtract(batch.column("end_ns"), batch.column("arrival_ns")), 0)
        took_ns = np.maximum(took_ns.to_numpy(zero_copy_only=False), 0)
        counts.append(np.where(guessed, tokens, found).astype(np.int32))
        spans.append((np.where(guessed, tokens * TOKEN_NS, took_ns) / 1e9).astype(np.float32))
    return np.concatenate(counts), np.concatenate(spans)


def workers_for(schedule: Schedule, cores: int, sender: str, chunks_per_s: float = 0) -> int:
    """Workers for a schedule's busiest second, 1 … sessions, leaving one core to everything else."""
    wanted = math.ceil(
        busiest_per_s(schedule) / REQUESTS_PER_S_PER_WORKER[sender]
        + chunks_per_s / CHUNKS_PER_S_PER_WORKER[sender]
    )
    sessions = len(np.unique(schedule.session))
    return max(1, min(wanted, cores - 1, sessions))
