"""Keeps a fast sender from filling the memory on behalf of a slow HTTP/2 receiver.

mitmproxy lets an HTTP/2 peer send two gigabytes ahead, and holds whatever the other side's windows don't
take. Here an HTTP/2 sender's windows open only as its bytes leave, stream by stream, and an HTTP/1 sender is
not read from while they can't. HTTP/2 connections are always read: their windows come in with the data.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Final

from h2.config import H2Configuration
from mitmproxy.connection import Client, Connection
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers.http import _http1, _http2
from mitmproxy.proxy.layers.http._base import HttpConnection
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from capture.stamped_streams import StampedStream

STREAM_WINDOW_BYTES: Final = 4 << 20
WAITING_LIMIT_BYTES: Final = 1 << 20
"""So much of a stream may wait for its receiver's windows before its sender is held back."""
CHECK_S: Final = 0.005

type Commands = layer.CommandGenerator[None]

_layers: weakref.WeakKeyDictionary[Client, weakref.WeakSet[HttpConnection]] = weakref.WeakKeyDictionary()
_with_http2: weakref.WeakSet[Client] = weakref.WeakSet()
"""Clients with an HTTP/2 connection on either side; of others nobody waits for windows."""


def register(connection_layer: HttpConnection) -> None:
    """Let a layer be known as one of its client's."""
    if isinstance(connection_layer, _http2.Http2Connection):
        _with_http2.add(connection_layer.context.client)
    _layers.setdefault(connection_layer.context.client, weakref.WeakSet()).add(connection_layer)


def is_held_back(sender: HttpConnection, stream_id: int) -> bool:
    """Whether too much of what `sender` sent on a stream (by the number of its `HttpStream`) still waits."""
    for other in _layers.get(sender.context.client, ()):
        if other is sender or not isinstance(other, _http2.Http2Connection):
            continue
        theirs = other.our_stream_id.get(stream_id) if isinstance(other, _http2.Http2Client) else stream_id
        waiting = other.h2_conn.stream_buffers.get(theirs) if theirs is not None else None
        if waiting and sum(len(piece.data) for piece in waiting) > WAITING_LIMIT_BYTES:
            return True
    return False


class PatientReader:
    """Stands before the reader of a connection: waits while what came over HTTP/1 last can't go on."""

    def __init__(self, reader: StampedStream, client: Client, connection: Connection) -> None:
        self._reader, self._client, self._connection = reader, client, connection

    async def read(self, most_bytes: int) -> bytes:
        while self._is_held_back():  # noqa: ASYNC110 - nothing tells when windows open
            await asyncio.sleep(CHECK_S)
        return await self._reader.read(most_bytes)

    @property
    def came_ns(self) -> int:
        """When what was read last came."""
        return self._reader.came_ns

    def _is_held_back(self) -> bool:
        return self._client in _with_http2 and any(
            isinstance(one, _http1.Http1Connection)
            and one.conn is self._connection
            and one.stream_id is not None
            and is_held_back(one, one.stream_id)
            for one in _layers.get(self._client, ())
        )


class _H2Connection(BufferedH2Connection):
    """Acknowledges of a stream only what may be held; the rest is owed."""

    def __init__(self, config: H2Configuration, may_take: Callable[[int], bool]) -> None:
        super().__init__(config)
        self._may_take = may_take
        self.owed_bytes: dict[int, int] = {}
        self.local_settings.initial_window_size = STREAM_WINDOW_BYTES
        self.local_settings.acknowledge()

    def acknowledge_received_data(self, acknowledged_size: int, stream_id: int) -> None:
        if stream_id in self.owed_bytes or not self._may_take(stream_id):
            self.owed_bytes[stream_id] = self.owed_bytes.get(stream_id, 0) + acknowledged_size
        else:
            super().acknowledge_received_data(acknowledged_size, stream_id)

    def pay(self) -> None:
        """Acknowledge what is owed and may be taken by now."""
        for stream_id in [one for one in self.owed_bytes if self._may_take(one)]:
            super().acknowledge_received_data(self.owed_bytes.pop(stream_id), stream_id)


class _Http2Connection(_http2.Http2Connection):
    """What both directions share."""

    h2_conn: _H2Connection
    _alarm: commands.RequestWakeup | None = None

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx)  # type: ignore[call-arg]
        enable_push = self.h2_conn.local_settings.enable_push
        self.h2_conn = _H2Connection(self.h2_conf, lambda number: not is_held_back(self, self._outer(number)))
        if self.h2_conf.client_side:
            self.h2_conn.local_settings.enable_push = enable_push
            self.h2_conn.local_settings.acknowledge()
        register(self)

    def _outer(self, stream_id: int) -> int:
        """The number that HTTP streams have, of a stream of this connection."""
        return stream_id

    def _handle_event(self, event: events.Event) -> Commands:
        if self._alarm is not None and isinstance(event, events.Wakeup) and event.command is self._alarm:
            self._alarm = None
            self.h2_conn.pay()
            if data := self.h2_conn.data_to_send():
                yield commands.SendData(self.conn, data)
        else:
            yield from super()._handle_event(event)
        if self.h2_conn.owed_bytes and self._alarm is None:
            self._alarm = commands.RequestWakeup(CHECK_S)
            yield self._alarm


class Http2Server(_Http2Connection, _http2.Http2Server):
    """A client's connection."""


class Http2Client(_Http2Connection, _http2.Http2Client):
    """A connection to a server."""

    def _outer(self, stream_id: int) -> int:
        return self.their_stream_id.get(stream_id, 0)
