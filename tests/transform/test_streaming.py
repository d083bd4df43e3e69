"""From a trace's file to a schedule's file in pieces: the same as in memory, and nothing half on failure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import replay.transform.schedule_columns
import replay.transform.schedule_format
import replay.transform.trace_rows
from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import batch_of, write_trace
from replay.cli import app
from replay.transform import draws
from replay.transform.arrival_facts import distribution_of, rate_curve
from replay.transform.ground import Ground
from replay.transform.making import Making
from replay.transform.pipeline import schedule_rows
from replay.transform.plan import Plan
from replay.transform.rows import base_rows
from replay.transform.schedule_columns import read_schedule_columns, sent_rows
from replay.transform.schedule_facts import Gathering, SmallestNumbers
from replay.transform.schedule_format import (
    SCHEDULE_SCHEMA,
    Schedule,
    read_lineage,
    read_schedule,
    write_pieces,
    write_schedule,
)
from replay.transform.sessions import hash_names
from replay.transform.shapes import Quiet, Spike
from tests.trace_rows import trace_row

S = 1_000_000_000


@pytest.fixture
def chats(tmp_path: Path) -> Trace:
    """400 requests: chats of several turns, requests without a session, some that can't be replayed."""
    rng = np.random.default_rng(4)
    rows = []
    for number, at in enumerate(np.cumsum(rng.integers(0, S, 400)).tolist()):
        session = None if number % 5 == 0 else f"chat-{number // 40}-{rng.integers(4)}"
        cut = {"outcome": "client_aborted", "request_body_ns": None} if number % 17 == 0 else {}
        rows.append(trace_row(number, at, session_id=session, end_ns=at + int(rng.integers(0, 3 * S)), **cut))
    write_trace(tmp_path / "chats.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    return open_trace(tmp_path / "chats.parquet")


@pytest.mark.parametrize("batch_rows", [7, 64, 1000])
def test_a_file_in_pieces_gives_what_memory_gives(
    chats: Trace, batch_rows: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = Plan(speed=2, amplify=3.4, jitter_ns=5 * S, shapes=(Spike(20 * S, 20 * S, 2.5),), seed=3)
    # In memory, by other means: names numbered in a dictionary, rows chosen afterwards.
    names = chats.column("session_id").to_pylist()
    numbers = [hash_of(name, at) for at, name in enumerate(names)]
    whole = base_rows(chats.arrival_ns, chats.column("end_ns").to_numpy(), np.array(numbers, np.int64))
    kept = np.flatnonzero(np.arange(400) % 17 != 0)
    first_ns = int(whole.due_ns[kept[0]])
    chosen = whole.take(kept)
    expected = schedule_rows(
        type(chosen)(
            **vars(chosen)
            | {"due_ns": chosen.due_ns - first_ns, "start_ns": np.maximum(chosen.start_ns - first_ns, 0)}
        ),
        plan.bound(Ground(chats)),
    )
    monkeypatch.setattr(replay.transform.trace_rows, "BATCH_ROWS", batch_rows)
    monkeypatch.setattr(replay.transform.trace_rows, "LINKED_ROWS", batch_rows)
    monkeypatch.setattr(replay.transform.schedule_format, "GROUP_ROWS", 100)
    making = Making(chats, plan)
    read: list[int] = []
    write_pieces(tmp_path / "s.parquet", making.pieces(read.append), making.lineage)
    found, lineage = read_schedule(tmp_path / "s.parquet")
    for name in SCHEDULE_SCHEMA.names:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert (found.after >= 0).sum() > 100
    assert sum(read) == making.rows_to_read == 1200  # links, arrivals to fit clones to, rows
    assert lineage.steps[0] == "left out 24 requests whose body never arrived whole"
    assert pq.read_metadata(tmp_path / "s.parquet").row_group(0).num_rows == 100


def test_a_schedule_is_inspected_in_batches_as_it_is_whole(
    chats: Trace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    making = Making(chats, Plan(amplify=1.5, seed=3))
    path = tmp_path / "s.parquet"
    write_pieces(path, making.pieces(), making.lineage)
    whole, lineage = read_schedule(path)
    assert read_lineage(path) == lineage
    monkeypatch.setattr(replay.transform.schedule_columns, "BATCH_ROWS", 7)
    found = read_schedule_columns(path)
    np.testing.assert_array_equal(found.due_ns, whole.due_ns)
    np.testing.assert_array_equal(found.sessions.requests()[0], whole.session)
    np.testing.assert_array_equal(found.first.row, whole.row)
    assert found.phases.tolist() == [len(whole)]
    sent = sent_rows(path)
    np.testing.assert_array_equal(sent.row, whole.row)
    known = np.unique(whole.row)
    lengths = sent.lengths(known, {"input_tokens": known.astype(np.int32)})
    assert (lengths.samples["input_tokens"].sum, lengths.one_in) == (whole.row.sum(), 1)
    monkeypatch.setattr(replay.transform.schedule_columns, "MOST_VALUES", 100)
    assert sent_rows(path).one_in == 2 ** int(np.ceil(np.log2(len(whole) / 100)))
    np.testing.assert_array_equal(sent_rows(path).row, whole.row[:: sent_rows(path).one_in])
    thinks = distribution_of(whole.think_ns[whole.after >= 0] / 1e9)
    again = found.think_ns.distribution(1e9)
    assert thinks is not None
    assert again is not None
    assert (again.count, again.mean) == (thinks.count, thinks.mean)
    np.testing.assert_array_equal(again.values, thinks.values)

    due_ns = whole.due_ns.copy()
    due_ns[7] = due_ns[6] - 1  # at the border of batches
    write_schedule(tmp_path / "bad.parquet", dataclasses.replace(whole, due_ns=due_ns), lineage)
    for read in (read_schedule, read_schedule_columns):
        with pytest.raises(BadInput, match=f"row 7, column due_ns: {due_ns[7]} found after {due_ns[6]}, asc"):
            read(tmp_path / "bad.parquet")


def hash_of(name: str | None, at: int) -> int:
    if name is None:
        return int(draws.lone_session(np.array([at]))[0])
    return int(hash_names(pa.array([name]))[0])


def test_a_making_that_fails_leaves_what_was_there(chats: Trace, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    output.write_bytes(b"precious")
    making = Making(chats, Plan(amplify=2, shapes=(Quiet(0, 10_000 * S, 0),)))
    with pytest.raises(BadInput, match="no request is left"):
        write_pieces(output, making.pieces(), making.lineage, overwrite=True)
    assert output.read_bytes() == b"precious"
    assert {entry.name for entry in tmp_path.iterdir()} == {"chats.parquet", "s.parquet"}


def test_transform_says_what_it_made(chats: Trace, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    done = CliRunner().invoke(app, ["transform", chats.name, "-o", str(output), "--amplify", "2"])
    assert done.exit_code == 0, done.output
    schedule, _ = read_schedule(output)
    assert f"{len(schedule):,} requests over" in done.output
    assert f"sessions: {len(np.unique(schedule.session)):,}" in done.output


def test_facts_gathered_in_pieces_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    for span_s in (0.5, 30, 4000, 1_000_000, 90_000_000):
        due_ns = np.sort(rng.integers(0, int(span_s * S), 5000))
        whole = schedule_rows(base_rows(due_ns, np.full(5000, -1), rng.integers(0, 2**62, 5000)))
        gathering = Gathering()
        for start in range(0, 5000, 700):
            gathering.add(
                Schedule(**{name: values[start : start + 700] for name, values in vars(whole).items()})
            )
        facts, curve = gathering.facts(), rate_curve(whole.due_ns)
        assert facts.rate.width_s == curve.width_s
        np.testing.assert_allclose(facts.rate.per_s, curve.per_s)
        np.testing.assert_allclose(facts.rate.start_s, curve.start_s)
        assert (facts.rows, facts.span_ns) == (5000, whole.span_ns)
        assert (facts.sessions, facts.sessions_exact) == (len(np.unique(whole.session)), True)


def test_many_sessions_are_estimated_within_the_stated_error() -> None:
    sessions = draws.lone_session(np.arange(200_000))
    smallest = SmallestNumbers(most=4096)
    for piece in np.split(np.concatenate((sessions, sessions[::-1])), 8):
        smallest.add(piece)
    count, exact = smallest.count()
    assert not exact
    assert abs(count / 200_000 - 1) < 5 / np.sqrt(4096)
