"""How hard bodies are compressed: text as hard as pays, digits without a pattern less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture.body_levels import BODIES, body_levels
from capture.compaction import write_segment
from capture.trace_format import STORED_SCHEMA, TRACE_SCHEMA, TraceMetadata
from capture.trace_writer import batch_of
from tests.trace_rows import trace_row

WORDS = ("the", "model", "was", "asked", "for", "an", "answer", "and", "gave", "one", "before")


def text(chance: np.random.Generator, size: int) -> bytes:
    return " ".join(chance.choice(WORDS, size // 5)).encode()


def digits(chance: np.random.Generator, size: int) -> bytes:
    return chance.bytes(size // 2).hex().encode()


@pytest.mark.parametrize(("make", "level"), [(text, 3), (digits, 1)])
@pytest.mark.parametrize("rows", [1, 40])
def test_a_column_has_the_level_that_its_bytes_want(
    make: Callable[[np.random.Generator, int], bytes], level: int, rows: int
) -> None:
    chance = np.random.default_rng(1)
    bodies = [make(chance, 200_000 // rows) for _ in range(rows)]
    batch = batch_of([trace_row(number, number, request_body=body) for number, body in enumerate(bodies)])
    assert body_levels(pa.Table.from_batches([batch]))["request_body"] == level


def test_without_bodies_the_level_is_what_it_is_elsewhere() -> None:
    for table in (
        TRACE_SCHEMA.empty_table(),
        pa.Table.from_batches([batch_of([trace_row(1, 1, request_body=None)])]),
    ):
        assert body_levels(table)["request_body"] == 3
    assert set(BODIES) <= set(TRACE_SCHEMA.names)


def test_a_segment_of_digits_reads_back_and_takes_less_room_than_all_columns_at_the_higher_level(
    tmp_path: Path,
) -> None:
    chance = np.random.default_rng(2)
    batch = batch_of([trace_row(number, number, request_body=digits(chance, 20_000)) for number in range(20)])
    size_bytes = write_segment(tmp_path / "segment-000001.parquet", [batch], TraceMetadata(0, "test"))
    read = pq.read_table(tmp_path / "segment-000001.parquet")
    assert read["request_body"].combine_chunks() == pa.chunked_array([batch["request_body"]]).combine_chunks()
    pq.write_table(
        read.cast(STORED_SCHEMA), tmp_path / "all.parquet", compression="zstd", compression_level=3
    )
    assert size_bytes < (tmp_path / "all.parquet").stat().st_size
