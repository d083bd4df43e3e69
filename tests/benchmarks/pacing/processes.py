"""Child processes: where they run, what they cost. Linux's /proc is read where there is one."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SENDER_CORE = CORES[:1] if len(CORES) > 1 else CORES
SERVER_CORE = CORES[1:2] if len(CORES) > 1 else CORES

ORPHANS_MAY_TAKE_S = 5.0
_PR_SET_CHILD_SUBREAPER = 36
_CPUCLOCK_SCHED = 2


@dataclasses.dataclass(frozen=True)
class Ended:
    """A sender that ran: its exit status (-signal if killed), output, and CPU time with all descendants."""

    status: int
    output: str
    cpu_s: float


@contextlib.contextmanager
def on_core(core: Sequence[int]) -> Iterator[None]:
    """Children started within inherit this affinity; the caller has its own back afterwards."""
    if not core:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def adopt_orphans() -> None:
    """Descendants whose parent has gone become our children, so that their CPU time can be counted."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run_sender(
    command: Sequence[str],
    folder: Path,
    timeout_s: float,
    env: Mapping[str, str],
    others: set[int],
    cores: Sequence[int] = SENDER_CORE,
) -> Ended:
    """Run a command in `folder` until it ends or is killed; children `others` are not its own."""
    with (folder / "sender.log").open("wb") as log, on_core(cores):
        child = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    waiting = os.pidfd_open(child.pid)
    try:
        if not select.select([waiting], [], [], timeout_s)[0]:
            os.killpg(child.pid, signal.SIGKILL)
        _, status, usage = os.wait4(child.pid, 0)
    finally:
        os.close(waiting)
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime + _reap_orphans(others)
    return Ended(child.returncode, (folder / "sender.log").read_text(errors="replace"), cpu_s)


def _reap_orphans(others: set[int]) -> float:
    """The CPU time of what the sender left behind, waited for and in the end killed."""
    cpu_s, until_s = 0.0, time.monotonic() + ORPHANS_MAY_TAKE_S
    while orphans := [
        pid for pid, parent in _parents().items() if parent == os.getpid() and pid not in others
    ]:
        for pid in orphans:
            if time.monotonic() > until_s:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                done, _, usage = os.wait4(pid, os.WNOHANG)
                cpu_s += usage.ru_utime + usage.ru_stime if done else 0.0
        time.sleep(0.02)
    return cpu_s


def descendants_cpu_s(others: set[int]) -> float:
    """CPU seconds so far of all our living descendants but `others`.

    Asked while senders are timed, so by their CPU clocks and the lists of children, which take no lock that a
    sender could want: a reader of /proc/PID/stat holds some, and may be kept waiting by the sender itself.
    """
    found, seen, waiting = 0.0, set(others), _children(os.getpid())
    while waiting:
        pid = waiting.pop()
        if pid in seen:
            continue
        seen.add(pid)
        with contextlib.suppress(OSError):
            found += time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)  # Linux's clock of another process
        waiting += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def _stat(pid: int) -> list[str]:
    # The name, in brackets, may hold anything; what follows the last bracket does not.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    found[int(name)] = int(_stat(int(name))[1])
    return found
