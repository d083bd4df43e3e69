"""The sender that uses aiohttp's client, staged: everything but the last step is done ahead of the instant.

Some 20 ms before it is due, a request takes its connection and is serialised, its bytes held back; at the
due instant the pacer hands them to the transport in one write. Reads are stamped as the transport delivers
them, before any parsing. This is the only room of the engine that knows aiohttp.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from replay.engine.exchange import Exchange
from replay.engine.pacer import Pacer
from replay.engine.requests import Prepared, url_of
from replay.engine.target import Target

# Flow control would pause reading until the body is consumed, and so falsify the stamps: bodies are read
# whole, so let the buffer hold them.
_READ_BUFFER_BYTES: Final = 1 << 30
_AUTOMATIC_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

_current: contextvars.ContextVar[_Staged] = contextvars.ContextVar("staged")

monotonic_ns = time.monotonic_ns


class _HeldTransport:
    """Stands in for a transport while a request is serialised, and keeps what would have been written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.held: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.held.append(bytes(data))

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.held.extend(bytes(piece) for piece in pieces)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class _Vetted(AbstractResolver):
    """Resolves to the addresses that the target guard has seen, and to no others."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _StampedHandler(ResponseHandler):
    """aiohttp's client protocol, noting when each read came and how much body it brought."""

    exchange: Exchange | None = None
    uses = 0

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        exchange = self.exchange
        # aiohttp also calls this with nothing, to go on with what it holds: no read, no stamp.
        if not data or exchange is None or exchange.sent_ns is None or exchange.end_ns is not None:
            super().data_received(data)
            return
        if exchange.first_byte_ns is None:
            exchange.first_byte_ns = now_ns
        exchange.last_read_ns = now_ns
        exchange.bytes_in += len(data)
        reader = self._payload
        before = reader.total_bytes if reader is not None else 0
        super().data_received(data)
        after_reader = self._payload
        if after_reader is not reader:
            before = 0
        body_bytes = (after_reader.total_bytes if after_reader is not None else 0) - before
        if body_bytes > 0:
            exchange.read_ns.append(now_ns)
            exchange.read_bytes.append(body_bytes)


class _Staged:
    """A request between staging and sending: holds its bytes, and sends them when the pacer says."""

    def __init__(self, sender: SessionSender, exchange: Exchange, due_monotonic_ns: int) -> None:
        self.sender = sender
        self.exchange = exchange
        self.due_monotonic_ns = due_monotonic_ns
        self.transport: asyncio.Transport | None = None
        self.held = b""

    def hold(self, transport: asyncio.Transport, held: bytes) -> None:
        """Keep the bytes for the due instant (again, when a first connection broke before it)."""
        first = self.transport is None
        self.transport, self.held = transport, held
        if first:
            self.sender.pacer.at(self.due_monotonic_ns, self.send)
        elif monotonic_ns() >= self.due_monotonic_ns:
            self.send()

    def send(self) -> None:
        """Hand the bytes to the transport; runs at the due instant."""
        exchange, transport = self.exchange, self.transport
        if transport is None or exchange.sent_ns is not None or exchange.end_ns is not None:
            return
        if transport.is_closing():
            return  # the waiting task sees the lost connection, and stages once more
        _write_now(transport, self.held)
        exchange.sent_ns = monotonic_ns()
        exchange.bytes_out = len(self.held)
        self.held = b""
        self.sender.note_sent(exchange)


def _write_now(transport: asyncio.Transport, data: bytes) -> None:
    """Hand `data` to the kernel at once; what it does not take, and TLS, goes through the transport.

    uvloop's transports write at the end of the loop's iteration, after whatever else is ready by then.
    """
    if transport.get_extra_info("sslcontext") is None and transport.get_write_buffer_size() == 0:
        try:
            taken = os.write(transport.get_extra_info("socket").fileno(), data)
        except OSError:
            # Full for now, or broken: the transport waits, or finds out for itself and tells the protocol.
            taken = 0
        data = data[taken:]
    if data:
        transport.write(data)


class _StagedRequest(ClientRequest):
    """aiohttp's request, whose `send` serialises into a held transport instead of the socket."""

    async def send(self, conn: Any) -> ClientResponse:
        staged = _current.get()
        exchange = staged.exchange
        if exchange.sent_ns is not None:
            # aiohttp would send an idempotent request a second time; a replay sends each once.
            raise aiohttp.ClientConnectionResetError("connection lost after the request was sent")
        protocol = conn.protocol
        transport = protocol.transport
        if transport is None:
            raise aiohttp.ClientConnectionResetError("connection lost before the request was sent")
        exchange.connected_ns = monotonic_ns()
        exchange.connection_reused = protocol.uses > 0
        protocol.uses += 1
        protocol.exchange = exchange
        held = _HeldTransport(transport)
        protocol.transport = held
        try:
            response = await super().send(conn)
        finally:
            if protocol.transport is held:
                protocol.transport = transport
        staged.hold(transport, b"".join(held.held))
        return response


class SessionSender:
    """Performs prepared requests, each at its due instant, through one aiohttp session."""

    def __init__(
        self,
        target: Target,
        pacer: Pacer,
        zero_monotonic_ns: int,
        timeout_s: float,
        connect_timeout_s: float,
        note_sent: Callable[[Exchange], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60, resolver=_Vetted(target.addresses))
        # aiohttp has no public way to choose the protocol class.
        factory: Any = functools.partial(_StampedHandler, loop=loop)
        connector._factory = factory
        self._session = aiohttp.ClientSession(
            connector=connector,
            request_class=_StagedRequest,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER_BYTES,
            skip_auto_headers=_AUTOMATIC_HEADERS,
            trust_env=False,
        )
        self._target = target
        self._zero_monotonic_ns = zero_monotonic_ns
        self._timeout_s = timeout_s
        self._on_sent = note_sent
        self.pacer = pacer
        self.in_flight = 0

    def note_sent(self, exchange: Exchange) -> None:
        """Count a request that has just left."""
        self.in_flight += 1
        exchange.in_flight = self.in_flight
        self._on_sent(exchange)

    async def perform(self, prepared: Prepared) -> Exchange:
        """Send one request when it is due, and read its response whole; errors are in the exchange."""
        exchange = Exchange(prepared, dequeued_ns=monotonic_ns())
        due_monotonic_ns = self._zero_monotonic_ns + prepared.due_ns
        staged = _Staged(self, exchange, due_monotonic_ns)
        _current.set(staged)
        wait_s = max(0, due_monotonic_ns - monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(wait_s + self._timeout_s):
                await self._exchange(prepared, exchange)
        except asyncio.CancelledError:
            # Only the worker's stop cancels, and it wants the row: so the exchange ends like any other.
            stopped = "interrupted" if exchange.sent_ns is not None else "not_sent"
            exchange.fail(stopped, "the replay was stopped")
        except Exception as error:
            exchange.fail(*classify(error, connected=exchange.connected_ns is not None))
        finally:
            exchange.end_ns = exchange.last_read_ns if exchange.error is None else None
            if exchange.end_ns is None:
                exchange.end_ns = monotonic_ns()
            if exchange.sent_ns is not None:
                self.in_flight -= 1
        return exchange

    async def _exchange(self, prepared: Prepared, exchange: Exchange) -> None:
        try:
            await self._once(prepared, exchange)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # An idle connection may be closed by the server between staging and sending: no byte left yet,
            # so the request is staged on another one. It then may be late, and its lateness says so.
            if exchange.sent_ns is not None or exchange.connected_ns is None:
                raise
            exchange.error_text = f"staged again: {error}"[:200]
            await self._once(prepared, exchange)

    async def _once(self, prepared: Prepared, exchange: Exchange) -> None:
        response = await self._session.request(
            prepared.method,
            URL(url_of(self._target, prepared.path), encoded=True),
            headers=prepared.headers,
            data=prepared.body,
            allow_redirects=False,
        )
        try:
            exchange.status = response.status
            exchange.content_type = response.headers.get("Content-Type", "")
            exchange.content_encoding = response.headers.get("Content-Encoding", "")
            content = response.content
            try:
                if (failure := content.exception()) is not None:
                    raise failure
                await content.wait_eof()
            finally:
                exchange.body = _read_so_far(content)
        finally:
            response.release()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _read_so_far(content: aiohttp.StreamReader) -> bytes:
    """What has arrived, also of a response that broke off (whose reader refuses to be read)."""
    return b"".join(piece for piece in content._buffer) if content.exception() else content.read_nowait()


def classify(error: BaseException, *, connected: bool) -> tuple[str, str]:
    """An exception → (error of the run format's vocabulary, its text)."""
    text = f"{type(error).__name__}: {error}".strip(": ")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns", text
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls", text
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect_timeout", text
    if isinstance(error, aiohttp.ClientConnectorError):
        return ("connect_refused" if error.errno == errno.ECONNREFUSED else "connect_failed"), text
    if isinstance(error, TimeoutError):
        return ("timeout" if connected else "connect_timeout"), text
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):
        return "protocol", text
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return ("reset" if connected else "connect_failed"), text
    return "protocol", text
