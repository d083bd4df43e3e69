"""Timeouts of many exchanges by one timer. What happens to one that is late is its sender's to decide."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable

from replay.engine.exchange import Exchange

monotonic_ns = time.monotonic_ns


class Deadlines:
    """Calls `expire` for each exchange that is still open `timeout_ns` after its start.

    All have the same timeout and come about in the order of their starts, so one timer serves them all.
    """

    def __init__(self, timeout_ns: int, expire: Callable[[Exchange], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_ns = timeout_ns
        self._expire = expire
        self._waiting: collections.deque[tuple[int, Exchange]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, start_ns: int, exchange: Exchange) -> None:
        """Watch an exchange that starts at this instant of the monotonic clock."""
        self._waiting.append((start_ns + self._timeout_ns, exchange))
        if self._timer is None:
            self._sleep()

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sleep(self) -> None:
        left_s = max(0.0, (self._waiting[0][0] - monotonic_ns()) / 1e9)
        self._timer = self._loop.call_later(left_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_ns = monotonic_ns()
        while self._waiting and (self._waiting[0][1].over or self._waiting[0][0] <= now_ns):
            _, exchange = self._waiting.popleft()
            if not exchange.over:
                self._expire(exchange)
        if self._waiting:
            self._sleep()
