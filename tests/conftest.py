"""Tests run side by side, one process a core and one more; those that look at time run alone.

The tests marked `alone` come first, one after another in one process of a pytest-xdist session, which keeps
the turn until the last of them has ended; no other test runs meanwhile. A turn is taken before the test's own
timeout starts. Without xdist nothing waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for a process or a clock: one process more than there are cores."""
    return len(os.sched_getaffinity(0)) + 1


def runs_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run alone first: each change between them and the others would leave cores idle.

    Then what takes minutes, beside all others: begun late, it would be waited for at the end.
    """
    items.sort(key=lambda item: (runs_alone(item), bool(item.get_closest_marker("minutes"))), reverse=True)


class Turn:
    """The right to run a test, with others or alone; whoever waits to be alone is not overtaken."""

    def __init__(self, session: str) -> None:
        folder = Path(tempfile.gettempdir()) / f"peaktape-tests-{session}"
        folder.mkdir(exist_ok=True)
        self._running = (folder / "running").open("ab")
        self._next_in_line = (folder / "next").open("ab")
        self._is_kept = False

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
                fcntl.flock(self._running, fcntl.LOCK_UN)


@functools.cache
def turn_in(session: str) -> Turn:
    return Turn(session)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if session is None:
        return (yield)
    alone = runs_alone(item)
    with turn_in(session).taken(alone=alone, keep=alone and runs_alone(nextitem)):
        return (yield)
