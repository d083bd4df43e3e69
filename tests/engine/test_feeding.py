"""The feeder: a share of the schedule in small windows, in order, and what happens when it dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_rig import MS, replay_rows, request
from test_two_senders import answering

from replay.engine.feeder import WINDOW_BYTES, WINDOW_ROWS, by_size
from replay.engine.requests import Prepared
from replay.engine.supervisor import Progress, Supervisor
from replay.engine.tuning import FEWEST_OBJECTS, OVERDUE_NS, TIDY_EVERY_NS, is_time_to_tidy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def prepared(number: int, size_bytes: int) -> Prepared:
    return Prepared(
        number, 0, f"r{number}", 0, 0, 0, "GET /", None, False, "GET", "/", (), None, b"x" * size_bytes
    )


@given(st.lists(st.sampled_from([0, 10, 1000, WINDOW_BYTES // 2, WINDOW_BYTES + 1]), max_size=60))
def test_windows_are_small_and_nothing_is_lost_or_moved(sizes: list[int]) -> None:
    requests = [prepared(i, size) for i, size in enumerate(sizes)]
    windows = list(by_size(requests))
    assert [request for window in windows for request in window] == requests
    for window in windows:
        assert 1 <= len(window) <= WINDOW_ROWS
        assert len(window) == 1 or sum(len(request.wire or b"") for request in window) <= WINDOW_BYTES


def feeders_of(pid: int) -> list[int]:
    """Processes that a worker started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the feeder through /proc")
def test_a_feeder_that_dies_loses_what_it_had_not_handed_over_and_nothing_hangs(tmp_path: Path) -> None:
    def kill_feeder(supervisor: Supervisor, progress: Progress) -> None:
        if progress.sent >= 5:
            for pid in feeders_of(supervisor._workers[0].process.pid):
                os.kill(pid, signal.SIGKILL)

    # More than what a worker takes ahead, in bodies that fill windows by themselves.
    rows = [request(i, i * 20 * MS, input="word " * 60_000) for i in range(200)]
    with answering(lambda whole: OK, []) as url:
        done = replay_rows(tmp_path, rows, url, on_progress=kill_feeder)
    errors = [row["error"] for row in done.rows.values()]
    assert "lost" in errors
    assert None in errors
    assert done.metadata.workers[0]["died"] is True


@pytest.mark.parametrize(
    ("objects", "since_ns", "slack_ns", "now"),
    [
        (FEWEST_OBJECTS, TIDY_EVERY_NS, None, True),
        (FEWEST_OBJECTS, TIDY_EVERY_NS, 4_000_000, True),
        (FEWEST_OBJECTS, TIDY_EVERY_NS, 3_999_999, False),  # it took 2 ms the last time
        (FEWEST_OBJECTS, OVERDUE_NS, -1, True),
        (FEWEST_OBJECTS - 1, OVERDUE_NS, None, False),
        (FEWEST_OBJECTS, TIDY_EVERY_NS - 1, None, False),
    ],
)
def test_garbage_is_collected_between_requests_and_at_last_whatever_is_due(
    objects: int, since_ns: int, slack_ns: int | None, now: bool
) -> None:
    assert is_time_to_tidy(objects, since_ns, slack_ns, last_pause_ns=2_000_000) is now
