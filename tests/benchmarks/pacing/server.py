"""The stamping server as a child process: compiled C where there is a compiler, else Python."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from loads import Instants
from processes import SENDER_CORE, SERVER_CORE, descendants_cpu_s, on_core

HERE = Path(__file__).resolve().parent


class BenchmarkError(Exception):
    """A run that could not be made or read; one line."""


def compiled(name: str, into: Path) -> Path | None:
    """NAME.c of this folder as a program in `into`, or None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = into / name
    if not program.exists():
        subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


@dataclasses.dataclass
class Serving:
    """A server under way.

    `cpu` is (monotonic instant in ns, the senders' CPU time in s), taken after the first and last arrival.
    """

    pid: int
    port: int
    cpu: list[tuple[int, float]]
    others: set[int] = dataclasses.field(default_factory=set)
    """Processes that are no sender's."""


@dataclasses.dataclass(frozen=True)
class Stamps:
    """What a server saw: arrivals in order, each with its number (-1: not tagged); chunks it sent."""

    at_ns: Instants
    number: Instants
    chunk_sent_ns: Instants
    chunk_of: Instants
    chunk: Instants
    complaint: str
    speed: tuple[Instants, Instants]
    """When the server's core was looked at, and how long the same piece of work took then, in ns."""


def _watch(lines: Iterator[str], serving: Serving) -> None:
    """Take the senders' CPU time when the server says so, without disturbing anybody.

    Beside a server that polls, even an idle-class thread gets its slice, and costs it a ms of stamps; beside
    the senders, who sleep, it runs when nobody else does. After the last arrival nobody cares.
    """
    for core, line in zip((SENDER_CORE, SERVER_CORE), lines, strict=False):
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setaffinity(0, core)
            policy = os.SCHED_IDLE if core is SENDER_CORE else os.SCHED_OTHER
            os.sched_setscheduler(0, policy, os.sched_param(0))
        if line.strip() in ("first", "last"):
            serving.cpu.append((time.monotonic_ns(), descendants_cpu_s({serving.pid} | serving.others)))


@contextlib.contextmanager
def serving(
    programs: Path, stamps: Path, expected: int, chunks: int = 0, interval_us: int = 0
) -> Iterator[Serving]:
    """Serve while the block runs; `read_stamps(stamps)` afterwards."""
    program = compiled("stamp_server", programs)
    command = [str(program)] if program else [sys.executable, str(HERE / "stamp_server.py")]
    command += [str(stamps), str(expected)]
    command += [str(chunks), str(interval_us)] if chunks else []
    with on_core(SERVER_CORE), stamps.with_suffix(".err").open("wb") as complaints:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
    assert child.stdin is not None
    assert child.stdout is not None
    first = child.stdout.readline()
    if not first.strip().isdigit():
        raise BenchmarkError(f"the stamping server did not start ({child.wait()})")
    found = Serving(child.pid, int(first), [])
    watcher = threading.Thread(target=_watch, args=(child.stdout, found), daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        child.stdin.close()
        if child.wait(60):
            raise BenchmarkError(f"the stamping server ended with {child.returncode}")
        watcher.join()
        child.stdout.close()


def read_stamps(path: Path) -> Stamps:
    """The stamps a server left."""
    arrivals = np.fromfile(path, dtype=np.int64).reshape(-1, 3)
    chunks = np.fromfile(f"{path}.chunks", dtype=np.int64).reshape(-1, 3)
    complaint = path.with_suffix(".err").read_text(errors="replace").strip()
    polls = Path(f"{path}.polls")  # the Python server leaves none
    turns = np.fromfile(polls, dtype=np.int64) if polls.exists() else np.zeros(0, dtype=np.int64)
    at_ns, took_ns, _ = turns.reshape(-1, 3).T
    return Stamps(*arrivals.T[:2], *chunks.T, complaint=complaint, speed=(at_ns, took_ns))  # type: ignore[misc]
