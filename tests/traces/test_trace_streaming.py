"""Light columns of a trace in arrival order, batch by batch, in the numbering of `Trace`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.trace_reader import open_trace
from capture.trace_stream import stream_batches
from tests.trace_rows import trace_row, write_rows

segments = st.lists(
    st.tuples(st.lists(st.integers(0, 30), min_size=1, max_size=12).map(sorted), st.integers(0, 20)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(segments, st.integers(1, 5))
def test_rows_come_in_the_numbering_of_the_trace(parts: list[tuple[list[int], int]], batch_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        for place, (arrivals, zero_ns) in enumerate(parts):
            rows = [trace_row(number + at, arrival) for at, arrival in enumerate(arrivals)]
            number += len(rows)
            write_rows(Path(folder) / f"{place}.parquet", rows, wall_zero_ns=zero_ns)
        trace = open_trace(folder)
        found = list(stream_batches(trace, ("request_id", "arrival_ns"), batch_rows))
        ids = [name for batch in found for name in batch.column("request_id").to_pylist()]
        assert ids == trace.column("request_id").to_pylist()
        arrivals_ns = np.concatenate([batch.column("arrival_ns").to_numpy() for batch in found])
        np.testing.assert_array_equal(arrivals_ns, trace.arrival_ns)
        assert max(batch.num_rows for batch in found) <= batch_rows


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_time_that_runs_backwards_is_named_at_any_batch_border(tmp_path: Path, batch_rows: int) -> None:
    rows = [trace_row(number, at) for number, at in enumerate([1, 5, 9, 7, 8])]
    trace = open_trace(write_rows(tmp_path / "t.parquet", rows))
    with pytest.raises(BadInput, match=r"row 3, column arrival_ns: 7 found after 9, ascending wanted"):
        list(stream_batches(trace, ("request_id",), batch_rows))


def test_statistics_tell_what_a_column_cannot_hold(tmp_path: Path) -> None:
    rows = [trace_row(0, 0), trace_row(1, 1, status=404)]
    trace = open_trace(write_rows(tmp_path / "t.parquet", rows))
    assert trace.may_hold("status", 300)
    assert not trace.may_hold("status", 101)
    assert trace.may_reach("http_version", "HTTP/1.1")
    assert not trace.may_reach("http_version", "HTTP/2")
    assert not trace.may_differ("outcome", "complete")
    assert trace.may_differ("status", 200)
    assert not trace.has_any("session_id")
    assert trace.has_any("request_id")
