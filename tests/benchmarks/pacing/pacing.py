"""Everybody's punctuality: one run of each sender, and the repeats of all of them."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from loads import Instants, Load
from processes import CORES, SENDER_CORE, Ended, run_sender
from senders import Job, Places, Sender, arrivals_of, spoken
from server import BenchmarkError, Stamps, read_stamps, serving
from steadiness import Speed, in_steady_blocks, read_speed, watching
from table import Figures

START_AND_REPORT_MAY_TAKE_S = 150.0

Found = dict[str, dict[str, list[Figures]]]
Failed = dict[tuple[str, str], str]


def cpu_each_us(ended: Ended, cpu: Sequence[tuple[int, float]], arrived_ns: Instants) -> float:
    """CPU µs per request between two readings, around the first arrival and the last: no start, no report.

    Who is gone by the time its CPU is asked for ended at once: its whole time is what it had at the last.
    """
    if not cpu:
        return float("nan")
    first_ns, first_s = cpu[0]
    last_s = (*cpu, (0, 0.0))[1][1]
    arrived = int(np.count_nonzero(arrived_ns > first_ns)) + 1
    return ((last_s if last_s > first_s else ended.cpu_s) - first_s) / arrived * 1e6


def figures_of(
    job: Job, sender: Sender, ended: Ended, stamps: Stamps, cpu: Sequence[tuple[int, float]], speed: Speed
) -> Figures:
    """What a run comes to; raises `BenchmarkError` where nothing arrived. `speed` is of the senders' core."""
    expected = len(job.load.offsets_ns)
    if len(stamps.at_ns) < 2:
        raise BenchmarkError(f"nothing arrived, status {ended.status}: {spoken(ended)}")
    if stamps.complaint:
        raise BenchmarkError(f"the server: {stamps.complaint}")
    lateness_us = sender.read(job, ended, stamps)
    arrived_ns = np.sort(stamps.at_ns)[:expected]
    rate_per_s = (len(arrived_ns) - 1) / (arrived_ns[-1] - arrived_ns[0]) * 1e9
    quantiles = np.quantile(lateness_us, [0.5, 0.99, 1.0])
    each_us = cpu_each_us(ended, cpu, arrived_ns)
    steady = in_steady_blocks(arrivals_of(lateness_us, stamps), (speed, stamps.speed))
    quiet = np.quantile(lateness_us[steady], [0.5, 0.99]) if np.any(steady) else (math.nan, math.nan)
    values = (*quantiles, rate_per_s, each_us, ended.cpu_s, *quiet, 100 * float(np.mean(steady)))
    remark = " (cut off)" if ended.status < 0 else ""
    return Figures(len(stamps.at_ns), expected, tuple(map(float, values)), remark)


def run_once(places: Places, program: str, sender: Sender, load: Load) -> Figures:
    """One sender, one load, a fresh server and a fresh folder."""
    with tempfile.TemporaryDirectory(prefix="pacing-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        stamps = folder / "stamps"
        with serving(places.programs, stamps, len(load.offsets_ns)) as server:
            job = Job(folder, server.port, load)
            timeout_s = load.seconds * 2 + START_AND_REPORT_MAY_TAKE_S
            command = sender.command(program, job)
            cores = SENDER_CORE if sender.one_core else CORES
            with watching(places.programs, folder / "speed.bin") as watcher:
                server.others.add(watcher)
                ended = run_sender(command, folder, timeout_s, sender.run_env(), {server.pid, watcher}, cores)
        return figures_of(
            job, sender, ended, read_stamps(stamps), server.cpu, read_speed(folder / "speed.bin")
        )


def _can_take(sender: Sender, load: Load, slow_up_to_per_s: float) -> bool:
    if sender.slow and load.rate_per_s > slow_up_to_per_s:
        return False
    return sender.takes_schedule or load.shape == "constant"


def run_all(
    places: Places,
    senders: Sequence[tuple[Sender, str]],
    loads: Sequence[Load],
    repeats: Sequence[int],
    slow_up_to_per_s: float,
    tell: Callable[[str], None],
) -> tuple[Found, Failed]:
    """Every sender on every load it can take, once in each of `repeats` (numbers), another one first in each.

    Returns figures by load and sender, and for what failed the reason; it is not tried again on that load.
    """
    found: Found = {
        load.name: {s.name: [] for s, _ in senders if _can_take(s, load, slow_up_to_per_s)} for load in loads
    }
    failed: Failed = {}
    for repeat in repeats:
        for load in loads:
            turn = repeat % len(senders)
            for sender, program in (*senders[turn:], *senders[:turn]):
                if sender.name not in found[load.name] or (load.name, sender.name) in failed:
                    continue
                try:
                    figures = run_once(places, program, sender, load)
                except BenchmarkError as failure:
                    failed[load.name, sender.name] = str(failure)
                    tell(f"{load.name} {sender.name}: {failure}")
                    continue
                found[load.name][sender.name].append(figures)
                tell(f"repeat {repeat + 1} {load.name} {sender.name}: p99 {figures.values[1]:.0f} µs")
    return found, failed


def read_kept(path: Path | None) -> Found:
    """The figures that an earlier call left; none without a file."""
    if path is None or not path.exists():
        return {}
    kept = json.loads(path.read_text())
    return {
        load: {
            name: [Figures(**run | {"values": tuple(run["values"])}) for run in runs]
            for name, runs in senders.items()
        }
        for load, senders in kept.items()
    }


def write_kept(path: Path | None, found: Found) -> None:
    """Leave the figures for a later call."""
    if path is not None:
        path.write_text(json.dumps(found, default=dataclasses.asdict))


def merged(earlier: Found, later: Found) -> Found:
    """The runs of both, by load and sender."""
    result: Found = {load: {name: list(runs) for name, runs in one.items()} for load, one in earlier.items()}
    for load, senders in later.items():
        for name, runs in senders.items():
            result.setdefault(load, {}).setdefault(name, []).extend(runs)
    return result
