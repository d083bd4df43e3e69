"""Two rooms behind one door: the same trace through both gives the same bytes out and the same rows."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from replay_rig import MS, Replayed, chat, replay_rows, request

from capture.failures import BadInput
from replay.demo.build import Build
from replay.demo.launch import RunningServer
from replay.engine.connecting import Connecting
from replay.engine.requests import RECORDED
from replay.engine.run_format import RUN_SCHEMA
from replay.engine.sender import SENDERS, SESSION, WIRE, choose
from replay.engine.target import parse_target

pytestmark = pytest.mark.slow

# What differs from run to run whatever sends: instants, how reads were cut, who was served first.
OF_THE_MOMENT = {"chunk_ns", "chunk_bytes", "chunk_tokens", "in_flight", "connection_reused", "error_text"}
OF_THE_MOMENT |= {name for name in RUN_SCHEMA.names if name.endswith("_ns") and name != "due_ns"}


def told(row: dict[str, Any]) -> dict[str, Any]:
    """What both senders must agree on."""
    same = {name: value for name, value in row.items() if name not in OF_THE_MOMENT}
    same |= {f"has {name}": row[name] is not None for name in OF_THE_MOMENT if name.endswith("_ns")}
    if row["error"] == "protocol":
        del same["status"]  # how much of what is no HTTP was understood is the parser's business
    return same | {"body bytes": sum(row["chunk_bytes"]), "events": sum(row["chunk_tokens"])}


def through_both(
    folder: Path, rows: list[dict[str, Any]], url: str, **given: Any
) -> tuple[Replayed, Replayed]:
    one, other = (replay_rows(folder, rows, url, sender=sender, **given) for sender in (SESSION, WIRE))
    assert one.rows.keys() == other.rows.keys()
    for key, row in one.rows.items():
        assert told(row) == told(other.rows[key])
    return one, other


def test_a_mixed_trace_gives_the_same_rows_through_both(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for i in range(60):
        at_ns = i * 15 * MS
        rows.append(
            [
                lambda i, at: chat(i, at, tokens=6),
                lambda i, at: request(i, at),
                lambda i, at: request(i, at, "/v1/chat/completions", model="no-such-model", messages=[]),
                lambda i, at: request(i, at, "/nowhere"),
                lambda i, at: request(i, at, "/v1/models") | {"method": "GET", "request_body": b""},
                lambda i, at: request(i, at) | {"request_body": b"{broken"},
            ][i % 6](i, at_ns)
        )
    with RunningServer(Build()) as server:
        through_both(tmp_path, rows, server.base_url)


@contextmanager
def answering(answer: Callable[[bytes], bytes], seen: list[bytes]) -> Iterator[str]:
    """A keep-alive server that answers each whole request with `answer(request)`; yields its URL."""

    def serve(connection: socket.socket) -> None:
        with connection:
            buffer = b""
            while True:
                head, found, rest = buffer.partition(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                if found and len(rest) >= length:
                    whole, buffer = head + found + rest[:length], rest[length:]
                    seen.append(whole)
                    reply = answer(whole)
                    connection.sendall(reply)
                    if b"connection: close" in reply.lower():
                        return
                    continue
                try:
                    data = connection.recv(1 << 20)
                except OSError:
                    return
                if not data:
                    return
                buffer += data

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_both_send_the_same_bytes(tmp_path: Path) -> None:
    headers = [
        ("X-One", "1"),
        ("accept", "*/*"),
        ("x-one", "2"),
        ("x-name", "Zo\xc3\xab"),
        ("Cookie", "a=b; c=d"),
    ]
    rows = [
        request(0, 0) | {"request_headers": headers},
        request(1, 30 * MS) | {"method": "GET", "request_body": b"", "path": "/v1/models?a=[1]&b=%20#x y"},
        request(2, 60 * MS) | {"method": "DELETE", "request_body": None, "request_headers": []},
        request(3, 90 * MS) | {"method": "POST", "request_body": b"", "request_headers": []},
        request(4, 120 * MS) | {"method": "HEAD", "request_body": b"", "request_headers": []},
        request(5, 150 * MS) | {"request_body": bytes(range(256)) * 4000},
        request(6, 180 * MS) | {"method": "OPTIONS", "request_body": None, "path": "*"},
        request(7, 210 * MS) | {"method": "REPORT", "request_body": b"x", "path": "http://prod.test/a/b"},
    ]
    sent: dict[str, list[bytes]] = {}
    for sender in SENDERS:
        seen: list[bytes] = []
        with answering(lambda whole: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as url:
            done = replay_rows(tmp_path, rows, url + "/prefix", sender=sender)
        port = url.rpartition(":")[2].encode()
        sent[sender] = sorted(whole.replace(port, b"PORT") for whole in seen)
        assert {row["error"] for row in done.rows.values()} == {None}
    for one, other in zip(sent[SESSION], sent[WIRE], strict=True):
        assert one[:400] == other[:400]
    assert len(sent[WIRE]) == len(rows)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
USAGE = gzip.compress(json.dumps({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode())
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SCRIPTS = {
    "chunked with trailers": CHUNKED + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "until the connection closes": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nold",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
    "informational first": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(USAGE)
    + USAGE,
    "empty": b"HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\n\r\n",
    "shed for a time": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nretry-after: 9\r\n"
    + b"Content-Length: 0\r\n\r\n",
    "shed until an instant": b"HTTP/1.1 503 Busy\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    + b"Date: Sun, 06 Nov 1994 08:49:07 GMT\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000,
    "broken chunk": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "not a status": b"HTTP/1.1 abc OK\r\n\r\n",
}


def test_byte_scripts_are_read_alike(tmp_path: Path) -> None:
    """Each script twice: the second time perhaps on the connection that the first one left."""
    rows = [request(2 * i + j, (2 * i + j) * 25 * MS, f"/{i}") for i in range(len(SCRIPTS)) for j in (0, 1)]
    scripts = list(SCRIPTS.values())
    with answering(lambda whole: scripts[int(whole.split(b" ", 2)[1][1:])], []) as url:
        one, _ = through_both(tmp_path, rows, url, timeout_s=2.0)
    found = [one.rows[f"r{2 * i}", 0] for i in range(len(SCRIPTS))]
    errors = {name for name, row in zip(SCRIPTS, found, strict=True) if row["error"] is not None}
    assert errors == {"broken chunk", "two lengths", "not a status"}
    waits = {
        name: row["retry_after_s"] for name, row in zip(SCRIPTS, found, strict=True) if row["retry_after_s"]
    }
    assert waits == {"shed for a time": 7.0, "shed until an instant": 30.0}


def test_a_head_s_announced_body_is_not_waited_for(tmp_path: Path) -> None:
    rows = [request(i, i * 25 * MS) | {"method": "HEAD", "request_body": None} for i in range(3)]
    with answering(lambda whole: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", []) as url:
        one, _ = through_both(tmp_path, rows, url, timeout_s=2.0)
    assert {row["status"] for row in one.rows.values()} == {200}


@pytest.mark.parametrize("sender", SENDERS)
def test_an_answer_before_the_request_is_whole_is_taken(tmp_path: Path, sender: str) -> None:
    """A server may refuse a large body unread: the early answer counts, and the run goes on."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.recv(1 << 22)

    from test_replay_end_to_end import scripted_server

    rows = [request(0, 0) | {"request_body": b"x" * 20_000_000}]
    with scripted_server(refuse) as url:
        done = replay_rows(tmp_path, rows, url, sender=sender, timeout_s=5.0)
    (row,) = done.rows.values()
    assert row["status"] == 413


@pytest.mark.parametrize("sender", SENDERS)
def test_clients_that_hung_up_do_so_again(tmp_path: Path, sender: str) -> None:
    gone_after_three = chat(0, 0, tokens=200) | {
        "outcome": "client_aborted",
        "chunk_ns": [1, 2, 3],
        "chunk_bytes": [1, 1, 1],
        "end_ns": 4,
    }
    gone_before_any = chat(1, 5 * MS, tokens=200) | {
        "outcome": "client_aborted",
        "request_body_ns": 5 * MS,
        "end_ns": 35 * MS,
    }
    stays = chat(2, 10 * MS, tokens=3)
    rows = [gone_after_three, gone_before_any, stays]
    with RunningServer(Build()) as server:
        done = replay_rows(tmp_path, rows, server.base_url, sender=sender)
    (after_three,), (before_any,), (whole,) = (
        [row for row in done.rows.values() if row["request_id"] == name] for name in ("r0", "r1", "r2")
    )
    assert (after_three["error"], len(after_three["chunk_ns"]), after_three["status"]) == ("aborted", 3, 200)
    assert before_any["error"] == "aborted"
    assert before_any["end_ns"] - before_any["sent_ns"] >= 29 * MS  # the loop's timers tick at 1 ms
    assert (whole["error"], whole["status"]) == (None, 200)


@pytest.mark.parametrize("sender", SENDERS)
def test_an_answer_that_does_not_begin_in_time_is_a_timeout(tmp_path: Path, sender: str) -> None:
    from test_replay_end_to_end import answer, hang, scripted_server

    rows = [request(i, i * 20 * MS) for i in range(3)]
    with scripted_server(answer(then=hang)) as url:
        done = replay_rows(
            tmp_path, rows, url, sender=sender, timeout_s=30, connecting={"first_byte_timeout_s": 0.3}
        )
    for row in done.rows.values():
        assert row["error"] == "timeout"
        assert 300 * MS <= row["end_ns"] - row["sent_ns"] < 3000 * MS


@pytest.mark.parametrize("sender", SENDERS)
def test_a_unix_socket_is_a_way_too(tmp_path: Path, sender: str) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        threading.Thread(target=serve, daemon=True).start()
        rows = [request(i, i * 30 * MS) for i in range(3)]
        done = replay_rows(
            tmp_path, rows, "http://any.test", sender=sender, connecting={"unix_socket": str(path)}
        )
    assert {row["status"] for row in done.rows.values()} == {200}


def test_the_default_goes_by_peak_rate_and_options() -> None:
    plain = Connecting(parse_target("http://127.0.0.1:1"), 1, 1)
    proxied = Connecting(parse_target("http://127.0.0.1:1"), 1, 1, proxy="http://127.0.0.1:3128")
    assert choose("auto", 20, plain) == (SESSION, "its busiest second holds 20 requests, up to 300")
    assert choose("auto", 5000, plain) == (WIRE, "its busiest second holds 5000 requests")
    assert choose("auto", 5000, proxied) == (SESSION, "a proxy was given")
    streaming = choose("auto", 20, plain, chunks_per_s=30_000)
    assert streaming == (WIRE, "its busiest second is expected to bring 30000 chunks of streams")
    assert choose("auto", 20, plain, chunks_per_s=5000)[0] == SESSION
    assert choose(WIRE, 20, plain) == (WIRE, "chosen with --sender")
    assert choose("auto", 20, plain, RECORDED) == (WIRE, "recorded connections were asked for")
    for wanted, connecting in ((SESSION, plain), ("auto", proxied)):
        with pytest.raises(BadInput, match="--connections recorded: needs the wire sender"):
            choose(wanted, 20, connecting, RECORDED)
