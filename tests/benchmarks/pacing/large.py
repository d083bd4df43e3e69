"""What do large requests cost the small ones beside them? Small ones alone, then with 1 MB every 100 ms."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from loads import Load, constant
from ours import SMALL, dues_ns, replay_command, row
from processes import run_sender
from senders import Job, Places, Sender
from server import BenchmarkError, read_stamps, serving
from table import ratio, spread, table

SMALL_RATE_PER_S = 500.0
LARGE_BYTES = 1_000_000
LARGE_EVERY_S = 0.1


def _command(sender: str, large_from: int, program: str, job: Job) -> Sequence[str]:
    body = json.dumps(SMALL | {"prompt": "word " * (LARGE_BYTES // 5)}).encode()
    rows = [
        row(number, int(at_ns), body=body if number >= large_from else b"")
        for number, at_ns in enumerate(job.load.offsets_ns)
    ]
    return replay_command(program, job, sender, sorted(rows, key=lambda one: one["arrival_ns"]))


def _mixed(seconds: float, with_large: bool) -> tuple[Load, int]:
    """The schedule by request number, and the first number that is large."""
    small = constant(SMALL_RATE_PER_S, seconds)
    if not with_large:
        return small, len(small.offsets_ns)
    # Large ones fall between two small ones: on the same instant they would have to wait for each other.
    large = constant(1 / LARGE_EVERY_S, seconds).offsets_ns + int(0.5e9 / SMALL_RATE_PER_S)
    offsets = np.concatenate([small.offsets_ns, large])
    return Load("mixed", SMALL_RATE_PER_S, seconds, offsets), len(small.offsets_ns)


def _small_lateness_us(
    places: Places, program: str, name: str, seconds: float, with_large: bool
) -> list[float]:
    """p50, p99 and max of the small requests."""
    load, large_from = _mixed(seconds, with_large)
    with tempfile.TemporaryDirectory(prefix="pacing-") as folder:
        stamps_path = Path(folder) / "stamps"
        with serving(places.programs, stamps_path, len(load.offsets_ns)) as server:
            job = Job(Path(folder), server.port, load)
            sender = Sender(name, "peaktape", functools.partial(_command, name, large_from))
            command = sender.command(program, job)
            ended = run_sender(command, job.folder, seconds + 150, sender.run_env(), {server.pid})
        stamps = read_stamps(stamps_path)
        due_ns = dues_ns(job, ended)
    if len(stamps.at_ns) != len(load.offsets_ns):
        raise BenchmarkError(f"{len(stamps.at_ns)} of {len(load.offsets_ns)} requests arrived")
    small = (stamps.number >= 0) & (stamps.number < large_from)
    late_us = np.abs(stamps.at_ns[small] - due_ns[stamps.number[small]]) / 1e3
    return [float(value) for value in np.quantile(late_us, [0.5, 0.99, 1.0])]


def large_section(places: Places, program: str, seconds: float, repeats: int) -> str:
    """A heading and a table: both senders, with and without large requests, repeats interleaved."""
    cases = [(name, with_large) for name in ("wire", "session") for with_large in (False, True)]
    found: dict[tuple[str, bool], list[list[float]]] = {case: [] for case in cases}
    for _ in range(repeats):
        for name, with_large in cases:
            found[name, with_large].append(_small_lateness_us(places, program, name, seconds, with_large))
    rows = []
    for name, with_large in cases:
        runs, alone = found[name, with_large], found[name, False]
        p99s = [float(np.median([run[1] for run in which])) for which in (runs, alone)]
        columns = (spread(run[at] for run in runs) for at in range(3))
        rows.append([f"peaktape {name}", "yes" if with_large else "no", *columns, ratio(*p99s)])
    head = (
        f"## Small requests at {SMALL_RATE_PER_S:g}/s beside 1 MB bodies every {LARGE_EVERY_S * 1e3:g} ms\n\n"
        "Lateness of the small requests only. The server reads a large body in pieces of 128 KiB and takes "
        "other requests between them.\n\n"
    )
    titles = ("sender", "large ones", "p50 µs", "p99 µs", "max µs", "p99 ÷ alone")
    return head + table(titles, rows)
