"""Retry-After: what its value says, and that runs made before it was kept still read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.analysis.run_table import RunTable
from replay.engine.exchange import FINISHED_FIELDS
from replay.engine.retry_after import retry_after_s
from replay.engine.run_format import METADATA_KEY, RunMetadata, read_run
from replay.engine.run_rows import batch_of_finished, batch_of_unsent

SAID = "Sun, 06 Nov 1994 08:49:07 GMT"


@pytest.mark.parametrize(
    ("value", "date", "wanted"),
    [
        ("120", "", 120.0),
        ("0", SAID, 0.0),
        (" 7 ", "", 7.0),
        ("1.5", "", 1.5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", SAID, 30.0),  # RFC 9110, 5.6.7: IMF-fixdate
        ("Sunday, 06-Nov-94 08:49:37 GMT", SAID, 30.0),  # RFC 850
        ("Sun Nov  6 08:49:37 1994", SAID, 30.0),  # asctime
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun Nov  6 08:49:07 1994", 30.0),
        ("Sun, 06 Nov 1994 08:48:07 GMT", SAID, 0.0),  # over by then
        ("Mon, 07 Nov 1994 00:00:00 GMT", "Sun, 06 Nov 1994 23:59:59 GMT", 1.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "", None),  # nothing to count from
        ("Sun, 06 Nov 1994 08:49:37 GMT", "yesterday", None),
        ("", SAID, None),
        ("-5", SAID, None),
        ("+5", SAID, None),
        ("1e3", SAID, None),
        ("inf", SAID, None),
        ("9" * 30, SAID, None),
        ("٣", SAID, None),
        ("soon", SAID, None),
        ("Sun, 99 Nov 9999 08:49:37 GMT", SAID, None),
        ("Sun, 06 Nov 1994 08:49:37 +0100", SAID, None),
    ],
)
def test_what_a_value_says(value: str, date: str, wanted: float | None) -> None:
    assert retry_after_s(value, date) == wanted


DATES = st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", fullmatch=True)


@given(st.text(max_size=64) | DATES, st.just(SAID) | DATES)
def test_no_value_is_more_than_unreadable(value: str, date: str) -> None:
    found = retry_after_s(value, date)
    assert found is None or 0 <= found < 1e15


FACTS = {"request_id": "r", "copy": 0, "session": 0, "endpoint": "POST /", "model": None, "stream": False}


def test_a_row_holds_what_its_answer_asked_for() -> None:
    counts = dict.fromkeys(("phase", "due_ns", "bytes_out", "bytes_in", "in_flight"), 0)
    answer = {"status": 429, "connection_reused": False, "content_type": "", "content_encoding": ""}
    reads: dict[str, object] = {"body": b"", "read_ns": [], "read_bytes": [], "date": SAID}
    reported = dict.fromkeys(FINISHED_FIELDS) | FACTS | counts | answer | reads
    values = ("7", "Sun, 06 Nov 1994 08:49:37 GMT", "", "soon")
    rows = [tuple({**reported, "retry_after": value}.values()) for value in values]
    assert batch_of_finished(0, rows, 0).column("retry_after_s").to_pylist() == [7.0, 30.0, None, None]


def test_a_run_without_the_column_reads_as_one_that_said_nothing(tmp_path: Path) -> None:
    about = RunMetadata("old", "http://h", 0, 0, "t", "s", (), 1)
    batch = batch_of_unsent([FACTS | {"phase": "base", "due_ns": 0}], ["not_sent"])
    old = pa.Table.from_batches([batch]).drop_columns(["retry_after_s"])
    pq.write_table(old.replace_schema_metadata({METADATA_KEY: about.to_json()}), tmp_path / "old.parquet")
    assert np.isnan(RunTable.of(*read_run(tmp_path / "old.parquet")).retry_after_s).all()
