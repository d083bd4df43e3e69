"""What a generator's process does to its own surroundings: priority, descriptors, the garbage collector."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

NICENESS: Final = -10
PARENT_NICENESS: Final = 10
TIDY_EVERY_NS: Final = 1_000_000_000
OVERDUE_NS: Final = 15_000_000_000
FEWEST_OBJECTS: Final = 5000
TABLE_DESCRIPTORS: Final = 65_536


def go_first() -> str:
    """Ask for the CPU before others, since one that waits for its turn sends late; how far that went.

    "real-time" where the system lets us (root, CAP_SYS_NICE; a pacer that spins no more than a share of the
    time leaves the core free), else a better niceness, else "normal".
    """
    with contextlib.suppress(OSError, AttributeError):
        # Reset on fork: the feeder takes its turn like anyone.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        return "real-time"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        return f"nice {NICENESS}"
    return "normal"


@contextlib.contextmanager
def last() -> Iterator[None]:
    """Have this thread come after others for the CPU while the block runs, as far as the system has that.

    For the parent of a replay: what workers report can wait, requests that the feeders read ahead can't.
    """
    if sys.platform != "linux":  # elsewhere priorities are processes', and the number may be another one's
        yield
        return
    thread = threading.get_native_id()
    before: int | None = None
    with contextlib.suppress(OSError):
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, max(before, PARENT_NICENESS))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # only who may do anything is let back
            if before is not None:
                os.setpriority(os.PRIO_PROCESS, thread, before)


def reserve_descriptors() -> None:
    """Have the kernel's table of descriptors as large as connections may need it, before anything is due.

    Each time it doubles, at the 65th, 129th, 257th … connection, Linux makes a process with several threads
    wait for a grace period of RCU (fs/file.c, expand_fdtable): 5–15 ms in which nothing is sent.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = min(soft, TABLE_DESCRIPTORS) - 1
    with contextlib.suppress(OSError):
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, highest))
        finally:
            os.close(descriptor)


def is_time_to_tidy(objects: int, since_ns: int, slack_ns: int | None, last_pause_ns: int) -> bool:
    """Whether to collect garbage now, with nothing due for `slack_ns` (None: nothing at all is staged).

    Only when there may be something, not more than once a second, and in a gap twice as long as the last
    collection took; but at last whatever is due, so that memory stays flat.
    """
    if objects < FEWEST_OBJECTS or since_ns < TIDY_EVERY_NS:
        return False
    return slack_ns is None or slack_ns >= 2 * last_pause_ns or since_ns >= OVERDUE_NS


class Collector:
    """The garbage collector, run between requests instead of whenever Python sees fit: a full collection of
    the objects that start-up left takes tens of ms, and what comes after it is little.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._pause_ns = 1_000_000

    def take_over(self) -> None:
        """Leave what exists now out of all later collections, and stop the automatic ones."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._last_ns = time.monotonic_ns()

    def tidy(self, slack_ns: int | None) -> None:
        """Collect if this is the moment; `slack_ns` is the time until the next request is due."""
        began_ns = time.monotonic_ns()
        if is_time_to_tidy(gc.get_count()[0], began_ns - self._last_ns, slack_ns, self._pause_ns):
            gc.collect()
            self._last_ns = time.monotonic_ns()
            self._pause_ns = self._last_ns - began_ns
