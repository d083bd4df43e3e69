"""mitmproxy's HTTP/1 connections with what they lack: trailers, interim answers, bounds, and who hung up.

As they are, a trailer, an answer of 1xx before the answer, or an empty line before a message hangs a request
for good, a head without an end fills the memory, and so does whoever never ends it; `Expect: 100-continue` is
answered in the server's name, and a server that goes without an answer is given one. `proxy` puts these
classes where mitmproxy looks for its own; how messages are framed is in `http1_framing`.
"""

from __future__ import annotations

import re
import weakref
from typing import Any, Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _events, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp

from capture.flow_control import register
from capture.http1_framing import unquoted, without_void_framing

HEAD_LIMIT_BYTES: Final = 1 << 20
"""Of a head, a trailer section, or the line before a chunk."""
WAITING_LIMIT_BYTES: Final = 64 << 20
"""Of requests sent ahead while one is under way."""
HEAD_TIMEOUT_S: Final = 60.0
"""From a head's first byte to its last."""

_LAST_CHUNK: Final = b"0\r\n\r\n"
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")
"""The beginning of an answer that another one follows (RFC 9110, 15.2); 101 ends the speaking of HTTP."""
_BODILESS: Final = (204, 304)
NO_ANSWER: Final = "server closed the connection without an answer"

_hung_up: weakref.WeakSet[Connection] = weakref.WeakSet()
_expecting: weakref.WeakKeyDictionary[Connection, tuple[int, tuple[bytes, bytes]]] = (
    weakref.WeakKeyDictionary()
)
"""Of clients, the place and text of the `Expect` that mitmproxy takes from the request under way."""

type Commands = layer.CommandGenerator[None]


def hung_up(connection: Connection) -> bool:
    """Whether this end of an upgraded connection closed it, and not the proxy after the other had."""
    return connection in _hung_up


def _ends_no_body(command: Any, answer: http.Response | None) -> bool:
    """Whether that sends the end of a body which the answer doesn't have, chunked though it says it is."""
    bodiless = answer is not None and answer.status_code in _BODILESS
    return bodiless and isinstance(command, commands.SendData) and command.data == _LAST_CHUNK


class _TrailerReader:
    """Stands before h11's reader of chunks, and keeps the trailers that mitmproxy would stumble over."""

    def __init__(self, reader: ChunkedReader) -> None:
        self._reader = reader
        self.trailers: http.Headers | None = None

    def __call__(self, buf: ReceiveBuffer) -> Any:
        event = self._reader(buf)
        if isinstance(event, h11.EndOfMessage) and event.headers:
            self.trailers = http.Headers(event.headers.raw_items())
            return h11.EndOfMessage()
        return event

    def read_eof(self) -> Any:
        return self._reader.read_eof()


class _Http1Connection(_http1.Http1Connection):
    """What both directions share."""

    ReceiveTrailers: type[_events.RequestTrailers | _events.ResponseTrailers]
    _trailers: http.Headers | None = None
    _framed_as: tuple[http.Message | None, bool] = None, False

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)  # type: ignore[call-arg]
        register(self)

    def read_body(self, event: events.Event) -> Commands:
        if isinstance(self.body_reader, ChunkedReader):
            self.body_reader = _TrailerReader(self.body_reader)  # type: ignore[assignment]
        reader = self.body_reader
        for command in super().read_body(event):
            if (
                isinstance(reader, _TrailerReader)
                and reader.trailers is not None
                and isinstance(command, ReceiveHttp)
                and isinstance(command.event, self.ReceiveEndOfMessage)
            ):
                yield ReceiveHttp(self.ReceiveTrailers(command.event.stream_id, self._fit(reader.trailers)))
                reader.trailers = None
            yield command
        if self.state == self.read_body and len(self.buf) > HEAD_LIMIT_BYTES:
            yield from self._refuse("HTTP/1 protocol error: line too long between chunks")

    def _fit(self, trailers: http.Headers) -> http.Headers:
        """HTTP/2 wants names in lower case."""
        if b"h2" not in (self.context.client.alpn, self.context.server.alpn):
            return trailers
        return http.Headers([(name.lower(), value) for name, value in trailers.fields])

    def send(self, event: _events.HttpEvent) -> Commands:
        if isinstance(event, _events.RequestData | _events.ResponseData):
            message = self.request if isinstance(event, _events.RequestData) else self.response
            if event.data and message is not None:
                yield commands.SendData(self.conn, self._framed(event.data, message))
            return
        if isinstance(event, _events.RequestTrailers | _events.ResponseTrailers):
            self._trailers = event.trailers
            return
        for command in super().send(event):
            if isinstance(event, _events.ResponseEndOfMessage) and _ends_no_body(command, self.response):
                continue
            if (
                self._trailers
                and isinstance(event, _events.RequestEndOfMessage | _events.ResponseEndOfMessage)
                and isinstance(command, commands.SendData)
                and command.data == _LAST_CHUNK
            ):
                lines = b"".join(b"%s: %s\r\n" % field for field in self._trailers.fields)
                command = commands.SendData(command.connection, b"0\r\n" + lines + b"\r\n")
            yield command
        if isinstance(event, _events.RequestEndOfMessage | _events.ResponseEndOfMessage):
            self._trailers = None

    def _framed(self, data: bytes, message: http.Message) -> bytes:
        """A piece of a body as it stands on the connection; mitmproxy looks at the headers for each."""
        if message is not self._framed_as[0]:
            chunked = "chunked" in message.headers.get("transfer-encoding", "").lower()
            self._framed_as = message, chunked
        return b"%x\r\n%s\r\n" % (len(data), data) if self._framed_as[1] else data

    def make_pipe(self) -> Commands:
        """Pass on what came with the answer of 101, as it came."""
        self.state = self.passthrough
        early = self.buf.maybe_extract_at_most(len(self.buf)) if self.buf else None
        if early and self.request is not None and self.request.method.upper() == "CONNECT":
            early = early.lstrip(b"\r\n")  # some clients end their request for a tunnel so
        if early:
            yield from self.state(events.DataReceived(self.conn, bytes(early)))

    def passthrough(self, event: events.Event) -> Commands:
        if (
            isinstance(event, events.ConnectionClosed)
            and event.connection.state is not ConnectionState.CLOSED  # else it was closed by the proxy
        ):
            _hung_up.add(event.connection)
        yield from super().passthrough(event)

    def _refuse(self, reason: str) -> Commands:
        """Have no more to do with this peer."""
        assert self.stream_id is not None  # noqa: S101
        self.state = self.done
        error = self.ReceiveProtocolError(self.stream_id, reason, code=self.ReceiveProtocolError.code)
        if self.conn is self.context.client and not self.response:
            yield commands.SendData(self.conn, _http1.make_error_response(400, reason))
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(error)


class Http1Server(_Http1Connection, _http1.Http1Server):
    """A client's connection. Its heads are bounded in size and time."""

    ReceiveTrailers = _events.RequestTrailers

    _heads = 0
    _watched: commands.RequestWakeup | None = None
    _watched_head = 0

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            self._watched = None
            if self._in_a_head and self._heads == self._watched_head:
                yield from self._turn_away(408, "the request's head took too long")
                return
        else:
            yield from super()._handle_event(event)
        if self.state == self.wait and len(self.buf) > WAITING_LIMIT_BYTES:
            yield from self._refuse("too much was sent ahead of an answer")
        elif self._in_a_head and self._watched is None:
            self._watched, self._watched_head = commands.RequestWakeup(HEAD_TIMEOUT_S), self._heads
            yield self._watched

    @property
    def _in_a_head(self) -> bool:
        return self.state == self.read_headers and len(self.buf) > 0

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        while self.buf._data.startswith(b"\r\n"):  # old clients end a body so (RFC 9112, 2.2)
            self.buf.maybe_extract_at_most(2)
        for command in super().read_headers(event):
            if isinstance(command, ReceiveHttp):
                heard = command.event
                if isinstance(heard, _events.RequestHeaders) and "expect" in heard.request.headers:
                    heard.request.stream = True  # its body comes when the server has asked for it
                elif isinstance(heard, _events.RequestProtocolError):
                    heard.message = unquoted(heard.message)
            yield command
        if self.state != self.read_headers:
            self._heads += 1
        elif len(self.buf) > HEAD_LIMIT_BYTES:
            yield from self._turn_away(431, "the request's head is too long")

    def send(self, event: _events.HttpEvent) -> Commands:
        if isinstance(event, _events.ResponseHeaders) and event.response.status_code == 100:
            self._leave_to_the_server()
            return
        yield from super().send(event)

    def _leave_to_the_server(self) -> None:
        """Whether a body is wanted, mitmproxy would say for it: it is asked instead (`Http1Client.send`)."""
        for at, field in enumerate(self.request.headers.fields if self.request is not None else ()):
            if field[0].lower() == b"expect":
                _expecting[self.conn] = at, field

    def _turn_away(self, status: int, reason: str) -> Commands:
        self.state = self.done
        self.buf = ReceiveBuffer()
        yield commands.SendData(self.conn, _http1.make_error_response(status, reason))
        yield commands.CloseConnection(self.conn)


class Http1Client(_Http1Connection, _http1.Http1Client):
    """A connection to a server. Its heads are bounded in size; what is interim is passed on as it comes."""

    ReceiveTrailers = _events.ResponseTrailers

    def send(self, event: _events.HttpEvent) -> Commands:
        client = self.context.client
        if isinstance(event, _events.RequestHeaders) and client in _expecting:
            at, field = _expecting.pop(client)
            fields = event.request.headers.fields
            event.request.headers.fields = (*fields[:at], field, *fields[at:])
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        while self.request is not None and self.buf._data.startswith(b"\r\n"):  # the end of a body before
            self.buf.maybe_extract_at_most(2)
        yield from self._pass_interim()
        for command in super().read_headers(event):
            if isinstance(command, ReceiveHttp):
                heard = command.event
                if isinstance(heard, _events.ResponseHeaders):
                    without_void_framing(heard.response)
                elif isinstance(heard, _events.ResponseProtocolError):
                    command = ReceiveHttp(self._told(event, heard))
            yield command
        if self.state == self.read_headers and len(self.buf) > HEAD_LIMIT_BYTES and self.stream_id:
            yield from self._refuse("HTTP/1 protocol error: the response's head is too long")

    def _told(
        self, event: events.ConnectionEvent, failure: _events.ResponseProtocolError
    ) -> _events.ResponseProtocolError:
        """A failure before the answer: a server that goes without one leaves its client without one.

        Clients ask again by themselves when a connection ends so, and may not when they get a 502.
        """
        if isinstance(event, events.ConnectionClosed):
            return _events.ResponseProtocolError(failure.stream_id, NO_ANSWER, _events.ErrorCode.CANCEL)
        return _events.ResponseProtocolError(failure.stream_id, unquoted(failure.message), failure.code)

    def _pass_interim(self) -> Commands:
        """Hand answers of 1xx to a client that knows them; the answer is still to come."""
        while self.request is not None and _INTERIM.match(self.buf._data):
            lines = self.buf.maybe_extract_lines()
            if lines is None:
                return
            client = self.context.client
            if self.request.http_version == "HTTP/1.1" and client.state & ConnectionState.CAN_WRITE:
                head = b"".join(bytes(line) + b"\r\n" for line in lines) + b"\r\n"
                yield commands.SendData(client, head)
