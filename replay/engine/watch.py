"""What a worker observes of itself while it fires: lateness, stalls and their cause, pauses, CPU, memory.

Only samples are taken here; whether they make a run INVALID is decided in `analysis.validity`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import resource
import signal
import threading
import time
from typing import Any, BinaryIO, Final

from replay.engine.cpu_speed import CpuSpeed, work_ns

MAX_SAMPLES: Final = 3000
MAX_STALLS: Final = 100
CPU_WINDOW_S: Final = 5.0
STALL_NS: Final = 5_000_000
"""A loop that comes back this much too late has stalled: nothing was sent or stamped meanwhile."""

STOPPED: Final = "the process was stopped"
COLLECTING: Final = "garbage collection"
NO_CPU: Final = "waiting for a CPU"
BUSY: Final = "the loop was busy"
SLOWED: Final = "the CPU ran at less than half its speed"
MACHINE: Final = "the machine stood still"


@dataclasses.dataclass(frozen=True)
class Account:
    """Running totals of where a worker's time went, each in ns, and how often it was stopped and went on."""

    cpu_ns: int
    queued_ns: int
    collecting_ns: int
    continued: int


def cause_of(
    stall_ns: int, before: Account, after: Account, usual_cpu_ns: int, *, slowed: bool = False
) -> str:
    """Why the loop stood still for `stall_ns` between two accounts: what took at least half of that time.

    `usual_cpu_ns` is what the loop takes between two accounts when it does not stand still. `slowed`: the CPU
    is slow, so that a loop that seems busy does no more than ever.
    """
    if after.continued > before.continued:
        return STOPPED
    half_ns = stall_ns / 2
    if after.collecting_ns - before.collecting_ns >= half_ns:
        return COLLECTING
    if after.queued_ns - before.queued_ns >= half_ns:
        return NO_CPU
    if after.cpu_ns - before.cpu_ns - usual_cpu_ns >= half_ns:
        return SLOWED if slowed else BUSY
    return MACHINE


class Watch:
    """The samples of one worker. `look` is called on the loop, some 50 times a second."""

    def __init__(self) -> None:
        self.sent = 0
        self.lateness_ns: list[int] = []
        self.loop_lag_ns: list[int] = []
        self.gc_pause_ns: list[int] = []
        self.stalls: list[tuple[int, int, str]] = []
        self.stalled_ns = self.loop_lags = 0
        self.cpu_busiest_share = 0.0
        self._usual_cpu_ns = 0.0
        self._speed = CpuSpeed()
        self._collecting_ns = self._gc_began_ns = self._began_ns = 0
        self._continued = 0
        self._schedstat = _opened(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._began = self._last = self._account()
        self._window = (0, self._began)
        gc.callbacks.append(self._on_gc)
        with contextlib.suppress(ValueError):  # not in the main thread: a test's, that nobody stops
            signal.signal(signal.SIGCONT, self._on_continue)

    def begin(self) -> None:
        """The load starts: CPU and wall time count from here."""
        self._began_ns = time.monotonic_ns()
        self._began = self._last = self._account()
        self._window = (self._began_ns, self._began)
        self.gc_pause_ns.clear()
        self._speed.begin()

    def look(self, began_ns: int, expected_ns: int, zero_ns: int) -> None:
        """A sleep that began at `began_ns` and should have ended at `expected_ns` is over (monotonic)."""
        now_ns, account = time.monotonic_ns(), self._account()
        lag_ns = now_ns - expected_ns
        self.loop_lags += 1
        self._speed.add(work_ns())
        keep_worst(self.loop_lag_ns, lag_ns)
        if lag_ns < STALL_NS:
            self._usual_cpu_ns += 0.1 * (account.cpu_ns - self._last.cpu_ns - self._usual_cpu_ns)
        elif now_ns > zero_ns:  # before it, nothing is due
            self.stalled_ns += lag_ns
            cause = cause_of(
                *(lag_ns, self._last, account, round(self._usual_cpu_ns)), slowed=self._speed.is_slow
            )
            self.stalls.append((began_ns - zero_ns, lag_ns, cause))
            if len(self.stalls) > MAX_STALLS:
                self.stalls.remove(min(self.stalls, key=lambda stall: stall[1]))
        self._last = account
        window_began_ns, at_began = self._window
        if now_ns - window_began_ns >= CPU_WINDOW_S * 1e9:
            share = (account.cpu_ns - at_began.cpu_ns) / (now_ns - window_began_ns)
            # A mean over the run would hide the peak.
            self.cpu_busiest_share = max(self.cpu_busiest_share, share)
            self._window = (now_ns, account)

    def totals(self, worker: int, scheduling: str) -> dict[str, Any]:
        """The worker's entry in the run's metadata."""
        account = self._account()
        return {
            "worker": worker,
            "sent": self.sent,
            "cpu_s": (account.cpu_ns - self._began.cpu_ns) / 1e9,
            "cpu_wait_s": (account.queued_ns - self._began.queued_ns) / 1e9,
            "wall_s": (time.monotonic_ns() - self._began_ns) / 1e9,
            "cpu_busiest_share": self.cpu_busiest_share,
            "cpu_slow_share": self._speed.slow_share,
            "loop_lags": self.loop_lags,
            "loop_lag_ns": self.loop_lag_ns,
            "gc_pause_ns": sorted(self.gc_pause_ns, reverse=True)[:100],
            "stalls": self.stalls,
            "stalled_s": self.stalled_ns / 1e9,
            "scheduling": scheduling,
            "peak_rss_kib": peak_rss_kib(),
        }

    def _account(self) -> Account:
        return Account(time.process_time_ns(), self._queued_ns(), self._collecting_ns, self._continued)

    def _queued_ns(self) -> int:
        """Time that this thread was ready to run and had no CPU, as Linux counts it; 0 where it does not."""
        if self._schedstat is None:
            return 0
        try:
            return int(os.pread(self._schedstat.fileno(), 100, 0).split()[1])
        except (OSError, IndexError, ValueError):
            return 0

    def _on_gc(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began_ns = time.monotonic_ns()
        else:
            pause_ns = time.monotonic_ns() - self._gc_began_ns
            self._collecting_ns += pause_ns
            keep_worst(self.gc_pause_ns, pause_ns)

    def _on_continue(self, *_: Any) -> None:
        self._continued += 1


def _opened(path: str) -> BinaryIO | None:
    """A file that stays open: to find one in /proc takes far longer than to read it."""
    try:
        return open(path, "rb", buffering=0)
    except OSError:
        return None


def keep_worst(samples: list[int], sample: int) -> None:
    """Add a sample; past `MAX_SAMPLES` the smaller half goes, so that what is rare and bad stays."""
    samples.append(sample)
    if len(samples) > MAX_SAMPLES:
        samples.sort(reverse=True)
        del samples[MAX_SAMPLES // 2 :]


def peak_rss_kib() -> int:
    """The most memory this process has held, in KiB.

    Not getrusage's ru_maxrss where it can be avoided: on Linux that starts at the parent's peak.
    """
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
