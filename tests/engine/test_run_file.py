"""The run's file: whole or partial, and readable whatever ended the replay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from replay_rig import MS, chat

from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.analysis.run_table import RunTable
from replay.analysis.validity import judge
from replay.demo.launch import RunningServer
from replay.engine.run_format import RunMetadata, partial_of, read_run
from replay.engine.run_rows import batch_of_unsent
from replay.engine.run_writer import RunWriter

ROOT = Path(__file__).resolve().parents[2]
ABOUT = RunMetadata("a", "http://127.0.0.1:1", 1, 2, "t", "s", (), scheduled=30)


def unsent(numbers: Sequence[int]) -> pa.RecordBatch:
    facts = {"copy": 0, "phase": "base", "endpoint": "GET /", "stream": False}
    rows = [facts | {"request_id": f"r{n}", "session": n, "due_ns": n} for n in numbers]
    return batch_of_unsent(rows, ["not_sent"] * len(rows))


KEYS = Keys.of("env:K", {"K": "5a" * 32})


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
def test_rows_and_metadata_survive_the_file(tmp_path: Path, keys: Keys | None) -> None:
    writer = RunWriter(tmp_path / "run.parquet", keys=keys)
    writer.begin(ABOUT)
    for start in range(0, 30, 10):
        writer.add(unsent(range(start, start + 10)))
    writer.finish(ABOUT)
    table, metadata = read_run(tmp_path / "run.parquet", keys)
    assert table["request_id"].to_pylist() == [f"r{i}" for i in range(30)]
    assert metadata == ABOUT
    assert writer.abandon() is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"]


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
@pytest.mark.parametrize("cut_bytes", [0, 1, 40, 300])
def test_what_a_killed_replay_left_reads_to_its_last_whole_batch(
    tmp_path: Path, cut_bytes: int, keys: Keys | None
) -> None:
    writer = RunWriter(tmp_path / "run.parquet", keys=keys)
    writer.begin(ABOUT)
    writer.add(unsent(range(10)))
    whole_bytes = partial_of(tmp_path / "run.parquet").stat().st_size
    writer.add(unsent(range(10, 20)))
    left = partial_of(tmp_path / "run.parquet")
    os.truncate(left, left.stat().st_size - cut_bytes)
    assert left.stat().st_size > whole_bytes
    table, metadata = read_run(left, keys)
    assert table.num_rows == (10 if cut_bytes else 20)
    assert metadata.partial
    assert metadata.scheduled == 30
    validity = judge(RunTable.of(table, metadata))
    assert "whole" in [check.name for check in validity.checks if not check.passed]


def test_two_replays_into_one_run_do_not_harm_each_other(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    first = RunWriter(path)
    first.begin(ABOUT)
    with pytest.raises(BadInput, match=r"run\.parquet: another replay writes it now; wait for its end"):
        RunWriter(path)
    first.add(unsent(range(30)))
    first.finish(ABOUT)
    second = RunWriter(path)
    assert first.abandon() is None  # late, and nothing of the second's
    second.begin(ABOUT)
    second.add(unsent(range(10)))
    second.finish(ABOUT)
    assert read_run(path)[0].num_rows == 10
    assert [left.name for left in tmp_path.iterdir()] == ["run.parquet"]


def test_a_partial_run_with_a_key_is_read_with_it_alone(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.parquet", keys=KEYS)
    writer.begin(ABOUT)
    writer.add(unsent(range(2_000)))  # several frames, none of them a batch
    left = partial_of(tmp_path / "run.parquet")
    assert not any(word in left.read_bytes() for word in (b"request_id", b"due_ns", b"peaktape.run"))
    assert read_run(left, KEYS)[0].num_rows == 2_000
    with pytest.raises(KeyRefused, match=r"partial: encrypted, and no key is given"):
        read_run(left)
    with pytest.raises(KeyRefused, match=r"partial: encrypted with another key than env:K gives"):
        read_run(left, Keys.of("env:K", {"K": "a5" * 32}))
    writer.abandon()


def test_a_missing_run_names_what_is_there_instead(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.parquet")
    writer.begin(ABOUT)
    with pytest.raises(BadInput, match=r"read what it left: .*run\.parquet\.partial"):
        read_run(tmp_path / "run.parquet")


def descendants_of(pid: int) -> list[int]:
    """The processes that `pid` started, and those that they did (proc(5), task/TID/children)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [*children, *(deeper for child in children for deeper in descendants_of(child))]


def is_running(pid: int) -> bool:
    """Whether `pid` has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_replayer_killed_outright_leaves_a_readable_partial_run(tmp_path: Path) -> None:
    rows = [chat(i, i * 100 * MS) for i in range(100)]
    write_trace(tmp_path / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    with RunningServer() as server:
        replayer = subprocess.Popen(
            [
                *(sys.executable, "-m", "replay.cli", "replay", str(tmp_path / "t.parquet")),
                *("--target", server.base_url, "-o", str(tmp_path / "run.parquet"), "--label", "killed"),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        left = partial_of(tmp_path / "run.parquet")
        give_up_s = time.monotonic() + 60
        while not left.exists() or left.stat().st_size < 20_000:
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
        started = descendants_of(replayer.pid)
        assert len(started) >= 2  # a worker and its feeder
        replayer.send_signal(signal.SIGKILL)
        replayer.wait()
        while any(is_running(pid) for pid in started):
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
    table, metadata = read_run(left)
    assert 0 < table.num_rows < 100
    assert (metadata.partial, metadata.label, metadata.scheduled) == (True, "killed", 100)
    said = subprocess.run(
        [sys.executable, "-m", "replay.cli", "report", str(left)], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode == 3, said.stderr
    assert "INVALID" in said.stdout
