"""The stamping server as a child process: compiled C where there is a compiler, else Python."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from loads import Instants
from processes import SERVER_CORE, descendants_cpu_s, on_core

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
    """A server under way. `cpu_s` is the senders' CPU time at the first arrival and at the last."""

    pid: int
    port: int
    cpu_s: list[float]


@dataclasses.dataclass(frozen=True)
class Stamps:
    """What a server saw: arrivals in order, each with its number (-1: not tagged); chunks it sent."""

    at_ns: Instants
    number: Instants
    chunk_sent_ns: Instants
    chunk_of: Instants
    chunk: Instants
    complaint: str


def _watch(lines: Iterator[str], serving: Serving) -> None:
    """Take the senders' CPU time when the server says so, at a priority that disturbs nobody."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(0, SERVER_CORE)
    for line in lines:
        if line.strip() in ("first", "last"):
            serving.cpu_s.append(descendants_cpu_s({serving.pid}))


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
    return Stamps(*arrivals.T[:2], *chunks.T, complaint=complaint)  # type: ignore[misc]
