"""A rehearsal of sending: the same steps on a connection of the worker's own, right before the real one.

After some ms of quiet, neither Python's code nor the kernel's for a send is in the processor's caches any
more, and the first send through it takes some 30 µs longer. The time is spun away anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final, cast

from replay.engine.flushing import write_now

_LINES: Final = b"POST / HTTP/1.1\r\n\r\n" * 20


class Rehearsal:
    """A loopback connection to itself; a call sends a request's worth of bytes over it and reads them."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._near = socket.create_connection(listener.getsockname(), timeout=1.0)
            self._far, caller = listener.accept()
        if caller != self._near.getsockname():  # somebody else was quicker
            self.close()
            raise ConnectionError("a stranger called")
        self._near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for end in (self._near, self._far):
            end.setblocking(False)
        self._descriptor = self._near.fileno()
        self._transport = cast("asyncio.Transport", _Stage())

    def __call__(self) -> None:
        """Send and read back; takes some 30 µs."""
        write_now(self._transport, self._descriptor, _LINES, _nothing)
        with contextlib.suppress(OSError):  # not there yet: the next call reads it
            self._far.recv(4096)

    def close(self) -> None:
        """Give the sockets back."""
        self._near.close()
        self._far.close()


class _Stage:
    """What `write_now` asks of a transport that has nothing to write."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return True


def _nothing() -> None:
    pass


def rehearsal() -> Rehearsal | None:
    """A rehearsal, or None where there is no loopback to have it on."""
    try:
        return Rehearsal()
    except OSError:
        return None
