"""Reading traces: files, folders and globs as one trace in arrival order; every way a file can be wrong."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture.failures import BadInput
from capture.trace_format import METADATA_KEY, TRACE_SCHEMA, TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import ROW_GROUP_ROWS, batch_of, row_groups, write_trace
from tests.trace_rows import trace_row, write_rows


def ids(trace_name: str | Path) -> list[str]:
    return [
        row
        for batch in open_trace(trace_name).iter_batches()
        for row in batch.column("request_id").to_pylist()
    ]


def test_a_file_reads_back_as_written(tmp_path: Path) -> None:
    second = 1_000_000_000
    chunks = {"chunk_ns": [second, second + 40_000], "chunk_bytes": [3, 4]}
    rows = [trace_row(i, 10 * i, first_byte_ns=second, **chunks) for i in range(2500)]
    trace = open_trace(write_rows(tmp_path / "t.parquet", rows))
    assert trace.rows == 2500
    assert trace.arrival_ns.tolist() == [10 * i for i in range(2500)]
    found = [row for batch in trace.iter_batches() for row in batch.to_pylist()]
    assert found[1234]["chunk_ns"] == [second, second + 40_000]
    assert found[1234]["request_headers"] == [{"name": "content-type", "value": "application/json"}]
    assert trace.take(np.array([2400, 3, 3]), ["request_id"]).column(0).to_pylist() == ["r2400", "r3", "r3"]


def test_segments_that_overlap_read_as_one_in_arrival_order(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    write_rows(folder / "1.parquet", [trace_row(i, 20 * i) for i in range(1500)])
    write_rows(folder / "2.parquet", [trace_row(i + 5000, 20 * i + 10) for i in range(1500)])
    (folder / ".3.parquet.tmp").write_bytes(b"unfinished")
    expected = [f"r{number}" for pair in zip(range(1500), range(5000, 6500), strict=True) for number in pair]
    assert ids(folder) == expected
    assert ids(folder / "*.parquet") == expected


def test_segments_of_two_captures_meet_on_the_wall_clock(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "s" / "b.parquet",
        [trace_row(1, 0, end_ns=50_000, chunk_ns=[30_000], chunk_bytes=[1])],
        wall_zero_ns=1000,
    )
    write_rows(tmp_path / "s" / "a.parquet", [trace_row(2, 7)], wall_zero_ns=400)
    trace = open_trace(tmp_path / "s")
    assert trace.arrival_ns.tolist() == [7, 600]
    rows = [row for batch in trace.iter_batches() for row in batch.to_pylist()]
    assert [(row["request_id"], row["arrival_ns"]) for row in rows] == [("r2", 7), ("r1", 600)]
    assert (rows[1]["end_ns"], rows[1]["chunk_ns"]) == (50_600, [30_600])


def test_counts_of_segments_of_one_capture_are_running_totals(tmp_path: Path) -> None:
    write_rows(tmp_path / "s" / "1.parquet", [trace_row(1, 0)], counts={"seen": 1, "dropped": {}})
    write_rows(
        tmp_path / "s" / "2.parquet", [trace_row(2, 9)], counts={"seen": 4, "dropped": {"queue_full": 2}}
    )
    counts = open_trace(tmp_path / "s").metadata.counts
    assert counts == {"seen": 4, "recorded": 2, "dropped": {"queue_full": 2}}


def test_the_fingerprint_tells_traces_apart(tmp_path: Path) -> None:
    one = open_trace(write_rows(tmp_path / "1.parquet", [trace_row(1, 0)])).fingerprint
    same = open_trace(write_rows(tmp_path / "2.parquet", [trace_row(1, 0)])).fingerprint
    other = open_trace(write_rows(tmp_path / "3.parquet", [trace_row(1, 1)])).fingerprint
    assert one == same
    assert one != other


def test_row_groups_stay_small_in_rows_and_bytes() -> None:
    many = batch_of([trace_row(i, i) for i in range(2 * ROW_GROUP_ROWS + 1)])
    assert [piece.num_rows for piece in row_groups(many)] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 1]
    heavy = batch_of([trace_row(i, i, request_body=bytes(3 << 20)) for i in range(8)])
    assert max(piece.num_rows for piece in row_groups(heavy)) <= 3
    assert sum(piece.num_rows for piece in row_groups(heavy)) == 8


def one_line(argument: object) -> str:
    with pytest.raises(BadInput) as refused:
        list(open_trace(argument).iter_batches())  # type: ignore[arg-type]
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "no such file, folder or glob" in one_line(tmp_path / "nothing.parquet")
    (tmp_path / "empty").mkdir()
    assert "folder without .parquet segments" in one_line(tmp_path / "empty")


@pytest.mark.parametrize("kept", [0, 3, 100, -1, -9])
def test_a_truncated_file(tmp_path: Path, kept: int) -> None:
    path = write_rows(tmp_path / "t.parquet", [trace_row(i, i) for i in range(50)])
    path.write_bytes(path.read_bytes()[:kept])
    assert "not a whole Parquet file" in one_line(path)


def test_damage_in_the_middle_is_named_when_it_is_met(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "t.parquet",
        [trace_row(i, i, request_body=random.Random(i).randbytes(999)) for i in range(500)],
    )
    raw = bytearray(path.read_bytes())
    for at in range(200, len(raw) // 2):
        raw[at] ^= 0xFF
    path.write_bytes(raw)
    assert "damaged data" in one_line(path)


def test_a_wrong_schema_names_column_found_and_wanted(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"request_id": ["x"]}), path)
    assert "column session_id: missing, string wanted" in one_line(path)
    columns = batch_of([trace_row(1, 0)]).to_pydict() | {"turn": ["first"]}
    schema = TRACE_SCHEMA.set(TRACE_SCHEMA.get_field_index("turn"), pa.field("turn", pa.string()))
    pq.write_table(pa.table(columns, schema=schema), path)
    assert "column turn: string found, int32 wanted" in one_line(path)


def test_a_table_without_our_metadata(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_batches([batch_of([trace_row(1, 0)])]), path)
    assert "no peaktape metadata" in one_line(path)


def test_a_newer_format(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    footer = {METADATA_KEY: TraceMetadata(0, "test", format_version=99).to_json()}
    pq.write_table(pa.table({"other_columns": ["too"]}).replace_schema_metadata(footer), path)
    assert "trace format 99 found, up to 2 wanted; upgrade peaktape" in one_line(path)


def test_an_empty_trace(tmp_path: Path) -> None:
    empty = write_rows(tmp_path / "t.parquet", [])
    assert "empty trace (seen 0, recorded 0, dropped none)" in one_line(empty)
    counts = {"seen": 13, "recorded": 0, "dropped": {"disk_full": 13}}
    lost = write_rows(tmp_path / "lost.parquet", [], counts=counts)
    assert "empty trace (seen 13, recorded 0, dropped disk_full 13)" in one_line(lost)


@pytest.mark.parametrize("wall_zero_ns", [(0, 0), (0, 5), (5, 0)])
def test_an_arrival_before_the_zero_names_the_row(tmp_path: Path, wall_zero_ns: tuple[int, int]) -> None:
    wanted = "row 0, column arrival_ns: -1 found, 0 to "
    alone = write_rows(tmp_path / "t.parquet", [trace_row(0, -1), trace_row(1, 9)])
    assert wanted in one_line(alone)
    for number, zero_ns in enumerate(wall_zero_ns):
        rows = [trace_row(number, -1 + number)]
        write_rows(tmp_path / "s" / f"{number}.parquet", rows, wall_zero_ns=zero_ns)
    found = one_line(tmp_path / "s")
    assert wanted in found
    assert "0.parquet" in found


def test_an_arrival_that_the_common_zero_moves_out_of_reach(tmp_path: Path) -> None:
    write_rows(tmp_path / "1.parquet", [trace_row(0, 0)], wall_zero_ns=0)
    write_rows(tmp_path / "2.parquet", [trace_row(1, 2**63 - 1)], wall_zero_ns=1)
    wanted = f"2.parquet: row 0, column arrival_ns: {2**63 - 1} found, 0 to {2**63 - 2} ns"
    assert wanted in one_line(tmp_path)


def test_unsorted_arrivals_name_the_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", [trace_row(0, 5), trace_row(1, 9), trace_row(2, 7)])
    assert "row 2, column arrival_ns: 7 found after 9, ascending wanted" in one_line(path)


def test_values_that_no_trace_has(tmp_path: Path) -> None:
    strange = write_rows(tmp_path / "o.parquet", [trace_row(0, 5), trace_row(1, 6, outcome="exploded")])
    assert "row 1, column outcome: 'exploded' found, one of complete" in one_line(strange)
    nullable = pa.schema([pa.field(f.name, f.type) for f in TRACE_SCHEMA])
    rows = batch_of([trace_row(0, 5)]).to_pydict() | {"method": [None]}
    footer = {METADATA_KEY: TraceMetadata(0, "test").to_json()}
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table(rows, schema=nullable).replace_schema_metadata(footer), path)
    assert "row 0, column method: null found, string wanted" in one_line(path)


def test_writing_refuses_what_exists_and_leaves_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"precious")
    with pytest.raises(BadInput, match="add --overwrite"):
        write_rows(path, [trace_row(0, 0)])
    with pytest.raises(ZeroDivisionError):
        write_trace(path, (1 // 0 for _ in "x"), TraceMetadata(0, "test"), overwrite=True)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parquet"]


def test_messages_meet_on_the_wall_clock_too_and_rows_without_any_stay_so(tmp_path: Path) -> None:
    talk = trace_row(
        1, 0, message_ns=[30_000, 40_000], message_bytes=[1, 2], message_from_client=[True, False]
    )
    write_rows(tmp_path / "s" / "b.parquet", [talk, trace_row(3, 1)], wall_zero_ns=1000)
    write_rows(
        tmp_path / "s" / "a.parquet",
        [trace_row(2, 7, request_body_ns=90_000, request_chunk_ns=[80_007])],
        wall_zero_ns=400,
    )
    rows = [row for batch in open_trace(tmp_path / "s").iter_batches() for row in batch.to_pylist()]
    assert [row["message_ns"] for row in rows] == [None, [30_600, 40_600], None]
    assert [row["request_chunk_ns"] for row in rows] == [[80_007], None, None]


def test_a_trace_from_before_messages_were_kept_reads_as_one_without_them(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "new.parquet", [trace_row(1, 0)])
    table = pq.read_table(path)
    late = TRACE_SCHEMA.names[TRACE_SCHEMA.names.index("connection") :]
    old = table.select(table.column_names[: table.column_names.index("connection")])
    metadata = {METADATA_KEY: pq.read_metadata(path).metadata[METADATA_KEY]}
    pq.write_table(old.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    (row,) = (row for b in open_trace(tmp_path / "old.parquet").iter_batches() for row in b.to_pylist())
    assert {row[name] for name in late} == {None}
