"""The sender for high rates: own pool of bare connections, requests serialised ahead, nothing per request
that need not be. It speaks HTTP/1.1 to the target itself; proxies and whatever else HTTP knows are the
`session_sender`'s.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Callable
from typing import Final

from replay.engine.connecting import Connecting
from replay.engine.deadlines import Deadlines
from replay.engine.exchange import Exchange
from replay.engine.idle import IdleConnections
from replay.engine.pacer import Pacer
from replay.engine.plain_transport import connect
from replay.engine.requests import Prepared
from replay.engine.sender import Sender, own_want, stopped
from replay.engine.wire_connection import WireConnection

SWEEP_S: Final = 10.0

monotonic_ns = time.monotonic_ns


class WireSender(Sender):
    """Sends serialised requests (`Prepared.wire`) over pooled connections of its own."""

    staging_ns = 40_000
    staging_step_ns = 500_000  # a sleep before each would cost as much as staging it

    def __init__(
        self,
        connecting: Connecting,
        pacer: Pacer,
        on_sent: Callable[[Exchange], None],
        on_finished: Callable[[Exchange], None],
    ) -> None:
        super().__init__(connecting, pacer, on_sent, on_finished)
        self._tls = connecting.tls()
        self._tls_name = connecting.target.tls_name if self._tls is not None else None
        self._idle: IdleConnections[WireConnection] = IdleConnections()
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        self._dialled = 0
        self._live: dict[Exchange, WireConnection | None] = {}
        self._dials: set[asyncio.Task[None]] = set()
        self._totals = Deadlines(round(connecting.timeout_s * 1e9), self._time_out)

    def stage(self, prepared: Prepared) -> None:
        exchange = self._begin(prepared)
        self._live[exchange] = None
        self._totals.add(max(exchange.dequeued_ns or 0, self.due_monotonic_ns(exchange)), exchange)
        self._place(exchange)

    def _place(self, exchange: Exchange) -> None:
        connection = self._idle.take(exchange.prepared.client, monotonic_ns())
        if connection is not None:
            self._hold(connection, exchange)
        else:
            self._dial_for(exchange)

    def _dial_for(self, exchange: Exchange) -> None:
        # Begun at once: a turn of the loop, when a thousand streams have something to read, takes 10 ms.
        dial = asyncio.Task(self._dial(exchange), loop=self._loop, eager_start=True)
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    def _hold(self, connection: WireConnection, exchange: Exchange) -> None:
        self._live[exchange] = connection
        connection.hold(exchange, exchange.prepared.wire or b"")
        self.pacer.at(self.due_monotonic_ns(exchange), connection.send)

    async def _dial(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self.connecting.connect_timeout_s):
                connection = await self._connect()
        except Exception as error:
            if not exchange.over:
                exchange.fail(*classify_dial(error))
                self._finish(exchange)
            return
        if exchange.over:  # timed out meanwhile; the next one may use the connection
            self._pool(connection, exchange)
        else:
            self._hold(connection, exchange)

    async def _connect(self) -> WireConnection:
        path = self.connecting.unix_socket
        if path is not None:
            _, connection = await self._loop.create_unix_connection(
                lambda: WireConnection(self), path, ssl=self._tls, server_hostname=self._tls_name
            )
            return connection
        *others, last = self._addresses_in_turn()
        for address in others:
            # One that does not answer must not use up the time of those that would.
            part_s = self.connecting.connect_timeout_s / (len(others) + 1)
            try:
                async with asyncio.timeout(part_s):
                    return await self._connect_to(address)
            except OSError:
                continue
        return await self._connect_to(last)

    async def _connect_to(self, address: str) -> WireConnection:
        port = self.connecting.target.port
        if self._tls is None:
            return (await connect(address, port, lambda: WireConnection(self)))[1]
        _, connection = await self._loop.create_connection(
            lambda: WireConnection(self), address, port, ssl=self._tls, server_hostname=self._tls_name
        )
        return connection

    def _addresses_in_turn(self) -> tuple[str, ...]:
        """The vetted addresses, each time another one first: several mean several servers."""
        addresses = self.connecting.target.addresses
        if not addresses:
            raise OSError(f"{self.connecting.target.host}: no vetted address")
        first = self._dialled % len(addresses)
        self._dialled += 1
        return addresses[first:] + addresses[:first]

    # What connections call.

    def release(self, connection: WireConnection, exchange: Exchange, *, reusable: bool) -> None:
        """The exchange is over; its connection may serve another one."""
        if reusable:
            self._pool(connection, exchange)
        self._finish(exchange)

    def stage_again(self, exchange: Exchange, error: str, reason: str) -> None:
        """Take another connection, once: it may be late then, and its lateness says so."""
        if exchange.staged_again:
            exchange.fail(error, reason)
            self._finish(exchange)
            return
        exchange.staged_again = True
        exchange.error_text = f"staged again: {reason}"[:200]
        self._dial_for(exchange)  # others that were idle may have been closed by the same restart

    def _pool(self, connection: WireConnection, exchange: Exchange) -> None:
        if not connection.closed:
            self._idle.put(exchange.prepared.client, connection, monotonic_ns())

    def _sweep(self) -> None:
        self._idle.sweep(monotonic_ns())
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    def _finish(self, exchange: Exchange) -> None:
        self._totals.discard(exchange)
        exchange.over = True
        self._live.pop(exchange, None)
        self._end(exchange)

    # Ends that come from our side.

    def break_off(self, exchange: Exchange, error: str, text: str) -> None:
        if exchange.over:
            return
        connection = self._live.get(exchange)
        if connection is not None:
            connection.read_up()  # what has come may be the whole answer
            if connection.exchange is not exchange:
                return
            connection.give_up()
        exchange.fail(error, text)
        self._finish(exchange)

    def _time_out(self, exchange: Exchange) -> None:
        error = "connect_timeout" if exchange.connected_ns is None else "timeout"
        self.break_off(exchange, error, "TimeoutError")

    def stop(self) -> None:
        for exchange in list(self._live):
            self.break_off(exchange, stopped(exchange), "the replay was stopped")
        for dial in self._dials:
            dial.cancel()

    async def close(self) -> None:
        await super().close()
        self._totals.close()
        self._sweeping.cancel()
        self._idle.close()


def classify_dial(error: Exception) -> tuple[str, str]:
    """Why a connection could not be opened → (error of the run format's vocabulary, its text)."""
    text = f"{type(error).__name__}: {error}".strip(": ")
    if (want := own_want(error)) is not None:
        return want, text
    if isinstance(error, ssl.SSLError):
        return "tls", text
    if isinstance(error, TimeoutError):
        return "connect_timeout", text
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "connect_refused", text
    return "connect_failed", text
