"""One request on its way through the proxy: events in, exactly one trace row out.

Sans-io: no proxy, no clock, no disk. Whoever drives an `Exchange` passes each instant in. The states are

    asked ──whole()──► waiting ──answered()──► answering ──finish()──► closed
      └──────────────────┴───────────────────────┴──── fail(), cut_off() ──► closed

and every way into `closed` gives one row; later events change nothing. What the bytes mean is in
`semantics`; what may be written of them in `redaction`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from capture.trace_format import CLIENT_ABORTED, COMPLETE, IN_FLIGHT, PROXY_ERROR, SERVER_ERROR

BODY_COPY_LIMIT_BYTES: Final = 64 << 20
"""A response larger than this passes through whole, but no copy of its body is kept."""

type HeaderPairs = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class RequestHead:
    """A request as its first line and headers tell it; `host` is the authority it goes to, "host:port"."""

    method: str
    scheme: str
    host: str
    path: str
    http_version: str
    headers: HeaderPairs


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Whose failure an error was, and the status that the proxy itself answered with, if it did."""

    outcome: str
    status: int | None


class Exchange:
    """The state of one request. Instants are int64 ns offsets from the trace's zero."""

    __slots__ = (
        "_answer_head",
        "_body",
        "_body_ns",
        "_chunk_bytes",
        "_chunk_ns",
        "_closing",
        "_pieces",
        "_read",
        "arrival_ns",
        "connection",
        "head",
        "held_bytes",
        "request_id",
        "response_bytes",
        "session",
    )

    def __init__(
        self,
        request_id: str,
        head: RequestHead,
        arrival_ns: int,
        session: tuple[str, int] | None = None,
        connection: str | None = None,
    ) -> None:
        self.request_id = request_id
        self.head = head
        self.arrival_ns = arrival_ns
        self.session = session
        self.connection = connection
        self.response_bytes = 0
        self.held_bytes = 500 + sum(len(name) + len(value) for name, value in head.headers)
        self._body: bytes | None = None
        self._body_ns: int | None = None
        self._answer_head: tuple[int, HeaderPairs, int] | None = None
        self._pieces: list[bytes] | None = []
        self._chunk_ns: list[int] = []
        self._chunk_bytes: list[int] = []
        self._read: int | None = None
        self._closing: tuple[str, str | None, int | None, int | None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the row is settled."""
        return self._closing is not None

    @property
    def request_is_whole(self) -> bool:
        """Whether the request's last byte has come in."""
        return self._body_ns is not None

    def whole(self, body: bytes | None, at_ns: int) -> None:
        """The request's last byte came in; `body` is as sent (None when it was streamed past us)."""
        if not self.closed:
            self._body, self._body_ns = body, at_ns
            self.held_bytes += len(body or b"")

    def answered(self, status: int, headers: HeaderPairs, at_ns: int) -> None:
        """The response's head came in."""
        if not self.closed:
            self._answer_head = (status, headers, at_ns)
            self.held_bytes += sum(len(name) + len(value) for name, value in headers)

    def take(self, piece: bytes, at_ns: int, read: int) -> None:
        """A piece of the response body came in. Pieces with the same `read` number are one chunk."""
        if self.closed:
            return
        if read == self._read:
            self._chunk_bytes[-1] += len(piece)
        else:
            self._chunk_ns.append(at_ns)
            self._chunk_bytes.append(len(piece))
            self._read = read
        self.response_bytes += len(piece)
        if self._pieces is not None:
            self._pieces.append(piece)
            self.held_bytes += len(piece)
            if self.response_bytes > BODY_COPY_LIMIT_BYTES:
                self.held_bytes -= self.response_bytes
                self._pieces = None

    def finish(self, at_ns: int) -> None:
        """The response's last byte was passed on."""
        self._close(COMPLETE, None, None, at_ns)

    def fail(self, message: str, at_ns: int, *, client_left: bool) -> None:
        """The exchange broke; `message` is the proxy's word for it, `client_left` what its sockets say."""
        failure = blame(message, request_is_whole=self.request_is_whole, client_left=client_left)
        self._close(failure.outcome, message, failure.status, at_ns)

    def cut_off(self) -> None:
        """The capture ends while this is under way."""
        self._close(IN_FLIGHT, None, None, None)

    def _close(self, outcome: str, error: str | None, status: int | None, end_ns: int | None) -> None:
        if not self.closed:
            self._closing = (outcome, error, status, end_ns)

    def row(self) -> dict[str, Any]:
        """The trace row of a closed exchange, without what `semantics` fills in, and unredacted.

        `status` is the server's, or the proxy's own answer (400, 413, 502) when the server gave none: it is
        what the client saw. Raises ValueError when the exchange is not closed.
        """
        if self._closing is None:
            raise ValueError(f"{self.request_id}: no row before the exchange is closed")
        outcome, error, own_status, end_ns = self._closing
        status, headers, first_byte_ns = self._answer_head or (own_status, None, None)
        answered = self._answer_head is not None
        session_id, turn = self.session or (None, 0)
        return {
            "request_id": self.request_id,
            "session_id": session_id,
            "turn": turn,
            "arrival_ns": self.arrival_ns,
            "method": self.head.method,
            "scheme": self.head.scheme,
            "host": self.head.host,
            "path": self.head.path,
            "http_version": self.head.http_version,
            "request_headers": self.head.headers,
            "request_body": self._body,
            "request_body_ns": self._body_ns,
            "outcome": outcome,
            "error": error,
            "status": status,
            "response_headers": headers,
            "response_body": b"".join(self._pieces) if answered and self._pieces is not None else None,
            "response_bytes": self.response_bytes,
            "first_byte_ns": first_byte_ns,
            "chunk_ns": self._chunk_ns,
            "chunk_bytes": self._chunk_bytes,
            "end_ns": end_ns,
            "input_tokens": None,
            "output_tokens": None,
            "model": None,
            "stream": False,
            "connection": self.connection,
        }


def blame(message: str, *, request_is_whole: bool, client_left: bool) -> Failure:
    """Who broke an exchange: by mitmproxy's message, whether the request was whole, and who had left.

    A server that can't be reached or goes away is a `server_error`, and the client gets a 502 from the
    proxy. Only what the proxy itself refuses or kills is a `proxy_error`.
    """
    text = message.lower()
    if text == "connection killed.":
        return Failure(PROXY_ERROR, None)
    if "body_size_limit" in text:
        return Failure(PROXY_ERROR, 502 if text.startswith("response") else 413)
    if text.startswith("client disconnected"):
        return Failure(CLIENT_ABORTED, None)
    if request_is_whole:
        return Failure(CLIENT_ABORTED, None) if client_left else Failure(SERVER_ERROR, 502)
    broken_off = "closed" in text or "reset by" in text
    return Failure(CLIENT_ABORTED, None) if broken_off else Failure(PROXY_ERROR, 400)
