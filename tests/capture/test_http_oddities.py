"""What clients and servers of our time do to HTTP/1.1, each with no proxy between and through a capture.

What passes is the same on both ways, or spelt differently where all readers agree; what may be read in two
ways is refused by name. `tests/capture/test_hostile_input.py` has those who mean harm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from capture_rig import rows_of
from hostile_rig import Capture, running_capture, until
from mitmproxy import http

from capture.http1_framing import body_bytes, check, ends_connection, unquoted

pytestmark = pytest.mark.slow

PATIENCE_S = 10.0
OPEN_S = 0.03
"""A connection on which nothing more comes for so long is taken to stay open."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
H = b"Host: h\r\n"


@dataclasses.dataclass(frozen=True)
class Case:
    """A request and its answer as sent; as `got` and `read` behind the proxy, where that differs.

    With `closes` the server closes the connection after its answer, with `ends` the client's ends.
    """

    sent: bytes
    answer: bytes = OK
    got: bytes = b""
    read: bytes = b""
    closes: bool = False
    ends: bool = False


def get(*lines: bytes, answer: bytes = OK, **other: object) -> Case:
    head = b"GET / HTTP/1.1\r\n" + H
    return Case(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n", answer, **other)  # type: ignore[arg-type]


def post(*lines: bytes, body: bytes = b"hello", got: tuple[bytes, ...] | None = None) -> Case:
    def whole(lines: tuple[bytes, ...]) -> bytes:
        return b"POST / HTTP/1.1\r\n" + H + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body

    return Case(whole(lines), got=b"" if got is None else whole(got))


def answered(*lines: bytes, body: bytes = b"ok", as_lines: tuple[bytes, ...] | None = None) -> Case:
    def whole(lines: tuple[bytes, ...]) -> bytes:
        return b"\r\n".join([*lines, b"", body])

    return get(answer=whole(lines), read=b"" if as_lines is None else whole(as_lines))


LENGTH_5 = (b"Content-Length: 5",)
CHUNKS = b"2\r\nok\r\n0\r\n\r\n"
PASSES = {
    "equal lengths are one": post(
        b"Content-Length: 5", b"X: y", b"Content-Length: 5", got=(*LENGTH_5, b"X: y")
    ),
    "a list of equal lengths is one": post(b"Content-Length: 5, 5", got=LENGTH_5),
    "a length with zeros before it": post(b"Content-Length: 005", got=LENGTH_5),
    "names with characters they should not have": get(b"X(A): 1", b"X-\xc3\xa4: 2", b"x_a: 3"),
    "values in UTF-8, and in none": get(b"X-A: \xc3\xa4\xff"),
    "a folded line": get(b"X-A: 1\r\n 2"),
    "lines that end in LF alone": Case(
        b"GET / HTTP/1.1\nHost: h\n\n", got=b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    ),
    "an absolute target": Case(b"GET http://other:81/a?b HTTP/1.1\r\nHost: other:81\r\n\r\n"),
    "OPTIONS *": Case(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
    "slashes and dots": Case(b"GET //a//b/../c HTTP/1.1\r\nHost: h\r\n\r\n"),
    "no host": Case(b"GET / HTTP/1.1\r\n\r\n"),
    "an IPv6 host": Case(b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
    "a host with underscores": Case(b"GET / HTTP/1.1\r\nHost: my_svc.ns_1:8080\r\n\r\n"),
    "a method of one's own": Case(b"m-search / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a body of GET": Case(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
    "a line of 200 KB": get(b"X: " + b"y" * 200_000),
    "an expectation of something else": post(b"Expect: fries", b"Content-Length: 0", body=b""),
    "equal lengths of an answer": answered(
        *(b"HTTP/1.1 200 OK", b"Content-Length: 2", b"Content-Length: 2"),
        as_lines=(b"HTTP/1.1 200 OK", b"Content-Length: 2"),
    ),
    "chunked said twice": answered(
        *(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", b"transfer-encoding: chunked"),
        body=CHUNKS,
        as_lines=(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"),
    ),
    "identity": answered(
        *(b"HTTP/1.1 200 OK", b"Transfer-Encoding: identity", b"Content-Length: 2"),
        as_lines=(b"HTTP/1.1 200 OK", b"Content-Length: 2"),
    ),
    "an odd name in an answer": answered(b"HTTP/1.1 200 OK", b"X (A): 1", b"Content-Length: 2"),
    "extensions of chunks": get(
        answer=b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a="b"\r\nok\r\n000;z\r\n\r\n',
        read=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    ),
    "trailers": answered(
        b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\nX: 1\r\n\r\n"
    ),
    "an empty line before an answer": get(answer=b"\r\n" + OK, read=OK),
    "no reason": get(answer=OK.replace(b" OK", b" ")),
    "a length of nothing": answered(b"HTTP/1.1 304 Not Modified", b"Content-Length: 500", body=b""),
    "chunks of nothing": answered(b"HTTP/1.1 304 Not Modified", b"Transfer-Encoding: chunked", body=b""),
    "chunks where none may be": answered(
        *(b"HTTP/1.1 204 No Content", b"Transfer-Encoding: chunked"),
        body=b"",
        as_lines=(b"HTTP/1.1 204 No Content",),
    ),
    "an answer to HEAD": Case(
        b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
    ),
    "HTTP/1.0 that is kept alive, as ab writes it": Case(
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
    ),
    "a connection that shall Close": get(
        b"Connection: Close",
        answer=b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok",
        closes=True,
        ends=True,
    ),
    "an answer without a length": get(answer=b"HTTP/1.1 200 OK\r\n\r\nok", closes=True, ends=True),
    "HTTP/1.0 in chunks": get(
        answer=b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, closes=True, ends=True
    ),
    "a refused upgrade": get(b"Connection: Upgrade", b"Upgrade: websocket"),
    "a new protocol that speaks at once": get(
        *(b"Connection: Upgrade", b"Upgrade: own/2"),
        answer=b"HTTP/1.1 101 Go\r\nUpgrade: own/2\r\nConnection: Upgrade\r\n\r\n\r\n\x00\xff",
    ),
    "a server that dies within its answer": get(
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", closes=True, ends=True
    ),
    "a server that dies within a head": get(answer=b"", closes=True, ends=True),
    "a server that goes without an answer": get(answer=b"", closes=True, ends=True),
}
REFUSED = {
    "unequal lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), b"invalid content-length header"),
    "no number": (post(b"Content-Length: +5"), b"invalid content-length header"),
    "a length beside chunks": (
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKS),
        b"both transfer-encoding and content-length",
    ),
    "a space after a name": (get(b"X-A : 1"), b"a header name with a space"),
    "a name that some take for a length": (get(b"Content-Length\x80: 5"), b"a header name with"),
    "a target with a space": (Case(b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"), b"Bad HTTP request line"),
}


@dataclasses.dataclass
class Act:
    """What a server does once it `wants` no more of a request, and what it got."""

    case: Case
    wants: bytes
    got: bytes = b""

    def serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        with connection, contextlib.suppress(OSError):
            while len(self.got) < len(self.wants) and (piece := connection.recv(1 << 16)):
                self.got += piece
            connection.sendall(self.case.answer)
            while not self.case.closes and (piece := connection.recv(1 << 16)):
                self.got += piece


class Server:
    """Answers each connection as the act at hand has it."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = self._listening.getsockname()[1]
        self._act = Act(Case(b""), b"")
        threading.Thread(target=self._accept, daemon=True).start()

    def plays(self, case: Case, wants: bytes) -> Act:
        self._act = Act(case, wants)
        return self._act

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                threading.Thread(target=self._act.serve, args=(taken,), daemon=True).start()

    def close(self) -> None:
        self._listening.close()


def exchange(server: Server, port: int, case: Case, *, wants: bytes, reads: int) -> tuple[bytes, bytes, bool]:
    """What the server got (`wants` of it makes it answer), what the client read, and whether it ended."""
    act = server.plays(case, wants)
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(case.sent)
        read, ended = b"", False
        while not ended and (case.ends or len(read) < reads or select.select([client], [], [], OPEN_S)[0]):
            piece = client.recv(1 << 16)
            read, ended = read + piece, not piece
        return act.got, read, ended


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    trace = tmp_path_factory.mktemp("odd") / "odd.parquet"
    with running_capture(trace, f"http://127.0.0.1:{server.port}") as capture:
        yield capture
        assert capture.stop() == 0
    assert not [line for line in capture.said if "rror" in line or "crashed" in line]
    gone = [row for row in rows_of(trace) if row["error"] == "server closed the connection without an answer"]
    assert {(row["outcome"], row["status"]) for row in gone} <= {("server_error", None)}


@pytest.mark.parametrize("case", PASSES.values(), ids=PASSES.keys())
def test_what_is_read_in_one_way_passes_as_without_a_proxy(
    case: Case, server: Server, proxy: Capture
) -> None:
    direct = exchange(server, server.port, case, wants=case.sent, reads=len(case.answer))
    assert direct == (case.sent, case.answer, case.ends)
    got, read = case.got or case.sent, case.read or case.answer
    assert exchange(server, proxy.port, case, wants=got, reads=len(read)) == (got, read, case.ends)


@pytest.mark.parametrize(("case", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_may_be_read_in_two_ways_is_refused_by_name(
    case: Case, reason: bytes, server: Server, proxy: Capture
) -> None:
    case = dataclasses.replace(case, ends=True)
    got, read, _ = exchange(server, proxy.port, case, wants=b"-", reads=1)
    assert got == b""
    assert read.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"400 Bad Request, by the peaktape capture proxy: " in read
    assert reason in read
    assert b"mitmproxy" not in read


def conversation(port: int, script: list[tuple[bytes, bytes]]) -> bytes:
    """The client sends the first of each pair, and waits for the second; all that it read."""
    read = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        for sent, awaited in script:
            client.sendall(sent)
            while awaited not in read:
                piece = client.recv(1 << 16)
                assert piece, (awaited, read)
                read += piece
    return read


HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_the_server_says_whether_it_wants_a_body(way: str, server: Server, proxy: Capture) -> None:
    """mitmproxy would invite every body, and send one that the server has no use for."""
    port = server.port if way == "direct" else proxy.port
    refusal = b"HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    act = server.plays(Case(b"", refusal, closes=True), HEAD)
    assert conversation(port, [(HEAD, refusal)]) == refusal
    assert act.got == HEAD
    invitation = b"HTTP/1.1 100 Continue\r\n\r\n"
    act = server.plays(Case(b"", invitation), HEAD)
    assert conversation(port, [(HEAD, invitation), (b"hello", b"")]) == invitation
    until(lambda: act.got == HEAD + b"hello")


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_an_upload_that_is_refused_early_learns_why(way: str, server: Server, proxy: Capture) -> None:
    port = server.port if way == "direct" else proxy.port
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n"
    server.plays(Case(b"", refusal), head)
    assert conversation(port, [(head + b"x" * 1000, refusal)]) == refusal


def test_a_request_on_a_connection_that_just_closes_is_the_clients_to_send_again(
    server: Server, proxy: Capture
) -> None:
    """As without a proxy: no 502, which clients don't send again, and no second try in the client's name."""
    one = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    act = server.plays(Case(b"", OK), one)
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_S) as client:
        client.sendall(one)
        assert b"".join(client.recv(1) for _ in OK) == OK
        act.case = dataclasses.replace(act.case, closes=True)  # it goes at the next byte
        client.sendall(one)
        assert client.recv(1 << 16) == b""
    given_up_s = time.monotonic() + PATIENCE_S
    while act.got == one and time.monotonic() < given_up_s:  # the server may note it after the client is told
        time.sleep(0.01)
    assert act.got == one + one


@pytest.mark.parametrize(
    ("version", "option", "ends"),
    [
        ("HTTP/1.1", "", False),
        ("HTTP/1.1", "close", True),
        ("HTTP/1.1", "Keep-Alive, Close", True),
        ("HTTP/1.0", "", True),
        ("HTTP/1.0", "Keep-Alive", False),
    ],
)
def test_connections_end_as_their_options_say_in_any_case(version: str, option: str, ends: bool) -> None:
    headers = http.Headers(Connection=option) if option else http.Headers()
    assert ends_connection(version, headers) is ends


@pytest.mark.parametrize("stated", ["", "-1", "1e9", "0x5", "5,", "5, 6", "5 5", "٥"])
def test_a_length_that_is_none_is_none(stated: str) -> None:
    asked = http.Request.make("POST", "http://h/", b"")
    asked.headers["content-length"] = stated
    with pytest.raises(ValueError, match="content-length"):
        body_bytes(asked) if stated else check(asked)


def test_a_failure_is_told_without_what_was_sent() -> None:
    assert unquoted("Cannot parse HTTP response: Invalid header line: b'sk-secret'") == (
        "Cannot parse HTTP response: Invalid header line"
    )
    assert unquoted("invalid content-length header: '5, \\'6'") == "invalid content-length header"
