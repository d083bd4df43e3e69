"""One request on its way through the proxy: events in, exactly one trace row out.

Sans-io: no proxy, no clock, no disk. Whoever drives an `Exchange` passes each instant in. Bytes that came
are told with the instant at which they did, other events when they happen, so an instant may lie before that
of an earlier event; in the row, no direction runs backwards. The states are

    asked ──whole()──► waiting ──answered()──► answering ──finish()──► closed
      └──────────────────┴───────────────────────┴──── fail(), cut_off() ──► closed

and every way into `closed` gives one row; later events change nothing. Where the request is streamed,
`answered()` and `finish()` may come before `whole()`: a server may answer early. `upgrade()` turns an
exchange that was answered with 101 into a connection of messages, which `ended()` closes. What the bytes
mean is in `semantics`; what may be written of them in `redaction`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from capture.blame import blame
from capture.copied_body import BODY_COPY_LIMIT_BYTES, CopiedBody, CopyBudget
from capture.framed_messages import MessageSizes, is_framed
from capture.message_log import MessageLog
from capture.raw_headers import Fields
from capture.trace_format import (
    COMPLETE,
    IN_FLIGHT,
    NOT_ANSWERED,
    TRACE_SCHEMA,
)
from capture.websocket_frames import Piece, WebSocketReader


class RequestHead(NamedTuple):
    """A request as its first line and headers tell it; `host` is the authority it goes to, "host:port".

    What is given as bytes stays bytes in the row: see `raw_headers`.
    """

    method: str | bytes
    scheme: str | bytes
    host: str
    path: str | bytes
    http_version: str | bytes
    headers: Fields

    def columns(self) -> dict[str, Any]:
        """The row's columns that it gives."""
        return dict(zip(_HEAD_COLUMNS, self, strict=True))


_HEAD_COLUMNS: Final = ("method", "scheme", "host", "path", "http_version", "request_headers")
ASKED_COLUMNS: Final = (
    *("request_id", "arrival_ns", "connection"),
    *(*_HEAD_COLUMNS, "request_body_ns", "request_body"),
)
"""Of what `Exchange.asked_values` gives."""
ENDED_COLUMNS: Final = (
    *("request_id", "outcome", "error", "status", "response_headers", "first_byte_ns", "end_ns"),
    *("response_bytes", "request_bytes", "chunk_ns", "chunk_bytes", "request_body_ns"),
    *("response_body", "request_body"),
)
"""Of what `Exchange.ended_values` gives."""

_EMPTY: Final = {name: NOT_ANSWERED.get(name) for name in TRACE_SCHEMA.names}


class Exchange:
    """The state of one request. Instants are int64 ns offsets from the trace's zero."""

    # Where it begins, by class: one is made for every request, and most need few of them.
    streamed = False
    """Whether its body comes by `ask`."""
    _asked: CopiedBody | None = None  # most requests come in one piece, by `whole`
    _request_bytes = 0
    _body: bytes | None = None
    _body_ns: int | None = None
    _answer_head: tuple[int, Fields, int] | None = None
    _request_trailers: Fields | None = None
    _response_trailers: Fields | None = None
    _told: tuple[int | None, bytes | None] = None, None
    _messages: MessageLog | None = None
    _framed: dict[bool, MessageSizes] | None = None
    _sockets: dict[bool, WebSocketReader] | None = None
    _closing: tuple[str, str | None, int | None, int | None] | None = None

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
        self._budget = budget
        self.answer = CopiedBody(budget)
        if is_framed(head.headers):
            self._messages = MessageLog()
            self._framed = {True: MessageSizes(), False: MessageSizes()}

    @property
    def asked(self) -> CopiedBody:
        """The request's body as it passes in pieces."""
        if self._asked is None:
            self._asked = CopiedBody(self._budget)
            self._asked.latest_ns = self.arrival_ns
            self._asked.count(self._request_bytes)
        return self._asked

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
        if self._body is not None or not self.streamed:
            body = self._body
        elif self.request_is_whole or self._messages is not None:
            body = self.asked.body()
        else:
            return None
        return body if self._sockets is None else self._unpacked(body, from_client=True)

    @property
    def response_body(self) -> bytes | None:
        """The response's body as far as a row would have it now: as sent, None where it is not kept."""
        body = self.answer.body() if self._answer_head is not None else None
        return body if self._sockets is None else self._unpacked(body, from_client=False)

    def _unpacked(self, body: bytes | None, *, from_client: bool) -> bytes | None:
        return body if self._messages is None else self._messages.unpacked(body, from_client=from_client)

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
        if self._closing is not None:
            return
        latest_ns = self.arrival_ns if self._asked is None else self._asked.latest_ns
        self._body_ns, self._request_trailers = max(at_ns, latest_ns), trailers
        if body is None:
            self._body = None
            return
        limit_bytes = BODY_COPY_LIMIT_BYTES if self._budget is None else self._budget.body_limit_bytes
        self._body = body if len(body) <= limit_bytes else None
        if body and (self._asked is None or not self._asked.size_bytes):
            self._request_bytes = len(body)
            if self._asked is not None:
                self._asked.count(len(body))
            if self._framed is not None:
                self._find_messages(body, at_ns, from_client=True)

    def answered(self, status: int, headers: Fields, at_ns: int) -> None:
        """The response's head came in."""
        if self._closing is None:
            self.answer.latest_ns = at_ns = max(at_ns, self.arrival_ns)
            self._answer_head = (status, headers, at_ns)

    def take(self, piece: bytes, at_ns: int, read: int) -> None:
        """A piece of the response body came in. Pieces with the same `read` number are one chunk."""
        if self._closing is None:
            self.answer.take(piece, at_ns, read)
            if self._framed is not None:
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
        if self._closing is None:
            self._response_trailers = trailers
            self._closing = (COMPLETE, None, None, max(at_ns, self.answer.latest_ns, self.arrival_ns))
            self.answer.release()
            if self._asked is not None:
                self._asked.release()

    def fail(self, message: str, at_ns: int, *, client_left: bool) -> None:
        """The exchange broke; `message` is the proxy's word for it, `client_left` what its sockets say."""
        failure = blame(message, request_is_whole=self.request_is_whole, client_left=client_left)
        self._close(failure.outcome, message, failure.status, at_ns)

    def cut_off(self) -> None:
        """The capture ends while this is under way."""
        self._close(IN_FLIGHT, None, None, None)

    def _close(self, outcome: str, error: str | None, status: int | None, end_ns: int | None) -> None:
        if self._closing is None:
            if end_ns is not None:
                end_ns = max(end_ns, self.answer.latest_ns, self.arrival_ns)
            self._closing = (outcome, error, status, end_ns)
            self.answer.release()
            if self._asked is not None:
                self._asked.release()

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
        self.nothing_told()
        values, more, response_body, request_body = self.ended_values()
        columns = dict(zip(ENDED_COLUMNS, (*values, response_body, request_body), strict=True))
        return {name: value for name, value in {**columns, **(more or {})}.items() if value is not None}

    def asked_values(self, *, head_alone: bool = False) -> tuple[tuple[Any, ...], None, bytes | None]:
        """Values of `ASKED_COLUMNS` as known by now, the last of them by itself; they count as told then.

        Nothing stands where `ended_values` has further columns.
        """
        if head_alone:
            body_ns = body = None
        else:
            body_ns, body = self._body_ns, self._body if not self.streamed else self.request_body
        self._told = body_ns, body
        return (self.request_id, self.arrival_ns, self.connection, *self.head, body_ns), None, body

    def nothing_told(self) -> None:
        """What `asked_values` gave last did not get anywhere; `ended_values` gives it again."""
        self._told = None, None

    def ended_values(
        self, **besides: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any] | None, bytes | None, bytes | None]:
        """Values of `ENDED_COLUMNS`; columns that few rows have, with `besides`; the last two by themselves.

        What `asked_values` told and has not changed is None. Raises ValueError when it isn't closed.
        """
        if self._closing is None:
            raise ValueError(f"{self.request_id}: no row before the exchange is closed")
        outcome, error, own_status, end_ns = self._closing
        status, headers, first_byte_ns = self._answer_head or (own_status, None, None)
        answer, asked = self.answer, self._asked
        told_ns, told_body = self._told
        if self._messages is None and not self.streamed:
            request_body, response_body = self._body, answer.body() if self._answer_head is not None else None
        else:
            request_body, response_body = self.request_body, self.response_body
        more: dict[str, Any] | None = besides or None
        if asked is not None or self._request_trailers is not None or self._response_trailers is not None:
            more = {**self._seldom_columns(), **besides}
        elif self._messages is not None:
            more = {**self._messages.columns(), **besides}
        values = (
            self.request_id,
            outcome,
            error,
            status,
            headers,
            first_byte_ns,
            end_ns,
            answer.size_bytes,
            self._request_bytes if asked is None else asked.size_bytes,
            answer.chunk_ns,
            answer.chunk_bytes,
            None if told_ns == self._body_ns else self._body_ns,
        )
        return values, more, response_body, None if request_body is told_body else request_body

    def _seldom_columns(self) -> dict[str, Any]:
        columns = {
            "request_chunk_ns": self.asked.chunk_ns or None,
            "request_chunk_bytes": self.asked.chunk_bytes or None,
            "request_trailers": self._request_trailers,
            "response_trailers": self._response_trailers,
            **(self._messages.columns() if self._messages is not None else {}),
        }
        return {name: value for name, value in columns.items() if value is not None}
