"""What mitmproxy's keeping of connections lacks: enough of them for one client, and an end to each."""

from __future__ import annotations

import asyncio
import collections
import os
import socket
from typing import Final

from mitmproxy import connection
from mitmproxy.proxy import server_hooks

from capture.bare_addons import proxyserver
from capture.flow_control import PatientReader

SERVER_CONNECTIONS: Final = 1000
"""Of one client at once. mitmproxy allows 5: an HTTP/2 client's sixth stream to HTTP/1.1 would wait."""

BACKLOG: Final = 4096


class Connections:
    """Looks after the connections that `servers` handles."""

    name = "peaktape_connections"

    def __init__(self, servers: proxyserver.Proxyserver) -> None:
        self._servers = servers

    def running(self) -> None:
        """Let more clients wait to be accepted than asyncio's 100: one too many waits for a second."""
        for instance in self._servers.servers:
            for server in getattr(instance, "_servers", ()):
                for listening in getattr(server, "sockets", ()):
                    with socket.socket(fileno=os.dup(listening.fileno())) as same:
                        same.listen(BACKLOG)

    def client_connected(self, client: connection.Client) -> None:
        handler = self._servers.connections.get(client.id)
        if handler is not None:
            handler.max_conns = collections.defaultdict(lambda: asyncio.Semaphore(SERVER_CONNECTIONS))
            transport = handler.transports[client]
            transport.reader = PatientReader(transport.reader, client, client)  # type: ignore[assignment]

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        handler = self._servers.connections.get(data.client.id)
        transport = handler.transports.get(data.server) if handler is not None else None
        if transport is not None:
            reader = PatientReader(transport.reader, data.client, data.server)
            transport.reader = reader  # type: ignore[assignment]

    def client_disconnected(self, client: connection.Client) -> None:
        """Close what is left: a handler that is cancelled while it waits for its lock forgets its socket."""
        handler = self._servers.connections.get(client.id)
        for transport in list(handler.transports.values()) if handler is not None else ():
            if transport.writer is not None:
                transport.writer.close()
