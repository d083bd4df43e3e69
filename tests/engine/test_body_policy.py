"""What a run keeps of the answers' bodies: nothing, a hash, or all, as received; and runs from before."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from connection_rig import Arrival, free_port, site
from replay_rig import MS, replay_rows, request
from test_run_file import ABOUT, unsent

from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.analysis.run_table import RunTable
from replay.engine import run_rows, run_writer
from replay.engine.exchange import Exchange, finished
from replay.engine.requests import Rewrite, prepare
from replay.engine.run_format import (
    DROP,
    HASH,
    KEEP,
    METADATA_KEY,
    RUN_SCHEMA,
    partial_of,
    read_run,
)
from replay.engine.run_rows import BATCH_ROWS, Gathering, batch_of_finished
from replay.engine.run_writer import RunWriter
from replay.engine.sender import SENDERS, SESSION, WIRE
from tests.command_line import peaktape_here

BODY = json.dumps({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
ZIPPED = gzip.compress(BODY, mtime=0)
GZIP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n" + (
    b"Content-Length: %d\r\n\r\n" % len(ZIPPED)
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"


REPLIES = {
    "/gzip": (GZIP + ZIPPED, ZIPPED),
    "/chunked": (CHUNKED, b"abcde"),
    "/broken-off": (HALF, b"half"),
    "/empty": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "/failed": (b"HTTP/1.1 500 Oh no\r\nContent-Length: 2\r\n\r\nno", b"no"),
}
"""Path → the bytes that it is answered with, and the body in them."""


def reply(arrival: Arrival) -> bytes:
    return REPLIES[arrival.head.split(b" ")[1].decode()][0]


@pytest.mark.slow
@pytest.mark.parametrize(("sender", "bodies"), [(SESSION, KEEP), (WIRE, KEEP), (SESSION, HASH), (WIRE, DROP)])
def test_bodies_are_kept_as_received_or_hashed_or_dropped(tmp_path: Path, sender: str, bodies: str) -> None:
    rows = [request(i, i * 20 * MS, path) for i, path in enumerate(REPLIES)]
    with site(answer=reply) as found:
        done = replay_rows(tmp_path, rows, found.url, sender=sender, bodies=bodies, timeout_s=1.0)
    assert done.metadata.bodies == bodies
    for told in done.rows.values():
        body = REPLIES[told["endpoint"].removeprefix("POST ")][1]
        assert told["body"] == (body if bodies == KEEP else None)
        assert told["body_sha256"] == (None if bodies == DROP else hashlib.sha256(body).digest())
        if body is ZIPPED:
            assert told["output_tokens"] == 4  # read, whatever is kept


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
def test_what_was_not_answered_has_no_body(tmp_path: Path, sender: str) -> None:
    done = replay_rows(
        tmp_path, [request(0, 0)], f"http://127.0.0.1:{free_port()}", sender=sender, bodies=KEEP
    )
    (told,) = done.rows.values()
    assert (told["status"], told["body"], told["body_sha256"]) == (None, None, None)


@pytest.mark.slow
def test_the_command_line_passes_the_policy_on(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", [batch_of([request(0, 0)])], TraceMetadata(0, "test"))
    wide = ("--max-lateness", "9s", "--max-lateness-p99", "9s", "--overwrite")
    with site(answer=lambda arrival: GZIP + ZIPPED) as found:
        given = ("replay", "t.parquet", "--target", found.url, "-o", "r.parquet", *wide)
        found_bodies = []
        for options in ((), ("--bodies", "hash"), ("--bodies", "keep")):
            peaktape_here(*given, *options, cwd=tmp_path)
            table, metadata = read_run(tmp_path / "r.parquet")
            found_bodies.append(
                (metadata.bodies, *table["body_sha256"].to_pylist(), *table["body"].to_pylist())
            )
        said = peaktape_here(*given, "--bodies", "some", cwd=tmp_path)
    digest = hashlib.sha256(ZIPPED).digest()
    assert found_bodies == [(DROP, None, None), (HASH, digest, None), (KEEP, digest, ZIPPED)]
    assert said.returncode == 2


def answered(number: int, body: bytes) -> tuple[Any, ...]:
    """What a worker reports of an answer."""
    place = {"index": number, "due_ns": number, "copy": 0, "session": number, "phase": 0}
    trace_row = request(number, number) | {"model": None, "request_headers": ()}
    prepared = prepare(trace_row, place, Rewrite())
    return finished(Exchange(prepared, status=200, body=body, end_ns=1))


def test_what_workers_report_is_gathered_until_it_is_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_rows, "BATCH_BYTES", 1000)
    gathering = Gathering(now_s=10.0)
    assert not gathering.is_due(1e9)
    gathering.put(0, [answered(i, b"x" * 250) for i in range(3)])
    assert [gathering.is_due(now_s) for now_s in (10.0, 10.9, 11.0)] == [False, False, True]
    gathering.put(1, [answered(3, b"x" * 250)])
    assert gathering.is_due(10.0)
    assert {worker: [row[0] for row in rows] for worker, rows in gathering.take(12.0).items()} == {
        0: [0, 1, 2],
        1: [3],
    }
    gathering.put(0, [answered(i, b"") for i in range(BATCH_ROWS - 1)])
    assert [gathering.is_due(now_s) for now_s in (12.5, 13.0)] == [False, True]
    gathering.put(0, [answered(BATCH_ROWS, b"")])
    assert gathering.is_due(12.5)


def test_bodies_come_and_go_with_their_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_writer, "GROUP_BYTES", 1000)
    writer = RunWriter(tmp_path / "run.parquet", KEEP)
    writer.begin(dataclasses.replace(ABOUT, bodies=KEEP))
    for number in range(0, 30, 10):
        rows = [answered(i, b"x" * 250) for i in range(number, number + 10)]
        writer.add(batch_of_finished(0, rows, 0, KEEP))
    left, _ = read_run(partial_of(tmp_path / "run.parquet"))
    assert left["body"].to_pylist() == [b"x" * 250] * 30
    without, metadata = read_run(partial_of(tmp_path / "run.parquet"), bodies=False)
    assert (without.schema, without["body"].null_count, metadata.bodies) == (RUN_SCHEMA, 30, KEEP)
    writer.finish(dataclasses.replace(ABOUT, bodies=KEEP))
    with pq.ParquetFile(tmp_path / "run.parquet") as file:
        assert file.num_row_groups == 3
    table, metadata = read_run(tmp_path / "run.parquet")
    assert (table["body"].to_pylist(), metadata.bodies) == ([b"x" * 250] * 30, KEEP)
    lean, _ = read_run(tmp_path / "run.parquet", bodies=False)
    assert lean["body"].null_count == 30
    assert lean.drop_columns(["body"]) == table.drop_columns(["body"])


@pytest.mark.parametrize("partial", [False, True])
def test_a_run_from_before_the_bodies_reads_with_nulls(tmp_path: Path, partial: bool) -> None:
    old = pa.schema([field for field in RUN_SCHEMA if not field.name.startswith("body")])
    facts = json.loads(ABOUT.to_json())
    del facts["bodies"]
    old = old.with_metadata({METADATA_KEY: json.dumps(facts).encode()})
    table = pa.Table.from_batches([unsent(range(5))]).select(old.names)
    table = table.replace_schema_metadata(old.metadata)
    path = tmp_path / "old.parquet"
    if partial:
        with pa.ipc.new_stream(path, old) as stream:
            stream.write_table(table)
    else:
        with pq.ParquetWriter(path, old.remove_metadata()) as file:
            file.write_table(table.replace_schema_metadata())
            file.add_key_value_metadata(old.metadata)
    read, metadata = read_run(path)
    assert read.schema == RUN_SCHEMA
    assert read["body"].null_count == read["body_sha256"].null_count == 5
    assert read["request_id"].to_pylist() == [f"r{i}" for i in range(5)]
    assert metadata.bodies == DROP
    assert len(RunTable.of(read, metadata)) == 5


def test_a_run_without_a_column_that_every_run_has_is_refused(tmp_path: Path) -> None:
    short = pa.schema([field for field in RUN_SCHEMA if field.name != "due_ns"])
    table = pa.Table.from_batches([unsent([0])]).select(short.names)
    with pq.ParquetWriter(tmp_path / "r.parquet", short) as file:
        file.write_table(table)
        file.add_key_value_metadata({METADATA_KEY: ABOUT.to_json()})
    with pytest.raises(BadInput, match="column due_ns: missing, int64 wanted"):
        read_run(tmp_path / "r.parquet")
