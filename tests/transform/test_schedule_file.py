"""The schedule's file: what goes in comes out, and what is no schedule is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture.failures import BadInput
from replay.transform.pipeline import base_schedule
from replay.transform.schedule_format import (
    METADATA_KEY,
    SCHEDULE_SCHEMA,
    Lineage,
    Schedule,
    is_schedule,
    read_schedule,
    schedule_fingerprint,
    write_schedule,
)

LINEAGE = Lineage("/t.parquet", "abc", 3, ("speed 5",), 7)


def three() -> Schedule:
    return base_schedule(np.array([0, 5, 9], np.int64), np.array([3, 6, -1]), np.array([0, 0, 1]))


def test_a_schedule_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_schedule(path, three(), LINEAGE)
    found, lineage = read_schedule(path)
    assert lineage == LINEAGE
    for name in ("due_ns", "row", "copy", "session", "after", "think_ns", "phase"):
        np.testing.assert_array_equal(getattr(found, name), getattr(three(), name))
    assert is_schedule(path)
    assert schedule_fingerprint(found, lineage) == schedule_fingerprint(three(), LINEAGE)


def test_an_existing_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    path.write_bytes(b"precious")
    with pytest.raises(BadInput, match="exists already; choose another name or add --overwrite"):
        write_schedule(path, three(), LINEAGE)
    assert path.read_bytes() == b"precious"
    write_schedule(path, three(), LINEAGE, overwrite=True)
    assert is_schedule(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.parquet"]


def test_other_files_are_no_schedule(tmp_path: Path) -> None:
    text, table = tmp_path / "text", tmp_path / "table.parquet"
    text.write_text("hello")
    pq.write_table(pa.table({"x": [1]}), table)
    for path in (text, table):
        assert not is_schedule(path)
        with pytest.raises(BadInput, match="schedule"):
            read_schedule(path)


def test_due_instants_that_go_back_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    whole = three()
    write_schedule(path, Schedule(**{**vars(whole), "due_ns": np.array([0, 9, 5])}), LINEAGE)
    with pytest.raises(BadInput, match=r"row 2, column due_ns: 5 found after 9, ascending wanted"):
        read_schedule(path)


def with_lineage(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], **columns: pa.Array) -> Path:
    """The schedule at `path` with its metadata changed, and columns replaced."""
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), SCHEDULE_SCHEMA.field(name), values)
    raw = json.dumps(change(json.loads(table.schema.metadata[METADATA_KEY]))).encode()
    pq.write_table(table.cast(SCHEDULE_SCHEMA).replace_schema_metadata({METADATA_KEY: raw}), path)
    return path


def test_a_schedule_from_before_phases_had_names_in_it_still_reads(tmp_path: Path) -> None:
    write_schedule(tmp_path / "s.parquet", three(), LINEAGE)
    known = ("trace_path", "trace_fingerprint", "trace_rows", "steps", "seed", "rewrite", "tool_version")
    old = with_lineage(
        tmp_path / "s.parquet",
        lambda found: {name: found[name] for name in (*known, "format_version")},
        phase=pa.array([0, 2, 3], pa.int8()),
    )
    schedule, lineage = read_schedule(old)
    assert [lineage.phases[phase] for phase in schedule.phase] == ["base", "spike", "recover"]
    assert (lineage.recipe, lineage.rewrite) == ("", {})
    assert schedule_fingerprint(three(), lineage) == schedule_fingerprint(three(), LINEAGE)


def test_a_phase_without_a_name_is_refused(tmp_path: Path) -> None:
    write_schedule(tmp_path / "s.parquet", three(), LINEAGE)
    path = with_lineage(
        tmp_path / "s.parquet",
        lambda found: found | {"phases": ["base", "launch"]},
        phase=pa.array([0, 1, 2], pa.int8()),
    )
    with pytest.raises(BadInput, match="row 2, column phase: 2 found, one of the 2 phases named wanted"):
        read_schedule(path)
