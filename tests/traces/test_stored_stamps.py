"""Stamps of chunks and messages on disk: laws of the way there and back, and files from before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.stored_stamps import needed, restored, stored
from capture.trace_format import FORMAT_VERSION, METADATA_KEY, STORED_AS, STORED_SCHEMA, TRACE_SCHEMA
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace
from tests.trace_rows import trace_row, write_rows

OLD = Path(__file__).parent / "format-1.parquet"
README = Path(__file__).resolve().parents[2] / "README.md"
HOUR_NS = 3_600_000_000_000

gaps_ns = st.lists(
    st.integers(0, 15_000) | st.integers(0, 40_000_000) | st.integers(0, 3 * HOUR_NS), max_size=6
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row as captures make them: all stamps ascending, between what they are counted from and the end."""

    def stamps(since_ns: int) -> list[int]:
        return (since_ns + np.cumsum(draw(gaps_ns), dtype=np.int64)).tolist()

    arrival_ns = draw(st.integers(0, 30 * 24 * HOUR_NS))
    headed = draw(st.booleans())
    first_byte_ns = arrival_ns + draw(st.integers(0, 10**10)) if headed else None
    chunks = stamps(first_byte_ns if first_byte_ns is not None else arrival_ns)
    uploaded, messages = (draw(st.none() | st.just(0)) for _ in range(2))
    sent = None if uploaded is None else stamps(arrival_ns)
    said = None if messages is None else stamps(arrival_ns)
    body_ns = max([arrival_ns, *(sent or ())]) + draw(st.integers(0, 10_000))
    ended = draw(st.booleans())
    last_ns = max([first_byte_ns or 0, body_ns, *chunks, *(said or ())]) + draw(
        st.just(0) | st.integers(0, 10_000)
    )
    return trace_row(
        0,
        arrival_ns,
        request_body_ns=body_ns,
        first_byte_ns=first_byte_ns,
        chunk_ns=chunks,
        chunk_bytes=[1] * len(chunks),
        request_chunk_ns=sent,
        message_ns=said,
        end_ns=last_ns if ended else None,
    )


def back(batch: pa.RecordBatch) -> pa.RecordBatch:
    """What a reader makes of a batch as it is on disk."""
    return pa.RecordBatch.from_arrays(
        [restored(batch, name) for name in TRACE_SCHEMA.names], schema=TRACE_SCHEMA
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(), max_size=5), st.integers(0, 3))
def test_stamps_come_back_within_five_microseconds_in_order_and_within_their_row(
    made: list[dict[str, Any]], skipped: int
) -> None:
    batch = batch_of(made).slice(skipped)  # as row groups are cut
    on_disk = stored(batch)
    assert on_disk.schema == STORED_SCHEMA
    again = back(on_disk)
    for row, found in zip(batch.to_pylist(), again.to_pylist(), strict=True):
        assert {name: found[name] for name in found if name not in STORED_AS} == {
            name: row[name] for name in row if name not in STORED_AS
        }
        for name in STORED_AS:
            if row[name] is None:
                assert found[name] is None
                continue
            assert len(found[name]) == len(row[name])
            assert all(abs(one - other) <= 5000 for one, other in zip(found[name], row[name], strict=True))
            assert found[name] == sorted(found[name])
            assert all(instant >= row["arrival_ns"] for instant in found[name])
            for one, other in zip(found[name], row[name], strict=True):
                assert row["end_ns"] is None or one <= row["end_ns"]
                assert other != row["end_ns"] or one == other or name == "request_chunk_ns"
        assert all(instant >= (row["first_byte_ns"] or 0) for instant in found["chunk_ns"])
        assert all(instant <= row["request_body_ns"] for instant in found["request_chunk_ns"] or ())
    assert stored(again) == on_disk, "a trace that is written anew, a thousand times, stays as it is"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=8), st.integers(0, 10**13))
@example([2_000_010_000, 2_000_011_000, 2_000_012_000, 2_000_025_000], 2_000_011_000)
def test_stamps_that_no_capture_makes_keep_their_place_too(stamps: list[int], end_ns: int) -> None:
    """Importers may hand over stamps out of order, before the answer, or after the end."""
    odd = trace_row(0, 10**9, first_byte_ns=2 * 10**9, end_ns=end_ns, chunk_ns=stamps)
    found = back(stored(batch_of([odd]))).to_pylist()[0]["chunk_ns"]
    assert all(abs(one - other) <= 15_000 for one, other in zip(found, stamps, strict=True))
    order = np.argsort(stamps, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_rounding_does_not_add_up_over_a_long_answer() -> None:
    stamps = (np.arange(1, 20_001) * 3333).tolist()  # gaps of 3.333 µs: each alone would be none
    row = trace_row(0, 0, first_byte_ns=0, chunk_ns=stamps)
    found = back(stored(batch_of([row]))).to_pylist()[0]["chunk_ns"]
    assert np.abs(np.array(found) - np.array(stamps)).max() <= 5000


def test_a_file_of_format_1_reads_to_the_nanosecond_and_is_written_anew_in_todays(tmp_path: Path) -> None:
    was = pq.read_table(OLD)
    assert METADATA_KEY in pq.read_metadata(OLD).metadata
    assert "chunk_ns" in was.column_names
    old = open_trace(OLD)
    assert old.metadata.format_version == 1
    read = [row for batch in old.iter_batches() for row in batch.to_pylist()]
    assert read == was.to_pylist()
    assert old.column("message_ns").to_pylist() == was["message_ns"].to_pylist()

    write_trace(tmp_path / "new.parquet", old.iter_batches(), old.metadata)
    new = open_trace(tmp_path / "new.parquet")
    assert new.metadata.format_version == FORMAT_VERSION
    for before, after in zip(read, [r for b in new.iter_batches() for r in b.to_pylist()], strict=True):
        for name in before:
            if name not in STORED_AS or before[name] is None:
                assert after[name] == before[name]
            else:
                assert np.abs(np.array(after[name]) - np.array(before[name])).max(initial=0) <= 5000


def test_files_of_both_formats_are_one_trace(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(OLD.read_bytes())
    old = open_trace(OLD)
    one = trace_row(9, 5, first_byte_ns=7000, chunk_ns=[27_000, 47_000], chunk_bytes=[1, 1])
    write_rows(tmp_path / "b.parquet", [one], wall_zero_ns=old.metadata.wall_zero_ns)
    stamps = open_trace(tmp_path).column("chunk_ns").to_pylist()
    assert stamps == [[27_000, 47_000], *old.column("chunk_ns").to_pylist()]


def test_other_readers_find_gaps_and_how_to_make_instants_of_them(tmp_path: Path) -> None:
    chunks = {"first_byte_ns": 7001, "chunk_ns": [27_001, 47_001, 123_457_001], "chunk_bytes": [1, 1, 1]}
    path = write_rows(tmp_path / "t.parquet", [trace_row(0, 5, **chunks)])
    assert pq.read_table(path)["chunk_gap_10us"].to_pylist() == [[2, 2, 12_341]]
    instants = (
        "list_transform(chunk_gap_10us, lambda gap, i: first_byte_ns + 10_000 * list_sum(chunk_gap_10us[:i]))"
    )
    assert duckdb.read_parquet(str(path)).select(duckdb.SQLExpression(instants)).fetchall() == [
        (chunks["chunk_ns"],)
    ]
    assert instants in README.read_text(), "as it is told to users"


def test_only_what_is_asked_for_and_what_it_is_counted_from_is_read() -> None:
    assert needed(["path"], STORED_SCHEMA.names) == ["path"]
    assert needed(["chunk_ns"], STORED_SCHEMA.names) == [
        "chunk_gap_10us",
        "first_byte_ns",
        "arrival_ns",
        "end_ns",
    ]
    assert needed(["chunk_ns", "message_ns"], TRACE_SCHEMA.names) == ["chunk_ns", "message_ns"]
    assert needed(["message_ns"], ["chunk_ns"]) == []


def test_a_gap_that_is_null_is_damage(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", [trace_row(0, 5, chunk_ns=[9], chunk_bytes=[1])])
    table = pq.read_table(path)
    at = table.column_names.index("chunk_gap_10us")
    holed = table.set_column(at, "chunk_gap_10us", pa.array([[None]], pa.list_(pa.int64())))
    footer = {METADATA_KEY: pq.read_metadata(path).metadata[METADATA_KEY]}
    pq.write_table(holed.replace_schema_metadata(footer), path)
    with pytest.raises(BadInput, match="a list of instants holds a null"):
        list(open_trace(path).iter_batches())
