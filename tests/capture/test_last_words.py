"""A server that refuses an upload and hangs up at once is heard: without a proxy it is, too."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_rig import rows_of
from hostile_rig import running_capture

REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\nConnection: close\r\n\r\nno key"
HEAD = b"POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n"
TIMES = 12


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A server that answers the head of a request and closes; what has come of the body it never reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        head = b""
                        while b"\r\n\r\n" not in head:
                            head += connection.recv(1)
                        connection.sendall(REFUSAL)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def answer_to_an_upload(port: int) -> bytes:
    """Sends until it can't, then reads what there is, as clients do."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        with contextlib.suppress(OSError):
            client.sendall(HEAD + bytes(4_000_000))
        answer = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                answer += piece
        return answer


def test_an_upload_learns_why_it_was_refused_though_the_server_hung_up(
    refusing_port: int, tmp_path: Path
) -> None:
    direct = Counter(answer_to_an_upload(refusing_port) for _ in range(TIMES))
    assert direct == {REFUSAL: TIMES}
    trace = tmp_path / "t.parquet"
    with running_capture(trace, f"http://127.0.0.1:{refusing_port}") as capture:
        through = Counter(answer_to_an_upload(capture.port) for _ in range(TIMES))
        assert capture.stop() == 0
    assert through == {REFUSAL: TIMES}
    rows = rows_of(trace)
    assert [(row["status"], row["response_body"]) for row in rows] == [(401, b"no key")] * TIMES
