"""The sender that uses aiohttp's client, staged: everything but the last step is done ahead of the instant.

Some 20 ms before it is due, a request takes its connection and is serialised, its bytes held back; at the
due instant the pacer hands them to the transport in one write. Reads are stamped as the transport delivers
them, before any parsing. Only this and `session_connection` know aiohttp.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from replay.engine.connecting import Connecting
from replay.engine.exchange import Exchange
from replay.engine.flushing import write_now
from replay.engine.pacer import Pacer
from replay.engine.requests import Prepared, url_of
from replay.engine.retry_after import MOST_LENGTH
from replay.engine.sender import Sender, is_tls, own_want, stopped
from replay.engine.session_connection import StampedHandler, connector_of

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


class _Staged:
    """A request between staging and sending: holds its bytes, and sends them when the pacer says."""

    def __init__(self, sender: SessionSender, exchange: Exchange) -> None:
        self.sender = sender
        self.exchange = exchange
        self.due_monotonic_ns = sender.due_monotonic_ns(exchange)
        self.transport: asyncio.Transport | None = None
        self.protocol: StampedHandler | None = None
        self.descriptor: int | None = None
        self.held = b""

    def hold(self, protocol: StampedHandler, transport: asyncio.Transport, held: bytes) -> None:
        """Keep the bytes for the due instant (again, when a first connection broke before it)."""
        first = self.transport is None
        self.protocol, self.transport, self.held = protocol, transport, held
        plain = transport.get_extra_info("sslcontext") is None
        self.descriptor = transport.get_extra_info("socket").fileno() if plain else None
        if first:
            self.sender.pacer.at(self.due_monotonic_ns, self.send)
        elif monotonic_ns() >= self.due_monotonic_ns:
            self.send()

    def send(self) -> None:
        """Hand the bytes to the transport; runs at the due instant."""
        exchange, transport, protocol = self.exchange, self.transport, self.protocol
        if transport is None or protocol is None or exchange.sent_ns is not None or exchange.over:
            return
        if transport.is_closing():
            return  # the waiting task sees the lost connection, and stages once more
        protocol.uploading = True
        write_now(transport, self.descriptor, self.held, protocol.uploaded)
        exchange.sent_ns = monotonic_ns()
        exchange.bytes_out = len(self.held)
        self.held = b""
        self.sender.note_sent(exchange)


class _StagedRequest(ClientRequest):
    """aiohttp's request, whose `send` serialises into a held transport instead of the socket."""

    def update_headers(self, headers: Any) -> None:
        super().update_headers(None)  # Host
        # The session folds headers whose names differ in case alone; a replay sends all that were recorded.
        recorded = _current.get().exchange.prepared.headers
        if any(name.lower() == "host" for name, _ in recorded):
            del self.headers["Host"]
        for name, value in recorded:
            self.headers.add(name, value)

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
        staged.hold(protocol, transport, b"".join(held.held))
        return response


class SessionSender(Sender):
    """Performs prepared requests, each at its due instant, through one aiohttp session."""

    staging_ns = 700_000

    def __init__(
        self,
        connecting: Connecting,
        pacer: Pacer,
        on_sent: Callable[[Exchange], None],
        on_finished: Callable[[Exchange], None],
    ) -> None:
        super().__init__(connecting, pacer, on_sent, on_finished)
        self._session = aiohttp.ClientSession(
            connector=connector_of(connecting, pacer),
            request_class=_StagedRequest,
            # Covers the whole way: every address, a proxy's tunnel, the handshake.
            timeout=aiohttp.ClientTimeout(total=None, connect=connecting.connect_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER_BYTES,
            skip_auto_headers=_AUTOMATIC_HEADERS,
            trust_env=False,
        )
        self._tasks: dict[Exchange, tuple[_Staged, asyncio.Task[None]]] = {}

    def stage(self, prepared: Prepared) -> None:
        exchange = self._begin(prepared)
        staged = _Staged(self, exchange)
        # Begun at once: with much to do, a turn of the loop is long, and what the worker stages waits for it.
        task = asyncio.Task(self._perform(staged), loop=self._loop, eager_start=True)
        self._tasks[exchange] = (staged, task)
        task.add_done_callback(functools.partial(self._settle, exchange))

    def break_off(self, exchange: Exchange, error: str, text: str) -> None:
        # Whoever waits on the connection sees it go.
        staged, _ = self._tasks.get(exchange, (None, None))
        if staged is not None and staged.transport is not None and not exchange.over:
            exchange.fail(error, text)
            staged.transport.abort()

    async def _perform(self, staged: _Staged) -> None:
        """Send one request when it is due, and read its response whole; errors are in the exchange."""
        exchange = staged.exchange
        _current.set(staged)
        wait_s = max(0, staged.due_monotonic_ns - monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(wait_s + self.connecting.timeout_s):
                await self._exchange(exchange)
        except Exception as error:
            exchange.fail(*classify(error, connected=exchange.connected_ns is not None))
        finally:
            exchange.over = True

    def _settle(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        """The task is over, perhaps before its first step: its exchange ends like any other."""
        if task.cancelled():  # only `stop` cancels, and it wants the row
            exchange.fail(stopped(exchange), "the replay was stopped")
        del self._tasks[exchange]
        self._end(exchange)

    async def _exchange(self, exchange: Exchange) -> None:
        try:
            await self._once(exchange)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # An idle connection may be closed by the server between staging and sending: no byte left yet,
            # so the request is staged on another one. It then may be late, and its lateness says so.
            if exchange.sent_ns is not None or exchange.connected_ns is None:
                raise
            exchange.staged_again = True
            exchange.error_text = f"staged again: {error}"[:200]
            await self._once(exchange)

    async def _once(self, exchange: Exchange) -> None:
        prepared, catch_up = exchange.prepared, self.pacer.catch_up
        catch_up(monotonic_ns())  # each step takes some 100 µs, and many tasks may take theirs in one turn
        response = await self._session.request(
            prepared.method,
            URL(url_of(self.connecting.target, prepared.path), encoded=True),
            data=prepared.body,
            allow_redirects=False,
            proxy=self.connecting.proxy,
        )
        catch_up(monotonic_ns())
        try:
            exchange.status = response.status
            exchange.content_type = response.headers.get("Content-Type", "")
            exchange.content_encoding = response.headers.get("Content-Encoding", "")
            if retry_after := response.headers.get("Retry-After"):
                exchange.retry_after = retry_after[:MOST_LENGTH]
                exchange.date = response.headers.get("Date", "")[:MOST_LENGTH]
            content = response.content
            try:
                if (failure := content.exception()) is not None:
                    raise failure
                await content.wait_eof()
                catch_up(monotonic_ns())
            finally:
                exchange.body = _read_so_far(content)
        finally:
            response.release()

    def stop(self) -> None:
        for _, task in list(self._tasks.values()):
            task.cancel()

    async def close(self) -> None:
        await super().close()
        await self._session.close()


def _read_so_far(content: aiohttp.StreamReader) -> bytes:
    """What has arrived, also of a response that broke off (whose reader refuses to be read)."""
    return b"".join(piece for piece in content._buffer) if content.exception() else content.read_nowait()


def classify(error: BaseException, *, connected: bool) -> tuple[str, str]:
    """An exception → (error of the run format's vocabulary, its text)."""
    text = f"{type(error).__name__}: {error}".strip(": ")
    if not connected and (want := own_want(error)) is not None:
        return want, text
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns", text
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError) or is_tls(error.__cause__):
        return "tls", text
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect_timeout", text
    if isinstance(error, aiohttp.ClientConnectorError):
        return ("connect_refused" if error.errno == errno.ECONNREFUSED else "connect_failed"), text
    if isinstance(error, TimeoutError):
        return ("timeout" if connected else "connect_timeout"), text
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return "connect_failed", text
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):
        return "protocol", text
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return ("reset" if connected else "connect_failed"), text
    return "protocol", text
