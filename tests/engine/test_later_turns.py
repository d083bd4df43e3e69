"""Later turns when something breaks: nothing hangs, nothing is forgiven that the generator did itself."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from replay_rig import MS, replay_rows
from test_feeding import feeders_of
from test_replay_end_to_end import scripted_server
from test_sessions_live import turns

from capture.failures import BadInput
from replay.analysis.run_table import RunTable
from replay.analysis.validity import judge
from replay.engine.exchange import Exchange
from replay.engine.requests import Prepared
from replay.engine.run_format import PARTLY_OPEN
from replay.engine.supervisor import Progress, Supervisor
from replay.engine.turns import Turns
from replay.transform.pipeline import base_schedule


async def test_a_turn_that_can_t_be_read_is_told_although_nothing_waits_any_more() -> None:
    schedule = base_schedule(np.array([0, 50]), np.array([10, 60]), np.array([1, 1]))
    coming: asyncio.Future[Prepared] = asyncio.get_running_loop().create_future()
    coming.set_exception(BadInput("row 1 is damaged"))
    later = Turns(schedule, 0, lambda index: coming, lambda prepared: None)
    first = Prepared(0, 0, "r0", 0, 1, 0, "GET /", None, False, "GET", "/", (), None)
    later.staged(first)
    exchange = Exchange(first, end_ns=10)
    later.ended(exchange)
    for _ in range(5):
        await asyncio.sleep(0)
    assert later.waiting
    with pytest.raises(BadInput, match="row 1 is damaged"):
        await later.settled()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the feeder through /proc")
def test_a_feeder_that_dies_between_turns_loses_them_and_nothing_hangs(tmp_path: Path) -> None:
    import socket
    import time

    killed: list[int] = []

    def kill_feeder(supervisor: Supervisor, progress: Progress) -> None:
        if progress.sent >= 1 and not killed:
            killed.extend(feeders_of(supervisor._workers[0].process.pid))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    def answer_late(connection: socket.socket) -> None:
        while connection.recv(65536):
            time.sleep(1.0)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    rows = turns("s", 4, 0, 20 * MS)
    with scripted_server(answer_late) as url:
        done = replay_rows(tmp_path, rows, url, mode=PARTLY_OPEN, on_progress=kill_feeder)
    assert killed
    errors = [row["error"] for _, row in sorted(done.rows.items())]
    assert errors[0] is None
    assert errors[-1] == "lost"
    assert not judge(RunTable.of(done.table, done.metadata)).valid
