"""How many chunks of streams a schedule is expected to bring: by what was recorded, else by tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_rig import MS, request

from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import batch_of, write_trace
from replay.engine.preflight import busiest_chunks_per_s, workers_for
from replay.engine.sender import SESSION, WIRE
from replay.transform.schedule_format import Schedule

SECOND = 1000 * MS


def streamed(number: int, arrival_ns: int, chunks: int, took_ns: int) -> dict[str, Any]:
    """A stream of so many chunks, evenly over its time."""
    instants = (arrival_ns + np.linspace(0, took_ns, chunks, dtype=np.int64)).tolist()
    answered = {"chunk_ns": instants, "chunk_bytes": [20] * chunks, "end_ns": arrival_ns + took_ns}
    return request(number, arrival_ns) | answered | {"stream": True}


def counted(number: int, arrival_ns: int, tokens: int) -> dict[str, Any]:
    """A stream of an imported log: its tokens are known, its chunks are not."""
    return request(number, arrival_ns) | {"stream": True, "output_tokens": tokens}


def opened(folder: Path, rows: list[dict[str, Any]]) -> Trace:
    path = folder / "trace.parquet"
    write_trace(path, [batch_of(rows)], TraceMetadata(0, "test"))
    return open_trace(str(path))


def scheduled(row: list[int], due_ns: list[int]) -> Schedule:
    count = len(row)
    zeros = np.zeros(count, np.int64)
    return Schedule(
        np.array(due_ns, np.int64),
        np.array(row, np.int64),
        zeros.astype(np.int32),
        np.arange(count),
        zeros - 1,
        zeros,
        zeros.astype(np.int8),
    )


@pytest.mark.parametrize(
    ("rows", "row", "due_ns", "expected"),
    [
        # One second of 100 chunks, within one second of the clock.
        ([streamed(0, 0, 100, SECOND - MS)], [0], [0], 100),
        # Ten clones at once; then, one a second, each alone.
        ([streamed(0, 0, 100, SECOND - MS)], [0] * 10, [0] * 10, 1000),
        ([streamed(0, 0, 100, SECOND - MS)], [0] * 10, [at * SECOND for at in range(10)], 100),
        # Long streams overlap: each lasts ten seconds, one begins each second.
        ([streamed(0, 0, 500, 10 * SECOND - MS)], [0] * 20, [at * SECOND for at in range(20)], 500),
        # Tokens at 20 ms each: 50 a second, however many.
        ([counted(0, 0, 49)], [0], [0], 49),
        ([counted(0, 0, 4999)], [0] * 100, [0] * 100, 5000),
        # Whole answers bring no chunks to speak of, and an empty schedule nothing.
        ([request(0, 0)], [0], [0], 0),
        ([streamed(0, 0, 100, SECOND)], [], [], 0),
    ],
)
def test_chunks_in_the_busiest_second(
    tmp_path: Path, rows: list[dict[str, Any]], row: list[int], due_ns: list[int], expected: int
) -> None:
    found = busiest_chunks_per_s(opened(tmp_path, rows), scheduled(row, due_ns))
    assert found == pytest.approx(expected, rel=0.01)


def test_streams_take_workers_too() -> None:
    schedule = scheduled([0] * 100, [0] * 100)
    assert workers_for(schedule, 16, WIRE) == 1
    assert workers_for(schedule, 16, WIRE, 100_000) == 4
    assert workers_for(schedule, 16, SESSION, 100_000) == 11
    assert workers_for(schedule, 4, SESSION, 100_000) == 3  # one core is for everything else
