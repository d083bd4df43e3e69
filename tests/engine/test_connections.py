"""Ways to a target, by real sockets: TLS, client certificates, keep-alive, timeouts, through both senders."""

from __future__ import annotations

import dataclasses
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from connection_rig import OK, Arrival, Authority, Site, full_backlog, listening, site
from replay_rig import MS, Replayed, replay_rows, request

from replay.engine.requests import Rewrite
from replay.engine.sender import SENDERS
from replay.engine.target import Target, parse_target

pytestmark = pytest.mark.slow

LARGE_BYTES = 5_000_000


def errors(done: Replayed) -> set[str | None]:
    return {row["error"] for row in done.rows.values()}


def pinned(url: str, *addresses: str) -> Target:
    return dataclasses.replace(parse_target(url), addresses=addresses or ("127.0.0.1",))


def assert_staged(done: Replayed, found: Site) -> None:
    """No request left before it was due, by the sender's stamp and by the server's."""
    zero_ns = done.metadata.zero_monotonic_ns
    rows = {f"{name}/{copy}": row for (name, copy), row in done.rows.items()}
    assert sorted(arrival.tag for arrival in found.arrivals) == sorted(rows)
    for arrival in found.arrivals:
        row = rows[arrival.tag]
        assert row["due_ns"] <= row["sent_ns"]
        assert row["due_ns"] <= arrival.at_ns - zero_ns
        assert row["sent_ns"] <= row["first_byte_ns"]


def tls_rows(folder: Path, found: Site, sender: str, host: str = "name.test", **connecting: Any) -> Replayed:
    return replay_rows(
        folder,
        [request(i, i * 40 * MS) for i in range(8)],
        f"https://127.0.0.1:{found.port}",
        sender=sender,
        connecting={"target": pinned(f"https://{host}:{found.port}")} | connecting,
    )


@pytest.mark.alone  # a request that takes long has the next one open a connection of its own
@pytest.mark.parametrize("sender", SENDERS)
def test_a_trusted_certificate_carries_requests_over_kept_connections(tmp_path: Path, sender: str) -> None:
    authority = Authority(tmp_path)
    with site(tls=authority.server_side("name.test")) as found:
        done = tls_rows(tmp_path, found, sender, ca=authority.path)
    assert errors(done) == {None}
    assert_staged(done, found)
    assert found.connections() == 1
    assert [row["connection_reused"] for row in done.rows.values()] == [False] + [True] * 7


@pytest.mark.parametrize("sender", SENDERS)
def test_a_name_with_a_dot_at_its_end_is_the_certificate_s_name(tmp_path: Path, sender: str) -> None:
    authority = Authority(tmp_path)
    with site(tls=authority.server_side("name.test")) as found:
        done = tls_rows(tmp_path, found, sender, host="name.test.", ca=authority.path)
    assert errors(done) == {None}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(
    ("host", "trust"), [("name.test", None), ("name.test", "another"), ("other.test", "own")]
)
def test_a_certificate_that_is_not_trusted_or_not_the_host_s_is_tls(
    tmp_path: Path, sender: str, host: str, trust: str | None
) -> None:
    authority, another = Authority(tmp_path), Authority(tmp_path, "another")
    ca = {None: None, "own": authority.path, "another": another.path}[trust]
    with site(tls=authority.server_side("name.test")) as found:
        done = tls_rows(tmp_path, found, sender, host=host, ca=ca)
    assert errors(done) == {"tls"}
    assert not found.arrivals
    assert all(row["sent_ns"] is None for row in done.rows.values())
    expected = "ostname mismatch" if trust == "own" else "certificate verify failed"
    assert all(expected in row["error_text"] for row in done.rows.values())


@pytest.mark.parametrize("sender", SENDERS)
def test_a_demanded_client_certificate_is_given(tmp_path: Path, sender: str) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client.test")
    with site(tls=authority.server_side("name.test", demand=authority)) as found:
        done = tls_rows(tmp_path, found, sender, ca=authority.path, certificate=certificate, key=key)
    assert errors(done) == {None}
    assert_staged(done, found)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("given", [None, "another"])
def test_a_client_certificate_that_is_missing_or_foreign_is_tls(
    tmp_path: Path, sender: str, given: str | None
) -> None:
    authority, another = Authority(tmp_path), Authority(tmp_path, "another")
    certificate, key = another.issue("client.test") if given else (None, None)
    with site(tls=authority.server_side("name.test", demand=authority)) as found:
        done = tls_rows(tmp_path, found, sender, ca=authority.path, certificate=certificate, key=key)
    # TLS 1.3 has the client speak before the server has judged its certificate; a reset for what it said then
    # may overtake the alert that says why.
    assert "tls" in errors(done) <= {"tls", "reset"}
    assert not found.arrivals


@pytest.mark.parametrize("sender", SENDERS)
def test_a_plain_server_behind_https_is_tls(tmp_path: Path, sender: str) -> None:
    with site() as found:
        replay = replay_rows(
            tmp_path,
            [request(0, 0)],
            f"https://127.0.0.1:{found.port}",
            sender=sender,
            timeout_s=3.0,
            connecting={"connect_timeout_s": 1.0},
        )
    assert errors(replay) <= {"tls", "connect_timeout"}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_large_bodies_go_up_and_come_down(tmp_path: Path, sender: str, secure: bool) -> None:
    authority = Authority(tmp_path)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES + b"y" * LARGE_BYTES
    rows = [request(i, i * 150 * MS) | {"request_body": b"x" * LARGE_BYTES} for i in range(3)]
    tls = authority.server_side("127.0.0.1") if secure else None
    with site(tls=tls, answer=lambda arrival: reply) as found:
        done = replay_rows(
            tmp_path,
            rows,
            f"{'https' if secure else 'http'}://127.0.0.1:{found.port}",
            sender=sender,
            connecting={"ca": authority.path} if secure else None,
        )
    assert errors(done) == {None}
    assert_staged(done, found)
    assert {arrival.body_bytes for arrival in found.arrivals} == {LARGE_BYTES}
    for row in done.rows.values():
        assert sum(row["chunk_bytes"]) == LARGE_BYTES
        assert row["bytes_out"] > LARGE_BYTES
        assert row["chunk_ns"] == sorted(row["chunk_ns"])


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_unix_socket_carries_tls_too(tmp_path: Path, sender: str, secure: bool) -> None:
    authority = Authority(tmp_path)
    tls = authority.server_side("name.test") if secure else None
    with site(tls=tls, unix=tmp_path / "s") as found:
        done = replay_rows(
            tmp_path,
            [request(i, i * 30 * MS) for i in range(3)],
            f"{'https' if secure else 'http'}://name.test",
            sender=sender,
            connecting={"unix_socket": str(tmp_path / "s"), "ca": authority.path if secure else None},
        )
    assert errors(done) == {None}
    assert_staged(done, found)
    assert {arrival.head.count(b"Host: name.test\r\n") for arrival in found.arrivals} == {1}


@pytest.mark.parametrize("sender", SENDERS)
def test_an_early_answer_to_an_upload_does_not_let_the_next_request_into_its_middle(
    tmp_path: Path, sender: str
) -> None:
    """A server that answers before it has read the upload, and then reads on slowly, keeps the connection."""
    found = Site()
    torn: list[bytes] = []

    def behave(connection: Any, number: int) -> None:
        head = connection.recv(4096)
        if b"Content-Length: 20000000" not in head:
            torn.append(head)
            connection.sendall(OK)
            return
        connection.sendall(OK)
        got = len(head) - head.index(b"\r\n\r\n") - 4
        while got < 20_000_000:
            data = connection.recv(100_000)
            if not data:
                return
            got += len(data)
            if data.count(b"x") != len(data):
                torn.append(data)
            time.sleep(0.002)

    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    found.port = listener.getsockname()[1]
    rows = [request(0, 0) | {"request_body": b"x" * 20_000_000}, request(1, 100 * MS)]
    with listening(listener, found, behave):
        done = replay_rows(tmp_path, rows, found.url, sender=sender, timeout_s=5.0)
    assert errors(done) == {None}
    assert [piece[:4] for piece in torn] == [b"POST"]
    assert [row["connection_reused"] for row in done.rows.values()] == [False, False]


@pytest.mark.parametrize("sender", SENDERS)
def test_what_a_server_says_unasked_is_no_answer(tmp_path: Path, sender: str) -> None:
    """Some say 408 on a connection that stays silent: it answers no request that was not sent."""
    for _ in range(5):
        said_ns, done = one_that_says_408(tmp_path, sender)
        (row,) = done.rows.values()
        if said_ns + MS < done.metadata.zero_monotonic_ns + row["sent_ns"]:
            break  # else a busy machine had the server say it when the request was on its way
    assert (row["error"], row["status"]) == (None, 200)
    assert row["sent_ns"] >= row["due_ns"]


def one_that_says_408(folder: Path, sender: str) -> tuple[int, Replayed]:
    """When a server said 408 on its first connection, unasked, in monotonic ns, and the replay against it."""
    found = Site()
    said_ns: list[int] = []

    def behave(connection: Any, number: int) -> None:
        if number == 1:
            connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            said_ns.append(time.monotonic_ns())
            connection.recv(1000)
            return
        connection.recv(65536)
        connection.sendall(OK)
        connection.recv(65536)

    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    found.port = listener.getsockname()[1]
    with listening(listener, found, behave):
        done = replay_rows(folder, [request(0, 200 * MS)], found.url, sender=sender)
    return said_ns[0], done


@pytest.mark.parametrize("sender", SENDERS)
def test_a_connection_that_does_not_open_in_time_is_a_connect_timeout(tmp_path: Path, sender: str) -> None:
    with full_backlog() as port:
        began_s = time.monotonic()
        done = replay_rows(
            tmp_path,
            [request(i, i * 30 * MS) for i in range(3)],
            f"http://127.0.0.1:{port}",
            sender=sender,
            connecting={"connect_timeout_s": 0.5},
        )
    assert time.monotonic() - began_s < 10
    for row in done.rows.values():
        assert (row["error"], row["sent_ns"], row["connected_ns"]) == ("connect_timeout", None, None)
        assert 400 * MS <= row["end_ns"] - row["dequeued_ns"] < 2500 * MS


@pytest.mark.parametrize("sender", SENDERS)
def test_a_handshake_that_hangs_is_a_connect_timeout(tmp_path: Path, sender: str) -> None:
    with site() as found:  # a plain server waits for the end of a head that never comes
        done = replay_rows(
            tmp_path,
            [request(0, 0)],
            f"https://127.0.0.1:{found.port}",
            sender=sender,
            connecting={"connect_timeout_s": 0.5},
        )
    (row,) = done.rows.values()
    assert (row["error"], row["sent_ns"]) == ("connect_timeout", None)


def slowly(arrival: Arrival) -> bytes:
    time.sleep(3)
    return OK


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"first_byte_timeout_s": 0.3}, "no first byte in time"),
        ({"timeout_s": 0.3}, "TimeoutError"),
    ],
    ids=["first byte", "total"],
)
def test_timeouts_hold_over_tls_too(tmp_path: Path, sender: str, limits: dict[str, float], text: str) -> None:
    authority = Authority(tmp_path)
    with site(tls=authority.server_side("name.test"), answer=slowly) as found:
        done = tls_rows(tmp_path, found, sender, ca=authority.path, **limits)
    for row in done.rows.values():
        assert (row["error"], row["error_text"], row["status"]) == ("timeout", text, None)
        assert 298 * MS <= row["end_ns"] - row["due_ns"] < 2500 * MS  # the loop's timers tick at 1 ms


@pytest.mark.parametrize("sender", SENDERS)
def test_all_vetted_addresses_are_used_and_those_that_refuse_passed_over(tmp_path: Path, sender: str) -> None:
    """A name with several addresses means several servers: the first one must not take all the load."""
    rows = [request(i, 0) for i in range(12)]
    with site() as one, site(at=("127.0.0.2", one.port)) as other:
        target = pinned(f"http://name.test:{one.port}", "127.0.0.1", "127.0.0.2", "127.0.0.3")
        done = replay_rows(tmp_path, rows, one.url, sender=sender, connecting={"target": target})
    assert errors(done) == {None}
    assert min(len(one.arrivals), len(other.arrivals)) >= 3


@pytest.mark.parametrize("sender", SENDERS)
def test_a_host_header_that_was_asked_for_is_the_only_one(tmp_path: Path, sender: str) -> None:
    with site() as found:
        replay_rows(
            tmp_path,
            [request(0, 0)],
            found.url,
            sender=sender,
            rewrite=Rewrite((("host", "api.test"),)),
        )
    (arrival,) = found.arrivals
    assert arrival.head.lower().count(b"\r\nhost: ") == 1
    assert b"host: api.test\r\n" in arrival.head.lower()


@pytest.mark.parametrize("sender", SENDERS)
def test_a_unix_socket_that_is_gone_or_deaf_is_a_row_s_error(tmp_path: Path, sender: str) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "deaf"))
        for name, error in (("gone", "connect_failed"), ("deaf", "connect_refused")):
            done = replay_rows(
                tmp_path,
                [request(0, 0)],
                "http://name.test",
                sender=sender,
                connecting={"unix_socket": str(tmp_path / name)},
            )
            assert errors(done) == {error}
