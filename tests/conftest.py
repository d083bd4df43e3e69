"""Tests run side by side, one process a core and one more; those that look at time run alone.

A test marked `alone` waits until no other test runs, in any process of this pytest-xdist session, and none
begins until it has ended. It is taken before the test's own timeout starts. Without xdist nothing waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for a process or a clock: one process more than there are cores."""
    return len(os.sched_getaffinity(0)) + 1


@contextlib.contextmanager
def turn(session: str, *, alone: bool) -> Iterator[None]:
    """Hold the right to run a test, with others or `alone`; whoever waits to be alone is not overtaken."""
    folder = Path(tempfile.gettempdir()) / f"peaktape-tests-{session}"
    folder.mkdir(exist_ok=True)
    with (folder / "running").open("ab") as running:
        with (folder / "next").open("ab") as next_in_line:
            fcntl.flock(next_in_line, fcntl.LOCK_EX)
            fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if session is None:
        return (yield)
    with turn(session, alone=item.get_closest_marker("alone") is not None):
        return (yield)
