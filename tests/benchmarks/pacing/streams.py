"""How late is a chunk stamped? Many streams at once through both senders, against the server's own stamps."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from loads import Load, constant
from ours import dues_ns, replay_command, row
from processes import run_sender
from senders import Job, Places, Sender, by_number_us, spoken
from server import BenchmarkError, Stamps, read_stamps, serving
from table import spread, table

from replay.engine.run_format import read_run

CHUNKS = 100
INTERVAL_US = 10_000
OPEN_WITHIN_S = 0.8
EVENT_BYTES = len(f'data: {{"choices":[{{"delta":{{"content":"{0:019d}"}}}}]}}\n\n')
TITLES = ("sender", "streams", "chunks seen", "reads", "chunk p50 µs", "chunk p99 µs", "chunk max µs")
MORE_TITLES = ("late p50 µs", "late p99 µs", "late max µs", "CPU s in all")


def _load(streams: int) -> Load:
    # A stream takes a second: all are open before the first one ends.
    return constant(streams / OPEN_WITHIN_S, OPEN_WITHIN_S)


def _command(sender: str, program: str, job: Job) -> Sequence[str]:
    rows = [row(number, int(at_ns), "/v1/stream") for number, at_ns in enumerate(job.load.offsets_ns)]
    return replay_command(program, job, sender, rows)


def chunk_lateness_us(stream: dict[str, Any], zero_ns: int, sent_ns: npt.NDArray[np.int64]) -> list[float]:
    """Per read that completed a chunk: its stamp − the server's stamp of the last chunk it completed."""
    found, total, before = [], 0, 0
    for at_ns, size in zip(stream["chunk_ns"], stream["chunk_bytes"], strict=True):
        total += size
        complete = min(total // EVENT_BYTES, len(sent_ns))
        if complete > before:
            found.append((zero_ns + at_ns - int(sent_ns[complete - 1])) / 1e3)
        before = complete
    return found


def _chunks(job: Job, stamps: Stamps) -> tuple[list[float], int]:
    """All chunk latenesses of a run, and how many chunks it saw."""
    run, metadata = read_run(job.folder / "run.parquet")
    sent = np.zeros((len(job.load.offsets_ns), CHUNKS), dtype=np.int64)
    sent[stamps.chunk_of, stamps.chunk] = stamps.chunk_sent_ns
    found: list[float] = []
    seen = 0
    for stream in run.select(["request_id", "chunk_ns", "chunk_bytes"]).to_pylist():
        number = int(stream["request_id"][1:])
        found += chunk_lateness_us(stream, metadata.zero_monotonic_ns, sent[number])
        seen += min(sum(stream["chunk_bytes"]) // EVENT_BYTES, CHUNKS)
    return found, seen


def _run_once(places: Places, program: str, name: str, streams: int) -> tuple[list[float], list[str]]:
    """Quantiles of chunks, then of the schedule, then CPU seconds; and what was seen, as text."""
    load = _load(streams)
    with tempfile.TemporaryDirectory(prefix="pacing-") as folder:
        stamps_path = Path(folder) / "stamps"
        with serving(places.programs, stamps_path, streams, CHUNKS, INTERVAL_US) as server:
            job = Job(Path(folder), server.port, load)
            sender = Sender(name, "peaktape", functools.partial(_command, name))
            command = sender.command(program, job)
            ended = run_sender(command, job.folder, 180, sender.run_env(), {server.pid})
        stamps = read_stamps(stamps_path)
        due_ns = dues_ns(job, ended)
        chunks_us, seen = _chunks(job, stamps)
        if not chunks_us:
            raise BenchmarkError(f"no chunk was seen: {spoken(ended)}")
        late_us = by_number_us(due_ns, stamps)
    at = [0.5, 0.99, 1.0]
    values = [*np.quantile(chunks_us, at), *np.quantile(late_us, at), ended.cpu_s]
    told = [str(len(stamps.at_ns)), f"{seen}/{streams * CHUNKS}", str(len(chunks_us))]
    return [float(value) for value in values], told


def streams_section(places: Places, program: str, streams: int, repeats: int) -> str:
    """A heading and a table: both senders, repeats interleaved."""
    found: dict[str, list[list[float]]] = {"wire": [], "session": []}
    told: dict[str, list[str]] = {}
    for _ in range(repeats):
        for name, runs in found.items():
            values, told[name] = _run_once(places, program, name, streams)
            runs.append(values)
    rows = [
        [f"peaktape {name}", *told[name], *(spread(run[at] for run in runs) for at in range(7))]
        for name, runs in found.items()
    ]
    head = (
        f"## {streams} streams at once, {CHUNKS} chunks each, one per {INTERVAL_US // 1000} ms\n\n"
        "Chunk: the stamp in the run − the instant the server handed the chunk to its kernel; of a read that "
        "held several, the last. Late: server arrival − due of the requests that opened the streams.\n\n"
    )
    return head + table((*TITLES, *MORE_TITLES), rows)
