"""Real replays: real workers, real sockets, the demo server's own arrival stamps as the ground truth."""

from __future__ import annotations

import collections
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from replay_rig import MS, chat, replay_rows, request

from replay.demo.arrivals import read_arrivals
from replay.demo.build import Build
from replay.demo.launch import RunningServer
from replay.engine.requests import Rewrite
from replay.engine.sender import SENDERS, WIRE
from replay.engine.supervisor import Progress, Supervisor
from replay.transform.plan import Plan

pytestmark = pytest.mark.slow


def test_every_request_arrives_once_never_before_it_is_due(tmp_path: Path) -> None:
    rows = [chat(i, i * 20 * MS) if i % 3 else request(i, i * 20 * MS) for i in range(60)]
    with RunningServer(Build(), arrivals=tmp_path / "arrivals") as server:
        done = replay_rows(tmp_path, rows, server.base_url, plan=Plan(speed=2, amplify=2, jitter_ns=5 * MS))
    arrivals = read_arrivals(tmp_path / "arrivals").to_pylist()
    stamps = collections.defaultdict(list)
    for arrival in arrivals:
        if arrival["request"]:
            stamps[arrival["request"]].append(arrival["monotonic_ns"] - done.metadata.zero_monotonic_ns)
    assert set(stamps) == {f"{name}/{copy}" for name, copy in done.rows}
    for (name, copy), row in done.rows.items():
        (arrived_ns,) = stamps[f"{name}/{copy}"]
        assert row["due_ns"] <= row["sent_ns"] <= row["first_byte_ns"] <= row["end_ns"]
        assert row["due_ns"] <= arrived_ns <= row["first_byte_ns"]
        assert (row["status"], row["error"]) == (200, None)
        assert sum(row["chunk_bytes"]) > 0
        assert row["chunk_ns"] == sorted(row["chunk_ns"])
        if row["stream"]:
            assert row["output_tokens"] == 5
            assert sum(row["chunk_tokens"]) == 5
            assert row["first_byte_ns"] <= row["first_token_ns"] <= row["end_ns"]
            assert row["finish_reason"] == "length"


def test_the_split_over_workers_changes_nothing_in_the_rows(tmp_path: Path) -> None:
    rows = [chat(i, i * 15 * MS) | {"session_id": f"s{i % 7}"} for i in range(40)]
    with RunningServer() as server:
        one = replay_rows(tmp_path, rows, server.base_url)
        three = replay_rows(tmp_path, rows, server.base_url, workers=3)
    told = (
        "due_ns",
        "session",
        "phase",
        "endpoint",
        "status",
        "error",
        "output_tokens",
        "bytes_out",
        "stream",
    )
    for key, row in one.rows.items():
        assert {name: row[name] for name in told} == {name: three.rows[key][name] for name in told}
    by_session = collections.defaultdict(set)
    for row in three.rows.values():
        by_session[row["session"]].add(row["worker"])
    assert all(len(workers) == 1 for workers in by_session.values())
    assert {row["worker"] for row in three.rows.values()} == {0, 1, 2}


@pytest.mark.parametrize("sender", SENDERS)
def test_a_stopped_replay_is_a_readable_partial_run(tmp_path: Path, sender: str) -> None:
    def stop_midway(supervisor: Supervisor, progress: Progress) -> None:
        if progress.sent >= 5:
            supervisor.stop()

    rows = [chat(i, i * 200 * MS, tokens=60) for i in range(40)]
    with RunningServer() as server:
        done = replay_rows(tmp_path, rows, server.base_url, on_progress=stop_midway, sender=sender)
    assert done.metadata.partial
    errors = collections.Counter(row["error"] for row in done.rows.values())
    assert errors["not_sent"] > 0
    assert errors["interrupted"] > 0
    assert set(errors) <= {None, "not_sent", "interrupted"}
    assert all((row["sent_ns"] is None) == (row["error"] == "not_sent") for row in done.rows.values())


def test_a_worker_that_dies_loses_its_requests_and_the_run_goes_on(tmp_path: Path) -> None:
    def kill_one(supervisor: Supervisor, progress: Progress) -> None:
        victim = supervisor._workers[1].process
        if progress.sent >= 10 and victim.poll() is None:
            os.kill(victim.pid, signal.SIGKILL)

    rows = [request(i, i * 50 * MS) for i in range(60)]
    with RunningServer() as server:
        done = replay_rows(tmp_path, rows, server.base_url, workers=2, on_progress=kill_one)
    assert done.metadata.workers[1]["died"] is True
    lost = [row for row in done.rows.values() if row["error"] == "lost"]
    assert lost
    # Sessions are dealt round in the order of their first due: every second request was the dead worker's.
    of_dead = {key: row["due_ns"] // (50 * MS) % 2 == 1 for key, row in done.rows.items()}
    assert all(of_dead[key] for key, row in done.rows.items() if row["error"] == "lost")
    assert all(row["status"] == 200 for key, row in done.rows.items() if not of_dead[key])


@contextmanager
def scripted_server(behave: Callable[[socket.socket], Any]) -> Iterator[str]:
    """A TCP server that does to every connection what `behave` does; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_connections: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_connections.append(connection)
                threading.Thread(target=behave, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in open_connections:
            connection.close()


def answer(*pieces: bytes, then: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        try:
            while b"}" not in (data := connection.recv(65536)) and data:
                pass
            for piece in pieces:
                connection.sendall(piece)
            then(connection)
        except OSError:
            return

    return behave


def hang(connection: socket.socket) -> None:
    connection.recv(1)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
STREAM_ERROR = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'data: {"error": {"message": "out of memory"}}\n\n'
)


FAILURES: dict[str, tuple[Callable[[socket.socket], None], int | None, str | None]] = {
    "/silent": (answer(then=hang), None, "timeout"),
    "/half-then-silent": (answer(HALF, then=hang), 200, "timeout"),
    "/half-then-closed": (answer(HALF, then=socket.socket.close), 200, "reset"),
    "/half-then-reset": (answer(HALF, then=reset), 200, "reset"),
    "/reset": (answer(then=reset), None, "reset"),
    "/no-http": (answer(b"SMTP ready\r\n\r\n", then=hang), None, "protocol"),
    "/in-stream": (answer(STREAM_ERROR, then=socket.socket.close), 200, "stream_error"),
    "/busy": (
        answer(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", then=hang),
        503,
        None,
    ),
}
"""Path → what the server does to the connection that asks for it, and the status and error of its rows."""


def fail_by_path(connection: socket.socket) -> None:
    head = b""
    while b" HTTP/" not in head:
        head = connection.recv(65536, socket.MSG_PEEK)
        if not head:
            return
    FAILURES[head.split(b" ")[1].decode()][0](connection)


@pytest.mark.parametrize("sender", SENDERS)
def test_failures_become_rows_of_the_closed_vocabulary(tmp_path: Path, sender: str) -> None:
    asked = [path for path in FAILURES for _ in range(3)]
    rows = [request(number, number * 30 * MS, path) for number, path in enumerate(asked)]
    with scripted_server(fail_by_path) as url:
        done = replay_rows(tmp_path, rows, url, timeout_s=1.0, sender=sender)
    found: dict[str, set[tuple[int | None, str | None]]] = {}
    for row in done.rows.values():
        path = row["endpoint"].removeprefix("POST ")
        found.setdefault(path, set()).add((row["status"], row["error"]))
    assert found == {path: {(status, error)} for path, (_, status, error) in FAILURES.items()}
    assert all(row["sent_ns"] is not None and row["end_ns"] is not None for row in done.rows.values())


@pytest.mark.parametrize("sender", SENDERS)
def test_a_target_that_is_down_is_connect_refused(tmp_path: Path, sender: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rows = [request(0, 0), request(1, 10 * MS)]
    done = replay_rows(tmp_path, rows, f"http://127.0.0.1:{port}", sender=sender)
    assert [row["error"] for row in done.rows.values()] == ["connect_refused"] * 2
    assert all(row["sent_ns"] is None for row in done.rows.values())


@pytest.mark.parametrize("sender", SENDERS)
def test_a_connection_closed_while_a_request_is_staged_costs_no_request(tmp_path: Path, sender: str) -> None:
    """A keep-alive connection that the server closes is not used; the request still goes out, once."""
    seen: list[bytes] = []

    def close_after_each(connection: socket.socket) -> None:
        data = connection.recv(65536)
        if data:
            seen.append(data)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.close()

    with scripted_server(close_after_each) as url:
        done = replay_rows(tmp_path, [request(i, i * 8 * MS) for i in range(30)], url, sender=sender)
    assert {row["error"] for row in done.rows.values()} == {None}
    assert len(seen) == 30


def test_rewritten_headers_reach_the_server(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def note(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with scripted_server(note) as url:
        replay_rows(tmp_path, [request(0, 0)], url, rewrite=Rewrite((("Authorization", "Bearer staging"),)))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"Authorization: Bearer staging" in head
    assert b"REDACTED" not in head
    assert b"x-peaktape-request: r0/0" in head
    assert b"Host: 127.0.0.1:" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head + b"\r\n"


def test_memory_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    """Three times the requests, at the same rate: the worker's peak stays where it was.

    While a busy machine keeps the server from answering, more is in flight and the peak is higher, once. What
    is kept of each request shows each time.
    """

    def answer_all(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def peak_kib(copies: int) -> int:
        # 2,000 requests a second from 500 rows. The 10,000 more, kept, would be well over 15 MiB.
        rows = [request(i, i * copies * MS // 2, input="word " * 200) for i in range(500)]
        plan = Plan(amplify=copies, jitter_ns=100 * MS)
        done = replay_rows(tmp_path, rows, url, plan=plan, sender=WIRE)
        return int(done.metadata.workers[0]["peak_rss_kib"])

    with scripted_server(answer_all) as url:
        most_kib = peak_kib(10) + 11 * 1024
        assert any(peak_kib(30) < most_kib for _ in range(3))
