"""Tests run side by side, one process a core and one more; those that look at time run alone.

The tests marked `alone` come first, one after another in one process of a pytest-xdist session, which keeps
the turn until the last of them has ended. Meanwhile the others run those tests only that start no process and
look at no clock, with what is left of the CPUs (SCHED_IDLE). A turn is taken before the test's own timeout
starts. Without xdist nothing waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Before anything imports numpy. Its matrices are small here, and threads that share one wait for each other
# by spinning: with three processes on two cores, a comparison of two runs took five times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# How long an example takes is the machine's business. (Hypothesis' own profile for a CI says so, too.)
hypothesis.settings.register_profile(
    "patient",
    parent=hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

PATIENT_FOLDERS = {"analysis", "transform", "traces", "privacy"}


def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for a process or a clock: one process more than there are cores."""
    return len(os.sched_getaffinity(0)) + 1


def runs_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


def is_patient(item: pytest.Item) -> bool:
    """Whether a test is all computation, in its own process: it may take as long as it takes."""
    return item.path.parent.name in PATIENT_FOLDERS and item.get_closest_marker("slow") is None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run alone first: each change between them and the others would leave cores idle.

    Then what takes minutes: begun late, it would be waited for at the end. Each process gets an equal part of
    the list to begin with; all but the first begin theirs with what may run beside the tests that run alone.
    """
    first = [item for item in items if runs_alone(item)]
    first += [item for item in items if item.get_closest_marker("minutes")]
    begun = set(first)
    rest = [item for item in items if item not in begun]
    patient = [item for item in rest if is_patient(item)]
    others = [item for item in rest if not is_patient(item)]
    parts = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(items) // parts
    left = max(0, size - len(first))
    dealt = [*first, *others[:left]]
    del others[:left]
    for part in range(1, parts):
        beside = patient[part - 1 :: parts - 1][:size]
        more = others[: size - len(beside)]
        del others[: len(more)]
        dealt += [*beside, *more]
    known = set(dealt)
    items[:] = [*dealt, *(item for item in rest if item not in known)]


def may_yield_the_cpu() -> bool:
    """Whether this process may go to SCHED_IDLE and come back (sched(7))."""
    can_come_back = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20
    return hasattr(os, "SCHED_IDLE") and can_come_back


@contextlib.contextmanager
def with_what_is_left_of_the_cpu() -> Iterator[None]:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Turn:
    """The right to run a test, with others or alone; whoever waits to be alone is not overtaken."""

    def __init__(self, session: str) -> None:
        folder = Path(tempfile.gettempdir()) / f"peaktape-tests-{session}"
        folder.mkdir(exist_ok=True)
        self._running = (folder / "running").open("ab")
        self._next_in_line = (folder / "next").open("ab")
        self._is_kept = False

    def is_alone_elsewhere(self) -> bool:
        """Whether somebody is alone or waits to be; not whoever only takes a turn, which is over at once."""
        for _ in range(2):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._next_in_line, fcntl.LOCK_SH | fcntl.LOCK_NB)
                try:
                    fcntl.flock(self._running, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    self.give_back()
                    return False
                finally:
                    fcntl.flock(self._next_in_line, fcntl.LOCK_UN)
            time.sleep(0.05)
        return True

    def give_back(self) -> None:
        fcntl.flock(self._running, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def taken(self, *, alone: bool, keep: bool) -> Iterator[None]:
        """Hold the turn meanwhile, and afterwards until the next one if it is to be kept."""
        if not self._is_kept:
            fcntl.flock(self._next_in_line, fcntl.LOCK_EX)
            fcntl.flock(self._running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(self._next_in_line, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._is_kept = keep
            if not keep:
                self.give_back()


@functools.cache
def turn_in(session: str) -> Turn:
    return Turn(session)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if session is None:
        return (yield)
    alone, turn = runs_alone(item), turn_in(session)
    if is_patient(item) and may_yield_the_cpu() and turn.is_alone_elsewhere():
        with with_what_is_left_of_the_cpu():
            return (yield)
    with turn.taken(alone=alone, keep=alone and runs_alone(nextitem)):
        return (yield)
