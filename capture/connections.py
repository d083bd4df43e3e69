"""What mitmproxy's keeping of connections lacks: enough of them for one client, and an end to each."""

from __future__ import annotations

import asyncio
import collections
from typing import Final

from mitmproxy import connection
from mitmproxy.addons import proxyserver

SERVER_CONNECTIONS: Final = 1000
"""Of one client at once. mitmproxy allows 5: an HTTP/2 client's sixth stream to HTTP/1.1 would wait."""


class Connections:
    """Looks after the connections that `servers` handles."""

    name = "peaktape_connections"

    def __init__(self, servers: proxyserver.Proxyserver) -> None:
        self._servers = servers

    def client_connected(self, client: connection.Client) -> None:
        handler = self._servers.connections.get(client.id)
        if handler is not None:
            handler.max_conns = collections.defaultdict(lambda: asyncio.Semaphore(SERVER_CONNECTIONS))

    def client_disconnected(self, client: connection.Client) -> None:
        """Close what is left: a handler that is cancelled while it waits for its lock forgets its socket."""
        handler = self._servers.connections.get(client.id)
        for transport in list(handler.transports.values()) if handler is not None else ():
            if transport.writer is not None:
                transport.writer.close()
