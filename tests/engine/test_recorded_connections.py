"""Connections as they were recorded: one for each recorded client connection, or any idle one of a pool."""

from __future__ import annotations

import collections
import json
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_rig import MS, replay_rows, request
from test_replay_end_to_end import scripted_server

from capture.trace_format import TRACE_SCHEMA, TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace
from replay.engine.idle import KEEP_ALIVE_NS, IdleConnections
from replay.engine.requests import RECORDED, Rewrite
from replay.engine.sender import WIRE
from replay.transform.plan import Plan


class Scripted:
    """A connection that only remembers."""

    def __init__(self) -> None:
        self.closed = False
        self.idle_since_ns = 0

    def give_up(self) -> None:
        self.closed = True


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["put", "take", "break"]), st.integers(0, 40)),
        max_size=60,
    )
)
def test_a_client_gets_its_own_open_and_young_connections_and_no_other_s(
    steps: list[tuple[str, str, int]],
) -> None:
    idle: IdleConnections[Scripted] = IdleConnections()
    owner: dict[int, str] = {}
    kept: list[Scripted] = []
    now_ns = 0
    for client, act, seconds in steps:
        now_ns += seconds * 10**9
        if act == "put":
            kept.append(Scripted())
            owner[id(kept[-1])] = client
            idle.put(client, kept[-1], now_ns)
        elif act == "break" and kept:
            kept[-1].closed = True
        elif act == "take" and (found := idle.take(client, now_ns)) is not None:
            assert owner[id(found)] == client
            assert not found.closed
            assert now_ns - found.idle_since_ns <= KEEP_ALIVE_NS
    idle.sweep(now_ns)
    assert len(idle) <= sum(not one.closed for one in kept)
    idle.sweep(now_ns + KEEP_ALIVE_NS + 1)
    assert len(idle) == 0


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [True, False])
def test_each_recorded_connection_is_one_again(tmp_path: Path, recorded: bool) -> None:
    carried: collections.defaultdict[int, list[str]] = collections.defaultdict(list)
    lock, numbers = threading.Lock(), iter(range(1000))

    def serve(connection: socket.socket) -> None:
        with lock:
            number = next(numbers)
        while data := connection.recv(65536):
            with lock:
                carried[number].append(json.loads(data.partition(b"\r\n\r\n")[2])["input"])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    # Three clients take turns: a pool would need one connection for all.
    rows = [request(i, i * 40 * MS, input=f"client {i % 3}") | {"connection": f"c{i % 3}"} for i in range(12)]
    rewrite = Rewrite(connections=RECORDED) if recorded else Rewrite()
    with scripted_server(serve) as url:
        done = replay_rows(tmp_path, rows, url, sender=WIRE, rewrite=rewrite, plan=Plan(amplify=1))
    assert {row["status"] for row in done.rows.values()} == {200}
    if recorded:
        assert sorted(carried.values()) == [[f"client {i}"] * 4 for i in range(3)]
        assert sum(row["connection_reused"] for row in done.rows.values()) == 9
    else:
        assert len(carried) < 3 or any(len(set(inputs)) > 1 for inputs in carried.values())


def test_traces_from_before_have_no_connections_and_read_on(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_trace(
        tmp_path / "new.parquet", [batch_of([request(0, 0) | {"connection": "c1"}])], TraceMetadata(0, "t")
    )
    with pq.ParquetFile(tmp_path / "new.parquet") as file:
        table, footer = file.read(), file.metadata.metadata
    old = table.drop_columns(["connection"]).replace_schema_metadata(footer)
    pq.write_table(old, tmp_path / "old.parquet")
    for name, found in (("new", ["c1"]), ("old", [None])):
        (batch,) = open_trace(tmp_path / f"{name}.parquet").iter_batches()
        assert batch.schema.names == TRACE_SCHEMA.names
        assert batch.column("connection").to_pylist() == found
