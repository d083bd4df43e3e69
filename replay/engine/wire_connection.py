"""One HTTP/1.1 connection of the wire sender: stamps each read, then parses it with llhttp (httptools).

Small chunks of a long answer are parsed some at a time: among a thousand streams, whatever belongs to one has
left the processor's caches when its next chunk comes, and one chunk takes as long to parse as ten.

No pool, no timeouts, no pacing here: the owner is told when an exchange is over, or has to be staged again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol, cast

import httptools

from replay.engine.exchange import HUNG_UP, Exchange
from replay.engine.flushing import write_now
from replay.engine.pacer import Pacer
from replay.engine.retry_after import MOST_LENGTH
from replay.engine.sender import is_tls

monotonic_ns = time.monotonic_ns
_BODILESS = (204, 304)
LAST: Final = b"\r\n\r\n"
"""So a chunked body ends, with trailers or without (RFC 9112, 7.1)."""
LAST_BYTES: Final = len(b"0") + len(b"\r\n") + len(LAST)
"""A shorter read may hold the rest of an end that was cut."""
DEFERRED_BYTES: Final = 4096
DEFERRED_READS: Final = 32


class Owner(Protocol):
    """Who holds the connection."""

    pacer: Pacer

    def note_sent(self, exchange: Exchange) -> None:
        """The exchange's bytes have left."""

    def release(self, connection: WireConnection, exchange: Exchange, *, reusable: bool) -> None:
        """The exchange is over (its error, if any, is in it)."""

    def stage_again(self, exchange: Exchange, error: str, reason: str) -> None:
        """The connection broke before the exchange was sent."""


class WireConnection(asyncio.Protocol):
    """A connection that carries one exchange at a time."""

    def __init__(self, owner: Owner) -> None:
        self.exchange: Exchange | None = None
        self.uses = 0
        self.idle_since_ns = 0
        self._gone = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._descriptor: int | None = None
        self._request = b""
        self._uploading = False
        self._parser = httptools.HttpResponseParser(self)
        self._expect()

    def _expect(self) -> None:
        """A response is to begin."""
        self._status = 0
        self._informational = self._headers_over = self._complete = self._keep_alive = False
        self._framed = self._chunked = self._defers = False
        self._date = b""
        self._pieces: list[bytes] = []
        self._body_bytes = 0
        self._unread: list[bytes] = []
        self._unread_ns: list[int] = []

    @property
    def closed(self) -> bool:
        """Whether it can't be used again: gone, or about to be."""
        return self._gone or (self._transport is not None and self._transport.is_closing())

    def hold(self, exchange: Exchange, request: bytes) -> None:
        """Take the bytes of a request; `send` lets them go."""
        exchange.connected_ns = monotonic_ns()
        exchange.connection_reused = self.uses > 0
        self.uses += 1
        self.exchange, self._request = exchange, request

    def send(self) -> None:
        """Send what is held; runs at the due instant."""
        exchange, transport = self.exchange, self._transport
        if exchange is None or transport is None or exchange.sent_ns is not None or transport.is_closing():
            return  # a lost connection is on its way to `connection_lost`, which has it staged again
        request, self._request = self._request, b""
        self._uploading = True
        write_now(transport, self._descriptor, request, self._uploaded)
        exchange.sent_ns = monotonic_ns()
        exchange.bytes_out = len(request)
        self._owner.note_sent(exchange)

    def _uploaded(self) -> None:
        self._uploading = False

    def give_up(self) -> None:
        """Break the connection off; the exchange on it is no longer this connection's."""
        if self.exchange is not None:
            self.exchange.body = b"".join(self._pieces)
        self.exchange = None
        self._gone = True
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if transport.get_extra_info("sslcontext") is None:
            self._descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        self.stamped(data, now_ns, now_ns)

    def stamped(self, data: bytes, came_ns: int, now_ns: int) -> None:
        """A read, made now, of what came then."""
        exchange = self.exchange
        if exchange is None or exchange.sent_ns is None:
            # A server that speaks out of turn is about to close: an answer can't be told from this.
            self._abort()
            return
        came_ns = exchange.note_read(came_ns, len(data))
        self._owner.pacer.catch_up(now_ns)  # many answers may have come at once, this one is stamped
        self._unread.append(data)
        self._unread_ns.append(came_ns)
        if (
            self._defers
            and LAST_BYTES <= len(data) <= DEFERRED_BYTES
            and len(self._unread) < DEFERRED_READS
            and not data.endswith(LAST)
        ):
            return
        self.read_up()

    def read_up(self) -> None:
        """Parse what has come; the exchange may be over then."""
        exchange = self.exchange
        if exchange is None or not self._unread:
            return
        unread, self._unread = self._unread, []
        unread_ns, self._unread_ns = self._unread_ns, []
        for data, came_ns in zip(unread, unread_ns, strict=True):
            if self._complete:  # what follows a whole answer is no part of it
                self._keep_alive = False
                break
            before = self._body_bytes
            error = self._parse(data)
            if self._body_bytes > before:
                exchange.read_ns.append(came_ns)
                exchange.read_bytes.append(self._body_bytes - before)
            if error is not None:
                self._end(error=error)
                return
        if self._complete:
            self._end()
        elif exchange.hangs_up_now():
            self._end(error=HUNG_UP)

    def _parse(self, data: bytes) -> tuple[str, str] | None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What follows a whole answer is no part of it; the connection is not used again.
            self._keep_alive = False
            if not self._complete:
                return "protocol", f"{type(error).__name__}: {error}"
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        self._transport = None
        self.read_up()
        exchange = self.exchange
        if exchange is None:
            return
        reason = str(error) if error else "the server closed the connection"
        kind = "tls" if is_tls(error) else "reset"
        if exchange.sent_ns is None:
            self.exchange = None
            self._owner.stage_again(exchange, kind, reason)
        elif self._headers_over and not self._framed and error is None:
            self._end()  # a body without a length ends with its connection (RFC 9112, 6.3)
        else:
            self._end(error=(kind, reason))

    def _end(self, error: tuple[str, str] | None = None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.body = b"".join(self._pieces)
        if error is not None:
            exchange.fail(*error)
        transport = self._transport
        reusable = (
            error is None
            and self._keep_alive
            and not self.closed
            and transport is not None
            and not transport.is_closing()
            and not self._uploading  # answered early: what is left of it would meet the next request
            and transport.get_write_buffer_size() == 0
        )
        if reusable:
            self._expect()
        else:
            self._abort()
        self._owner.release(self, exchange, reusable=reusable)

    def _abort(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        low = name.lower()
        if low == b"content-type" and self.exchange is not None:
            self.exchange.content_type = value.decode("latin-1")
        elif low == b"content-encoding" and self.exchange is not None:
            self.exchange.content_encoding = value.decode("latin-1")
        elif low in (b"content-length", b"transfer-encoding"):
            self._framed = True
            self._chunked = low == b"transfer-encoding" and value.lower() == b"chunked"
        elif low == b"date":
            self._date = value
        elif low == b"retry-after" and self.exchange is not None and not self.exchange.retry_after:
            self.exchange.retry_after = value[:MOST_LENGTH].decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._informational = status < 200
        exchange = self.exchange
        if self._informational or exchange is None:
            return
        exchange.status = status
        if exchange.retry_after:
            exchange.date = self._date[:MOST_LENGTH].decode("latin-1")
        self._headers_over = True
        # A client that hangs up after so many reads has to count them as they come.
        self._defers = self._chunked and exchange.prepared.hang_up_after_reads is None
        if status in _BODILESS:
            self._framed = True
        if exchange.prepared.method == "HEAD":
            # The parser waits for the body that a HEAD's answer announces and never has (RFC 9110, 9.3.2).
            self._complete, self._defers = True, False

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        if not self._informational:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()
