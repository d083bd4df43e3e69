"""What a peer said right before its connection broke: read before the socket is given up.

A server that refuses an upload answers and hangs up, without having read what still comes. Its kernel resets
the connection then, and a write fails while the answer lies in our socket, unread. Clients without a proxy
read it; an event loop closes the socket on the failed write, and it is lost.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Callable
from typing import Final

_PIECE_BYTES: Final = 1 << 16
_MOST_BYTES: Final = 16 << 20
"""More than a socket's buffer holds; so much is read at most."""


def hear_out(writer: asyncio.StreamWriter) -> None:
    """From now on, a connection that fails feeds its reader first with what had come."""
    protocol = writer.transport.get_protocol()
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        instead = functools.partial(_lost, writer.transport, protocol, protocol.connection_lost)
        protocol.connection_lost = instead  # type: ignore[method-assign]


def _lost(
    transport: asyncio.BaseTransport,
    protocol: asyncio.StreamReaderProtocol,
    lost: Callable[[Exception | None], None],
    error: Exception | None,
) -> None:
    """In place of a protocol's `connection_lost`; the socket is still open in it."""
    reader: asyncio.StreamReader | None = protocol._stream_reader  # type: ignore[attr-defined]
    if error is not None and reader is not None and not reader.at_eof():
        for piece in _unread(transport):
            reader.feed_data(piece)
    lost(error)


def _unread(transport: asyncio.BaseTransport) -> list[bytes]:
    """What lies in the socket, b"" and errors being its end."""
    pieces: list[bytes] = []
    same = transport.get_extra_info("socket")
    if same is None:
        return pieces
    try:
        with socket.socket(fileno=os.dup(same.fileno())) as own:  # asyncio's stand-in does not read
            own.setblocking(False)
            while sum(map(len, pieces)) < _MOST_BYTES and (piece := own.recv(_PIECE_BYTES)):
                pieces.append(piece)
    except OSError:
        return pieces  # the end of what can be had
    return pieces
