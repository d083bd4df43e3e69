"""Timeouts of many exchanges by one timer. What happens to one that is late is its sender's to decide."""

from __future__ import annotations

import asyncio
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
        # In the order they were added; those that are over go at once, or a long timeout would keep them all.
        self._waiting: dict[Exchange, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, start_ns: int, exchange: Exchange) -> None:
        """Watch an exchange that starts at this instant of the monotonic clock."""
        self._waiting[exchange] = start_ns + self._timeout_ns
        if self._timer is None:
            self._sleep(start_ns + self._timeout_ns)

    def discard(self, exchange: Exchange) -> None:
        """Watch it no more, if it was watched."""
        self._waiting.pop(exchange, None)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sleep(self, until_ns: int) -> None:
        left_s = max(0.0, (until_ns - monotonic_ns()) / 1e9)
        self._timer = self._loop.call_later(left_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_ns = monotonic_ns()
        late = []
        for exchange, deadline_ns in self._waiting.items():
            if deadline_ns > now_ns:
                self._sleep(deadline_ns)
                break
            late.append(exchange)
        for exchange in late:
            self.discard(exchange)
            self._expire(exchange)
