"""Connections between two requests: who may have which, and when one is too old. Nothing is opened here."""

from __future__ import annotations

from typing import Final, Protocol

from replay.engine.sender import KEEP_ALIVE_S

KEEP_ALIVE_NS: Final = round(KEEP_ALIVE_S * 1e9)
"""A connection that was idle for longer is not used again."""


class Idle(Protocol):
    """What is known of an idle connection."""

    idle_since_ns: int

    @property
    def closed(self) -> bool:
        """Whether it can't be used again."""

    def give_up(self) -> None:
        """Close it."""


class IdleConnections[C: Idle]:
    """Idle connections by client. `None` is the client of all requests that share one pool.

    The one that was used last is taken first, so that few stay in use and the others grow old.
    """

    def __init__(self) -> None:
        self._by_client: dict[str | None, list[C]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_client.values()))

    def put(self, client: str | None, connection: C, now_ns: int) -> None:
        """Keep a connection for its client's next request."""
        connection.idle_since_ns = now_ns
        self._by_client.setdefault(client, []).append(connection)

    def take(self, client: str | None, now_ns: int) -> C | None:
        """A connection that can be used, or None; what is closed or too old goes."""
        waiting = self._by_client.get(client, [])
        found: C | None = None
        while waiting and found is None:
            last = waiting.pop()
            if last.closed:
                continue
            if now_ns - last.idle_since_ns > KEEP_ALIVE_NS:
                last.give_up()
                continue
            found = last
        if not waiting:
            self._by_client.pop(client, None)
        return found

    def sweep(self, now_ns: int) -> None:
        """Close what is too old, and forget what is closed."""
        for client, waiting in list(self._by_client.items()):
            kept = []
            for connection in waiting:
                if not connection.closed and now_ns - connection.idle_since_ns > KEEP_ALIVE_NS:
                    connection.give_up()
                if not connection.closed:
                    kept.append(connection)
            if kept:
                self._by_client[client] = kept
            else:
                del self._by_client[client]

    def close(self) -> None:
        """Close all."""
        for waiting in self._by_client.values():
            for connection in waiting:
                connection.give_up()
        self._by_client.clear()
