"""A run that the machine spoiled is replayed again, as often as asked; one that would fail again is not."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from replay_rig import MS, request
from test_two_senders import answering
from typer.testing import CliRunner, Result

from capture.failures import RunInvalid
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.analysis.validity import may_pass_next_time
from replay.analysis.values import Check, Validity
from replay.cli import app

REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
REQUESTS = 60


def check(name: str, passed: bool = False) -> Check:
    return Check(name, passed=passed, found="", wanted="", why="")


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        ([], False),
        (["generator stalls"], True),
        (["lateness p99", "lateness max", "workers alive"], True),
        (["generator resources"], False),
        (["lateness p99", "generator CPU"], False),
        (["in-flight limit"], False),
    ],
)
def test_what_would_fail_again_is_not_tried_again(failed: list[str], again: bool) -> None:
    checks = (check("whole", passed=True), *map(check, failed))
    assert may_pass_next_time(Validity(not failed, checks, ())) is again


def workers_of_this_process() -> list[int]:
    """The replay workers that this process has started and that still run."""
    listed = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "replay.engine.worker"], capture_output=True, text=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def replayed(folder: Path, attempts: int, spoiled: int) -> tuple[Result, int]:
    """A replay whose worker is stopped for half a second in its first `spoiled` attempts; requests seen."""
    rows = [request(i, i * 20 * MS) for i in range(REQUESTS)]
    write_trace(folder / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    seen: list[bytes] = []
    stopped: list[int] = []

    def reply(whole: bytes) -> bytes:
        # Half-way through an attempt, each worker of it that was not stopped before.
        if len(seen) % REQUESTS == REQUESTS // 2 and len(stopped) < spoiled:
            for pid in set(workers_of_this_process()) - set(stopped):
                stopped.append(pid)
                os.kill(pid, signal.SIGSTOP)
                threading.Timer(0.5, os.kill, [pid, signal.SIGCONT]).start()
        return REPLY

    with answering(reply, seen) as url:
        # Bounds that no busy machine breaks by itself, but a stop of half a second.
        bounds = ["--max-lateness-p99", "400ms", "--max-lateness", "400ms", "--workers", "1"]
        asked = ["replay", str(folder / "t.parquet"), "--target", url, "-o", str(folder / "run.parquet")]
        done = CliRunner().invoke(app, [*asked, *bounds, "--attempts", str(attempts)])
    assert len(stopped) == spoiled
    return done, len(seen)


@pytest.mark.slow
@pytest.mark.alone  # a stall of the machine's own would cost an attempt
def test_a_spoiled_run_is_replayed_again_and_the_valid_one_stands(tmp_path: Path) -> None:
    done, seen = replayed(tmp_path, attempts=4, spoiled=1)
    assert done.exit_code == 0, done.output
    assert seen >= 2 * REQUESTS
    assert "replaying again, attempt 2 of 4" in done.output
    assert "lateness max" in done.output


@pytest.mark.slow
def test_the_last_attempt_s_verdict_stands(tmp_path: Path) -> None:
    done, seen = replayed(tmp_path, attempts=2, spoiled=2)
    assert isinstance(done.exception, RunInvalid), done.output
    assert seen == 2 * REQUESTS
    assert "generator stalls" in str(done.exception)
