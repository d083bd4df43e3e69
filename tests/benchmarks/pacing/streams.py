"""How late is a chunk stamped? Many streams at once, against the server's own stamps.

Through both of our senders, and through a C program that only reads and stamps: what the machine can do.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from loads import Load, constant
from ours import dues_ns, replay_command, row
from processes import Ended, run_sender
from senders import Job, Places, Sender, by_number_us, spoken
from server import BenchmarkError, Stamps, compiled, read_stamps, serving
from table import spread, table

from replay.engine.run_format import read_run

FLOOR = "C, epoll"
CHUNKS = 100
INTERVAL_US = 10_000
OPEN_WITHIN_S = 0.8
AT = (0.5, 0.99, 1.0)
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_BYTES = len(HEAD)
EVENT_BYTES = len(f'data: {{"choices":[{{"delta":{{"content":"{0:019d}"}}}}]}}\n\n')
FRAMED_BYTES = len(f"{EVENT_BYTES:x}\r\n\r\n") + EVENT_BYTES
NOTES = f"""\
## {{streams}} streams at once, {CHUNKS} chunks each, one per {INTERVAL_US // 1000} ms

- Chunk: the stamp in the run − the instant the server handed the chunk to its kernel; of a read that held
  several, the last. "{FLOOR}" reads, stamps and throws away, and is told of streams as they come.
- Late: server arrival − due of the requests that opened the streams; sent: by our own stamps, sent − due.
- CPU: of the process that sends and reads, spinning included. Server: how late it was with its own chunks.

"""
TITLES = ("sender", "streams", "chunks seen", "reads", "chunk p50 µs", "chunk p99 µs", "chunk max µs")
MORE_TITLES = ("late p50 µs", "late p99 µs", "late max µs", "sent p99 µs", "CPU µs a chunk", "server p99 µs")
SENDERS = (FLOOR, "wire", "session")
ALL_MAY_TAKE_S = 180.0


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a client saw: per stream the reads' instants (absolute ns) and body bytes, and when it asked.

    `late_sent_us` is by its own stamps, empty where it takes none; `cpu_s` from the first request on.
    """

    reads: dict[int, tuple[Sequence[int], Sequence[int]]]
    due_ns: npt.NDArray[np.int64]
    late_sent_us: npt.NDArray[np.float64]
    cpu_s: float


def _load(streams: int) -> Load:
    # A stream takes a second: all are open before the first one ends.
    return constant(streams / OPEN_WITHIN_S, OPEN_WITHIN_S)


def _command(sender: str, program: str, job: Job) -> Sequence[str]:
    rows = [row(number, int(at_ns), "/v1/stream") for number, at_ns in enumerate(job.load.offsets_ns)]
    return replay_command(program, job, sender, rows)


def chunk_lateness_us(
    at_ns: Sequence[int], sizes: Sequence[int], event_bytes: int, sent_ns: npt.NDArray[np.int64]
) -> list[float]:
    """Per read that completed a chunk: its stamp − the server's stamp of the last chunk it completed."""
    found, total, before = [], 0, 0
    for came_ns, size in zip(at_ns, sizes, strict=True):
        total += size
        complete = min(total // event_bytes, len(sent_ns))
        if complete > before:
            found.append((came_ns - int(sent_ns[complete - 1])) / 1e3)
        before = complete
    return found


def server_lag_us(stamps: Stamps, streams: int) -> npt.NDArray[np.float64]:
    """How late the server itself was: after its request, a stream has a chunk due every interval."""
    asked_ns = np.zeros(streams, dtype=np.int64)
    asked_ns[stamps.number] = stamps.at_ns
    due_ns = asked_ns[stamps.chunk_of] + (stamps.chunk + 1) * INTERVAL_US * 1000
    return (stamps.chunk_sent_ns - due_ns) / 1e3


def _seen_by_peaktape(job: Job, ended: Ended) -> Seen:
    due_ns = dues_ns(job, ended)
    run, metadata = read_run(job.folder / "run.parquet")
    reads = {}
    for stream in run.select(["request_id", "chunk_ns", "chunk_bytes"]).to_pylist():
        at_ns = [metadata.zero_monotonic_ns + one for one in stream["chunk_ns"]]
        reads[int(stream["request_id"][1:])] = (at_ns, stream["chunk_bytes"])
    late_ns = pc.subtract(run["sent_ns"], run["due_ns"]).drop_null().to_numpy()
    return Seen(reads, due_ns, np.abs(late_ns) / 1e3, sum(one["cpu_s"] for one in metadata.workers))


def _floor_command(program: str, job: Job) -> Sequence[str]:
    job.load.offsets_ns.tofile(job.folder / "offsets.bin")
    return [program, str(job.port), "offsets.bin", "reads.bin"]


def _seen_by_floor(job: Job, ended: Ended) -> Seen:
    if ended.status:
        raise BenchmarkError(f"the stream reader ended with {ended.status}: {spoken(ended)}")
    zero_ns, cpu_ns = map(int, spoken(ended).split())
    rows = np.fromfile(job.folder / "reads.bin", dtype=np.int64).reshape(-1, 3)
    rows = rows[np.argsort(rows[:, 1], kind="stable")]
    cuts = np.flatnonzero(np.diff(rows[:, 1])) + 1
    reads = {}
    for one in np.split(rows, cuts):
        sizes = one[:, 2].copy()
        sizes[0] -= HEAD_BYTES  # its reads are of the connection, ours of the body
        reads[int(one[0, 1])] = (one[:, 0].tolist(), sizes.tolist())
    return Seen(reads, zero_ns + job.load.offsets_ns, np.zeros(0), cpu_ns / 1e9)


def _run_once(places: Places, program: str, name: str, streams: int) -> tuple[list[float], list[str]]:
    """Quantiles of chunks, then of the schedule, CPU and the server's own; and what was seen, as text."""
    load, is_floor = _load(streams), name == FLOOR
    with tempfile.TemporaryDirectory(prefix="pacing-") as folder:
        stamps_path = Path(folder) / "stamps"
        with serving(places.programs, stamps_path, streams, CHUNKS, INTERVAL_US) as server:
            job = Job(Path(folder), server.port, load)
            make = _floor_command if is_floor else functools.partial(_command, name)
            sender = Sender(name, "peaktape", make)
            command = sender.command(program, job)
            ended = run_sender(command, job.folder, ALL_MAY_TAKE_S, sender.run_env(), {server.pid})
        stamps = read_stamps(stamps_path)
        seen = (_seen_by_floor if is_floor else _seen_by_peaktape)(job, ended)
    sent_ns = np.zeros((streams, CHUNKS), dtype=np.int64)
    sent_ns[stamps.chunk_of, stamps.chunk] = stamps.chunk_sent_ns
    event_bytes = FRAMED_BYTES if is_floor else EVENT_BYTES
    chunks_us = [
        late
        for number, (at_ns, sizes) in seen.reads.items()
        for late in chunk_lateness_us(at_ns, sizes, event_bytes, sent_ns[number])
    ]
    if not chunks_us:
        raise BenchmarkError(f"no chunk was seen: {spoken(ended)}")
    whole = sum(min(sum(sizes) // event_bytes, CHUNKS) for _, sizes in seen.reads.values())
    values = [
        *np.quantile(chunks_us, AT),
        *np.quantile(by_number_us(seen.due_ns, stamps), AT),
        np.quantile(seen.late_sent_us, 0.99) if len(seen.late_sent_us) else math.nan,
        seen.cpu_s / (streams * CHUNKS) * 1e6,
        np.quantile(server_lag_us(stamps, streams), 0.99),
    ]
    told = [str(len(stamps.at_ns)), f"{whole}/{streams * CHUNKS}", str(len(chunks_us))]
    return [float(value) for value in values], told


def streams_section(
    places: Places, program: str, streams: int, repeats: int, tell: Callable[[str], None]
) -> str:
    """A heading and a table: the floor and both senders, repeats interleaved."""
    programs = dict.fromkeys(SENDERS, program)
    floor = compiled("stream_reader", places.programs)
    if floor is None or sys.platform != "linux":
        del programs[FLOOR]
    else:
        programs[FLOOR] = str(floor)
    found: dict[str, list[list[float]]] = {name: [] for name in programs}
    told: dict[str, list[str]] = {}
    for _ in range(repeats):
        for name, runs in found.items():
            values, told[name] = _run_once(places, programs[name], name, streams)
            tell(f"{streams} streams, {name}: chunk p99 {values[1]:.0f} µs, late p99 {values[4]:.0f} µs")
            runs.append(values)
    rows = [
        [
            name if name == FLOOR else f"peaktape {name}",
            *told[name],
            *(spread(run[at] for run in runs) for at in range(len(runs[0]))),
        ]
        for name, runs in found.items()
    ]
    return NOTES.format(streams=streams) + table((*TITLES, *MORE_TITLES), rows)
