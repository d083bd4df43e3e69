"""One request on its way through the proxy: events in, exactly one trace row out.

Sans-io: no proxy, no clock, no disk. Whoever drives an `Exchange` passes each instant in. The states are

    asked ──whole()──► waiting ──answered()──► answering ──finish()──► closed
      └──────────────────┴───────────────────────┴──── fail(), cut_off() ──► closed

and every way into `closed` gives one row; later events change nothing. Where the request is streamed,
`answered()` and `finish()` may come before `whole()`: a server may answer early. `upgrade()` turns an
exchange that was answered with 101 into a connection of messages, which `ended()` closes. What the bytes
mean is in `semantics`; what may be written of them in `redaction`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from capture.copied_body import CopiedBody, CopyBudget
from capture.framed_messages import MessageSizes, is_framed
from capture.message_log import MessageLog
from capture.raw_headers import Fields
from capture.trace_format import (
    CLIENT_ABORTED,
    COMPLETE,
    IN_FLIGHT,
    NOT_ANSWERED,
    PROXY_ERROR,
    SERVER_ERROR,
    TRACE_SCHEMA,
)
from capture.websocket_frames import Piece, WebSocketReader


@dataclasses.dataclass(frozen=True, slots=True)
class RequestHead:
    """A request as its first line and headers tell it; `host` is the authority it goes to, "host:port".

    Header fields given as bytes stay bytes in the row: see `raw_headers`.
    """

    method: str
    scheme: str
    host: str
    path: str
    http_version: str
    headers: Fields

    def columns(self) -> dict[str, Any]:
        """The row's columns that it gives."""
        return {
            "method": self.method,
            "scheme": self.scheme,
            "host": self.host,
            "path": self.path,
            "http_version": self.http_version,
            "request_headers": self.headers,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Whose failure an error was, and the status that the proxy itself answered with, if it did."""

    outcome: str
    status: int | None


_EMPTY: Final = {name: NOT_ANSWERED.get(name) for name in TRACE_SCHEMA.names}


class Exchange:
    """The state of one request. Instants are int64 ns offsets from the trace's zero."""

    __slots__ = (
        "_answer_head",
        "_body",
        "_body_ns",
        "_closing",
        "_framed",
        "_messages",
        "_sockets",
        "_trailers",
        "answer",
        "arrival_ns",
        "asked",
        "connection",
        "head",
        "request_id",
        "session",
        "streamed",
    )

    def __init__(
        self,
        request_id: str,
        head: RequestHead,
        arrival_ns: int,
        session: tuple[str, int] | None = None,
        connection: str | None = None,
        budget: CopyBudget | None = None,
    ) -> None:
        self.request_id = request_id
        self.head = head
        self.arrival_ns = arrival_ns
        self.session = session
        self.connection = connection
        self.asked, self.answer = CopiedBody(budget), CopiedBody(budget)
        self.streamed = False  # whether its body comes by `ask`
        self._body: bytes | None = None
        self._body_ns: int | None = None
        self._answer_head: tuple[int, Fields, int] | None = None
        self._trailers: dict[bool, Fields | None] = {True: None, False: None}
        self._messages: MessageLog | None = None
        self._framed: dict[bool, MessageSizes] | None = None
        self._sockets: dict[bool, WebSocketReader] | None = None
        self._closing: tuple[str, str | None, int | None, int | None] | None = None
        if is_framed(head.headers):
            self._messages = MessageLog()
            self._framed = {True: MessageSizes(), False: MessageSizes()}

    @property
    def closed(self) -> bool:
        """Whether the row is settled."""
        return self._closing is not None

    @property
    def request_is_whole(self) -> bool:
        """Whether the request's last byte has come in."""
        return self._body_ns is not None

    @property
    def request_body_ns(self) -> int | None:
        """When the request's last byte came in."""
        return self._body_ns

    @property
    def request_body(self) -> bytes | None:
        """The request's body as far as a row would have it now: as sent, None where it is not kept."""
        return self._bodies()[0]

    @property
    def response_bytes(self) -> int:
        """Bytes of the response's body up to now."""
        return self.answer.size_bytes

    def ask(self, piece: bytes, at_ns: int, read: int) -> None:
        """A piece of a streamed request body came in. Pieces with the same `read` number are one chunk."""
        if not self.closed:
            self.asked.take(piece, at_ns, read)
            self._find_messages(piece, at_ns, from_client=True)

    def whole(self, body: bytes | None, at_ns: int, trailers: Fields | None = None) -> None:
        """The request's last byte came in; `body` is as sent (None when it was streamed: see `ask`)."""
        if self.closed:
            return
        kept = body if body is None or self.asked.may_be(len(body)) else None
        self._body, self._body_ns, self._trailers[True] = kept, at_ns, trailers
        if body and not self.asked.size_bytes:
            self.asked.count(len(body))
            self._find_messages(body, at_ns, from_client=True)

    def answered(self, status: int, headers: Fields, at_ns: int) -> None:
        """The response's head came in."""
        if not self.closed:
            self._answer_head = (status, headers, at_ns)

    def take(self, piece: bytes, at_ns: int, read: int) -> None:
        """A piece of the response body came in. Pieces with the same `read` number are one chunk."""
        if not self.closed:
            self.answer.take(piece, at_ns, read)
            self._find_messages(piece, at_ns, from_client=False)

    def _find_messages(self, piece: bytes, at_ns: int, *, from_client: bool) -> None:
        if self._framed is not None and self._messages is not None:
            for size_bytes in self._framed[from_client].feed(piece):
                self._messages.add(at_ns, size_bytes, from_client=from_client)

    def upgrade(self, *, websocket: bool) -> None:
        """The connection speaks another protocol from now on; what passes is told by `passed`."""
        self._framed, self._messages = None, None
        self._body, self.streamed = None, True
        if websocket:
            self._messages = MessageLog()
            self._sockets = {side: WebSocketReader(from_client=side) for side in (True, False)}

    def passed(self, data: bytes, at_ns: int, read: int, *, from_client: bool) -> None:
        """Bytes of an upgraded connection passed; of a WebSocket's, the messages are kept, else the bytes."""
        if self.closed:
            return
        side = self.asked if from_client else self.answer
        if self._sockets is None:
            side.take(data, at_ns, read)
            return
        side.count(len(data))
        for piece in self._sockets[from_client].feed(data):
            self._say(piece, at_ns, from_client=from_client)

    def said(self, payload: bytes, at_ns: int, *, from_client: bool, text: bool) -> None:
        """A whole message of a WebSocket passed, of one that somebody else reads."""
        if not self.closed:
            (self.asked if from_client else self.answer).count(len(payload))
            self._say(Piece(payload, True, text, False), at_ns, from_client=from_client)

    def _say(self, piece: Piece, at_ns: int, *, from_client: bool) -> None:
        side = self.asked if from_client else self.answer
        side.copy(piece.payload)
        side.open_message_bytes += len(piece.payload)
        if piece.ends and self._messages is not None:
            size_bytes, side.open_message_bytes = side.open_message_bytes, 0
            self._messages.add(
                at_ns, size_bytes, from_client=from_client, text=piece.text, compressed=piece.compressed
            )

    def ended(self, at_ns: int, complaint: str = "", outcome: str = COMPLETE) -> None:
        """The upgraded connection is over: what its close frames say, or else `complaint`, is the error."""
        readers = list((self._sockets or {}).values())
        complaints = [reader.complaint() or reader.broken for reader in readers]
        self._close(outcome, next(filter(None, complaints), complaint) or None, None, at_ns)

    @property
    def reads_messages(self) -> bool:
        """Whether it is a WebSocket now."""
        return self._sockets is not None

    @property
    def said_goodbye(self) -> bool:
        """Whether a close frame has passed on an upgraded connection."""
        return any(reader.closed for reader in (self._sockets or {}).values())

    def finish(self, at_ns: int, trailers: Fields | None = None) -> None:
        """The response's last byte was passed on."""
        if not self.closed:
            self._trailers[False] = trailers
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
            self.asked.release()
            self.answer.release()

    def row(self) -> dict[str, Any]:
        """The trace row of a closed exchange, without what `semantics` fills in, and unredacted.

        `status` is the server's, or the proxy's own answer (400, 413, 502) when the server gave none: it is
        what the client saw. Raises ValueError when the exchange is not closed.
        """
        session_id, turn = self.session or (None, 0)
        return {
            **_EMPTY,
            "session_id": session_id,
            "turn": turn,
            **self.asked_columns(),
            **self.ended_columns(),
        }

    def asked_columns(self) -> dict[str, Any]:
        """Columns that are known once the request's head is."""
        return {
            "request_id": self.request_id,
            "arrival_ns": self.arrival_ns,
            **self.head.columns(),
            "connection": self.connection,
        }

    def ended_columns(self) -> dict[str, Any]:
        """All other columns of a closed exchange that hold something; raises ValueError when it is not."""
        if self._closing is None:
            raise ValueError(f"{self.request_id}: no row before the exchange is closed")
        outcome, error, own_status, end_ns = self._closing
        status, headers, first_byte_ns = self._answer_head or (own_status, None, None)
        request_body, response_body = self._bodies()
        answer = self.answer
        columns = {
            "request_body": request_body,
            "request_body_ns": self._body_ns,
            "outcome": outcome,
            "error": error,
            "status": status,
            "response_headers": headers,
            "response_body": response_body,
            "response_bytes": answer.size_bytes,
            "first_byte_ns": first_byte_ns,
            "chunk_ns": answer.chunk_ns,
            "chunk_bytes": answer.chunk_bytes,
            "end_ns": end_ns,
            "request_bytes": self.asked.size_bytes,
            "request_chunk_ns": self.asked.chunk_ns or None,
            "request_chunk_bytes": self.asked.chunk_bytes or None,
            "request_trailers": self._trailers[True],
            "response_trailers": self._trailers[False],
        }
        if self._messages is not None:
            columns |= self._messages.columns()
        return {name: value for name, value in columns.items() if value is not None}

    def _bodies(self) -> tuple[bytes | None, bytes | None]:
        """Both bodies. One of a request that never came whole is none, unless it is one of messages."""
        if self._body is not None or not self.streamed:
            request = self._body
        elif self.request_is_whole or self._messages is not None:
            request = self.asked.body()
        else:
            request = None
        response = self.answer.body() if self._answer_head is not None else None
        if self._messages is None or self._sockets is None:
            return request, response
        return (
            self._messages.unpacked(request, from_client=True),
            self._messages.unpacked(response, from_client=False),
        )


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
