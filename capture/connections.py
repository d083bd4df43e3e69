"""What mitmproxy's keeping of connections lacks: enough of them for one client, an end to each, and a word
when a server can't be reached."""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import socket
from typing import Final

from mitmproxy import connection, tls
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.server import ConnectionIO

from capture.bare_addons import proxyserver
from capture.flow_control import PatientReader
from capture.stamped_streams import stream_of

SERVER_CONNECTIONS: Final = 1000
"""Of one client at once. mitmproxy allows 5: an HTTP/2 client's sixth stream to HTTP/1.1 would wait."""

BACKLOG: Final = 4096

_SERVERS: Final = 100
"""So many servers that can't be reached are told of; a regular proxy sees any number."""

logger = logging.getLogger(__name__)


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
            _have_read_by_stream(handler.transports[client], client, client)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        handler = self._servers.connections.get(data.client.id)
        transport = handler.transports.get(data.server) if handler is not None else None
        if transport is not None:
            _have_read_by_stream(transport, data.client, data.server)

    def client_disconnected(self, client: connection.Client) -> None:
        """Close what is left: a handler that is cancelled while it waits for its lock forgets its socket."""
        handler = self._servers.connections.get(client.id)
        for transport in list(handler.transports.values()) if handler is not None else ():
            if transport.writer is not None:
                transport.writer.close()


class Reachability:
    """Says once that a server can't be reached, since its clients get 502, and once that it can again."""

    name = "peaktape_reachability"

    def __init__(self) -> None:
        self._away: set[str] = set()

    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._fails(data.server)

    def tls_failed_server(self, data: tls.TlsData) -> None:
        self._fails(data.conn)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        if self._away and not data.server.tls:
            self._answers(data.server)

    def tls_established_server(self, data: tls.TlsData) -> None:
        if self._away:
            self._answers(data.conn)

    def _fails(self, server: connection.Connection) -> None:
        place = _place_of(server)
        if place not in self._away and len(self._away) < _SERVERS:
            self._away.add(place)
            reason = (server.error or "no reason given").rpartition("] ")[2]
            logger.warning("peaktape: %s can't be reached, clients get 502 until it can: %s", place, reason)

    def _answers(self, server: connection.Connection) -> None:
        place = _place_of(server)
        if place in self._away:
            self._away.discard(place)
            logger.warning("peaktape: %s can be reached again", place)


def _have_read_by_stream(
    transport: ConnectionIO, client: connection.Client, own: connection.Connection
) -> None:
    """Let a connection be read from, and written to, without asyncio's streams between."""
    stream = stream_of(transport.writer)
    if stream is not None:
        transport.writer = stream  # type: ignore[assignment]
        transport.reader = PatientReader(stream, client, own)  # type: ignore[assignment]


def _place_of(server: connection.Connection) -> str:
    address = server.address if isinstance(server, connection.Server) else None
    return "{}:{}".format(*address[:2]) if address else "a server"
