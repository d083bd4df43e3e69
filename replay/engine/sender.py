"""The one door to sending: a request is staged ahead of its due instant, sent at it, and reported once.

Two rooms are behind it: `session_sender` (aiohttp's client: proxies, everything HTTP) and `wire_sender` (a
bare protocol with a C parser, for high rates). Which one to take is decided by `choose`.
"""

from __future__ import annotations

import abc
import asyncio
import errno
import ssl
import time
from collections.abc import Callable
from typing import Final

from capture.failures import BadInput
from replay.engine.connecting import Connecting
from replay.engine.deadlines import Deadlines
from replay.engine.exchange import HUNG_UP, Exchange
from replay.engine.pacer import Pacer
from replay.engine.requests import POOLED, RECORDED, Prepared

SESSION: Final = "session"
WIRE: Final = "wire"
SENDERS: Final = (SESSION, WIRE)
SESSION_PEAK_PER_S: Final = 300.0
"""Up to here aiohttp's client is as punctual as the wire; above, its cost per request makes it late."""
SESSION_CHUNKS_PER_S: Final = 10_000.0
"""Likewise for the chunks of streams, whose stamps come late where the core has no time for them."""

KEEP_ALIVE_S: Final = 60.0
"""A connection that was idle for longer is not used again."""

monotonic_ns = time.monotonic_ns


class Sender(abc.ABC):
    """Sends staged requests when they are due. `on_finished` gets every staged exchange exactly once.

    `zero_monotonic_ns`, the instant that due 0 stands for, is set before anything is staged.
    """

    staging_ns: int
    """About what staging one request takes of the loop."""
    staging_step_ns = 0
    """Requests due within so much time of each other are staged in one go."""

    def __init__(
        self,
        connecting: Connecting,
        pacer: Pacer,
        on_sent: Callable[[Exchange], None],
        on_finished: Callable[[Exchange], None],
    ) -> None:
        self.connecting = connecting
        self.pacer = pacer
        self.in_flight = 0
        self.zero_monotonic_ns = 0
        self._on_sent = on_sent
        self._on_finished = on_finished
        self._loop = asyncio.get_running_loop()
        self._firsts = (
            Deadlines(round(connecting.first_byte_timeout_s * 1e9), self._time_out_first)
            if connecting.first_byte_timeout_s is not None
            else None
        )
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    @abc.abstractmethod
    def stage(self, prepared: Prepared) -> None:
        """Make a request ready; it leaves by itself when it is due. Must run on the loop."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End everything that is staged or under way; each still is reported, as not sent or interrupted."""

    @abc.abstractmethod
    def break_off(self, exchange: Exchange, error: str, text: str) -> None:
        """End an exchange from our side, unless it is over, and its connection."""

    async def close(self) -> None:
        """Close all connections."""
        if self._firsts is not None:
            self._firsts.close()

    async def drained(self) -> None:
        """Return when every staged request has been reported."""
        await self._none_open.wait()

    def due_monotonic_ns(self, exchange: Exchange) -> int:
        """The exchange's due instant on the monotonic clock."""
        return self.zero_monotonic_ns + exchange.prepared.due_ns

    def _begin(self, prepared: Prepared) -> Exchange:
        self._open += 1
        self._none_open.clear()
        return Exchange(prepared, dequeued_ns=monotonic_ns())

    def note_sent(self, exchange: Exchange) -> None:
        """Count a request that has just left, and watch for what ends it early."""
        self.in_flight += 1
        exchange.in_flight = self.in_flight
        self._on_sent(exchange)
        if self._firsts is not None and exchange.sent_ns is not None:
            self._firsts.add(exchange.sent_ns, exchange)
        if exchange.prepared.hang_up_after_ns is not None:
            self._loop.call_later(
                exchange.prepared.hang_up_after_ns / 1e9, self.break_off, exchange, *HUNG_UP
            )

    def _time_out_first(self, exchange: Exchange) -> None:
        if exchange.first_byte_ns is None:
            self.break_off(exchange, "timeout", "no first byte in time")

    def _end(self, exchange: Exchange) -> None:
        """Settle an exchange's end and report it."""
        if self._firsts is not None:
            self._firsts.discard(exchange)
        exchange.end_ns = exchange.last_read_ns if exchange.error is None else None
        if exchange.end_ns is None:
            exchange.end_ns = monotonic_ns()
        if exchange.sent_ns is not None:
            self.in_flight -= 1
        self._open -= 1
        self._on_finished(exchange)
        if not self._open:
            self._none_open.set()


def own_want(error: BaseException) -> str | None:
    """The error of the vocabulary when this machine, and not the target, kept a connection from opening."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return "out_of_files"
    if number in (errno.EADDRNOTAVAIL, errno.ENOBUFS):
        return "out_of_ports"
    return None


def is_tls(error: BaseException | None) -> bool:
    """Whether a connection was lost by a TLS failure, e.g. a client certificate refused after the handshake.

    Not so where the peer just hung up without TLS's own goodbye.
    """
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def stopped(exchange: Exchange) -> str:
    """The error of an exchange that ends because the replay was stopped."""
    return "interrupted" if exchange.sent_ns is not None else "not_sent"


def choose(
    wanted: str,
    peak_per_s: float,
    connecting: Connecting,
    connections: str = POOLED,
    chunks_per_s: float = 0,
) -> tuple[str, str]:
    """(sender, why) for a schedule whose busiest second holds `peak_per_s`; `wanted` may be "auto".

    `chunks_per_s` is how many chunks of streams are expected in the busiest second.

    Raises `BadInput` when the recorded connections are asked of a sender that can't give them.
    """
    if connections == RECORDED:
        if wanted == SESSION or connecting.proxy is not None:
            raise BadInput(
                "--connections recorded: needs the wire sender, which knows no proxies; "
                "leave --sender and --proxy out"
            )
        return WIRE, "recorded connections were asked for"
    if wanted != "auto":
        return wanted, "chosen with --sender"
    if connecting.proxy is not None:
        return SESSION, "a proxy was given"
    if peak_per_s > SESSION_PEAK_PER_S:
        return WIRE, f"its busiest second holds {peak_per_s:.0f} requests"
    if chunks_per_s > SESSION_CHUNKS_PER_S:
        return WIRE, f"its busiest second is expected to bring {chunks_per_s:.0f} chunks of streams"
    return SESSION, f"its busiest second holds {peak_per_s:.0f} requests, up to {SESSION_PEAK_PER_S:.0f}"
