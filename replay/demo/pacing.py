"""The queueing model in real time: coroutines that wait for a slot, for an instant, or speak token by token.

Every wait is until an absolute instant that the model named, so nothing drifts, and a late wake-up delays
nobody else. Deciding those instants is in `queueing`; HTTP is in `service`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from replay.demo.queueing import SECOND_NS, Start, Station

_TIMER_SLACK_NS: Final = 500_000
"""Event loop timers tick at 1 ms and round to the nearest: a wake-up may come this much early."""


class Clock:
    """Nanoseconds on the monotonic clock since the server started."""

    def __init__(self) -> None:
        self._zero_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """The present instant."""
        return time.monotonic_ns() - self._zero_ns

    async def until(self, instant_ns: int) -> None:
        """Wait for an instant, to the millisecond of the event loop's timers; at once if it has passed."""
        wait_ns = instant_ns - self.now_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / SECOND_NS)


class Line:
    """A station as coroutines meet it: wait for a slot, in the order of arrival."""

    def __init__(self, station: Station, clock: Clock) -> None:
        self.station = station
        self.clock = clock
        self._tickets = itertools.count()
        self._calls: dict[int, asyncio.Future[Start]] = {}

    async def enter(self) -> tuple[int, Start]:
        """The instant of arrival, and the start; raises `QueueFull`. A start must be followed by `leave`."""
        ticket, arrival_ns = next(self._tickets), self.clock.now_ns()
        start = self.station.arrive(ticket, arrival_ns)
        if start is not None:
            return arrival_ns, start
        call = self._calls[ticket] = asyncio.get_running_loop().create_future()
        try:
            return arrival_ns, await call
        except asyncio.CancelledError:
            self.leave(ticket, self.clock.now_ns())
            raise
        finally:
            del self._calls[ticket]

    def leave(self, ticket: int, at_ns: int) -> None:
        """The ticket's slot is free since `at_ns`, or its place in the queue is given up."""
        following = self.station.leave(ticket, at_ns)
        if following is not None:
            call = self._calls[following.ticket]
            if call.cancelled():
                self.leave(following.ticket, at_ns)
            else:
                call.set_result(following)


class Slot:
    """Holds a slot of a line while its block runs; the block sets `until_ns`, when the work is done.

    A block that ends then frees the slot at that very instant; one broken off before it frees it now.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self.until_ns = sys.maxsize
        self.arrival_ns = 0
        self.start: Start

    async def __aenter__(self) -> Self:
        self.arrival_ns, self.start = await self._line.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        now_ns = self._line.clock.now_ns()
        done = self.until_ns <= now_ns + _TIMER_SLACK_NS
        self._line.leave(self.start.ticket, self.until_ns if done else now_ns)


class Speech:
    """Writes each piece to a transport at its instant; `said` is done after the last one.

    Plain callbacks: a coroutine that sleeps and writes costs half as much again per token. `said` fails
    with `ConnectionResetError` when the client is gone, and cancelling it ends the speech.
    """

    def __init__(
        self,
        clock: Clock,
        transport: asyncio.WriteTransport,
        instants_ns: Sequence[int],
        pieces: Sequence[bytes],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._transport = transport
        self._instants_ns = instants_ns
        self._pieces = pieces
        self._spoken = 0
        self.said: asyncio.Future[None] = self._loop.create_future()
        self._speak()

    def _speak(self) -> None:
        if self.said.done():
            return
        if self._transport.is_closing():
            self.said.set_exception(ConnectionResetError("the client is gone"))
            return
        now_ns = self._clock.now_ns()
        while self._instants_ns[self._spoken] <= now_ns + _TIMER_SLACK_NS:
            self._transport.write(self._pieces[self._spoken])
            self._spoken += 1
            if self._spoken == len(self._pieces):
                self.said.set_result(None)
                return
        self._loop.call_later((self._instants_ns[self._spoken] - now_ns) / SECOND_NS, self._speak)
