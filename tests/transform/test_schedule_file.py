"""The schedule's file: what goes in comes out, and what is no schedule is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture.failures import BadInput
from replay.transform.pipeline import base_schedule
from replay.transform.schedule_format import (
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
