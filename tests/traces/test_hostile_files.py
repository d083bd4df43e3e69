"""Files that somebody else made, or broke: one line says what is wrong with them, and nothing crashes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trace_rows import trace_row, write_rows

from capture.failures import BadInput
from capture.trace_format import METADATA_KEY, TraceMetadata
from capture.trace_reader import open_trace
from capture.yaml_file import load_yaml, told
from replay.engine import run_format
from replay.engine.preflight import captured_places
from replay.engine.run_format import RunMetadata, read_run
from replay.transform import schedule_format
from replay.transform.profile_file import read_profile
from replay.transform.schedule_format import Lineage, read_lineage

RUN = RunMetadata("a", "http://127.0.0.1:1", 1, 2, "t", "s", (), scheduled=1)
LINEAGE = Lineage("t.parquet", "f", 1, (), 0)


def written(path: Path, schema: pa.Schema, key: bytes, metadata: Any) -> Path:
    """An empty file of ours with `metadata`, a JSON value, in its footer."""
    footer = {key: json.dumps(metadata).encode()}
    pq.write_table(schema.empty_table().replace_schema_metadata(footer), path)
    return path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("wall_zero_ns", value) for value in (None, "1", 1.5, True, [], 10**30)),
        *(("source", 5), ("upstreams", [5]), ("notes", [None]), ("counts", []), ("choice", None)),
        *(("recorded_ns", [["a", 2]]), ("clock_tick_ns", "x")),
    ],
)
def test_a_traces_metadata_of_the_wrong_kind(field: str, value: Any, tmp_path: Path) -> None:
    about = dataclasses.asdict(TraceMetadata(1, "s")) | {field: value}
    with pytest.raises(BadInput, match=rf"t\.parquet: trace metadata can't be read .*{field}.*again"):
        TraceMetadata.from_json(json.dumps(about).encode(), "t.parquet")


@pytest.mark.parametrize(
    ("field", "value"), [("scheduled", "x"), ("workers", [5]), ("bounds", {"a": "b"}), ("partial", 1)]
)
def test_a_runs_metadata_of_the_wrong_kind(field: str, value: Any, tmp_path: Path) -> None:
    about = dataclasses.asdict(RUN) | {field: value}
    path = written(tmp_path / "r.parquet", run_format.RUN_SCHEMA, run_format.METADATA_KEY, about)
    with pytest.raises(BadInput, match=rf"r\.parquet: run metadata can't be read \({field}: .* wanted"):
        read_run(path)


def test_a_seed_may_be_of_any_size(tmp_path: Path) -> None:
    about = dataclasses.asdict(LINEAGE) | {"seed": 2**128}
    schema, key = schedule_format.SCHEDULE_SCHEMA, schedule_format.METADATA_KEY
    assert read_lineage(written(tmp_path / "s.parquet", schema, key, about)).seed == 2**128


@pytest.mark.parametrize(("field", "value"), [("trace_rows", []), ("seed", "x"), ("rewrite", 5)])
def test_a_schedules_metadata_of_the_wrong_kind(field: str, value: Any, tmp_path: Path) -> None:
    about = dataclasses.asdict(LINEAGE) | {field: value}
    schema, key = schedule_format.SCHEDULE_SCHEMA, schedule_format.METADATA_KEY
    with pytest.raises(BadInput, match=rf"s\.parquet: schedule metadata .* \({field}: .* wanted"):
        read_lineage(written(tmp_path / "s.parquet", schema, key, about))


def test_one_of_our_files_in_the_place_of_another_is_named(tmp_path: Path) -> None:
    trace = write_rows(tmp_path / "t.parquet", [trace_row(0, 0)])
    schema, key = run_format.RUN_SCHEMA, run_format.METADATA_KEY
    run = written(tmp_path / "r.parquet", schema, key, dataclasses.asdict(RUN))
    for read, path, said in (
        (read_run, trace, "a trace found, a run wanted"),
        (open_trace, run, "a run found, a trace wanted"),
        (read_lineage, run, "a run found, a schedule wanted"),
    ):
        with pytest.raises(BadInput, match=said):
            read(path)
    assert METADATA_KEY != run_format.METADATA_KEY


def test_a_run_whose_lists_of_reads_differ_in_length(tmp_path: Path) -> None:
    texts = {"request_id": "r", "phase": "base", "endpoint": "GET /"}
    reads = {"chunk_ns": [1, 2], "chunk_bytes": [1, 2], "chunk_tokens": [1]}
    row = {"copy": 0, "session": 0, "stream": True} | texts | reads
    table = pa.Table.from_pylist([row], schema=run_format.RUN_SCHEMA)
    footer = {run_format.METADATA_KEY: RUN.to_json()}
    pq.write_table(table.replace_schema_metadata(footer), tmp_path / "r.parquet")
    with pytest.raises(BadInput, match="row 0, column chunk_tokens: 1 reads found, 2 as in chunk_ns wanted"):
        read_run(tmp_path / "r.parquet")


def test_a_host_that_is_no_authority_is_a_captured_place_by_its_text(tmp_path: Path) -> None:
    trace = open_trace(write_rows(tmp_path / "t.parquet", [trace_row(0, 0, host="[::1")]))
    assert ("[::1", 80) in captured_places(trace)


@pytest.mark.parametrize("read", [lambda path: load_yaml(path, "a recipe"), read_profile])
def test_yaml_deeper_than_anybody_writes(read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "deep.yml"
    path.write_text("{a: " * 600 + "1" + "}" * 600)
    with pytest.raises(BadInput, match=r"deep\.yml: lists or mappings in one another beyond measure; a \w+"):
        read(path)


def test_what_is_shown_of_a_value_is_short() -> None:
    assert told(5) == "5"
    assert told("a" * 10) == repr("a" * 10)
    assert max(len(told("a" * 10_000)), len(told(10**400)), len(told("\n" * 500))) < 200
