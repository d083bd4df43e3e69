"""A transport over a plain TCP socket that tells when each read's bytes came, as the kernel saw it.

What such stamps are is in `capture.kernel_stamps`. asyncio's and uvloop's transports read without asking
for them, hence one of our own. Where there are none, and if a stamp is none that can be, a read is stamped
when it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from capture.kernel_stamps import ANCILLARY_BYTES, came_ns
from capture.stamped_transport import StampedTransport

READ_BYTES: Final = 64 << 10

monotonic_ns = time.monotonic_ns
wall_ns = time.time_ns


class StampedProtocol(Protocol):
    """An asyncio protocol that takes reads with their stamps."""

    def stamped(self, data: bytes, came_ns: int, now_ns: int) -> None:
        """`data` came at `came_ns` and was read at `now_ns`, both monotonic."""


class PlainTransport(StampedTransport):
    """Reads and writes a connected socket on the running loop. It has no flow control of its own: whoever
    writes asks `get_write_buffer_size`."""

    _protocol: asyncio.Protocol

    def __init__(self, connected: socket.socket, protocol: asyncio.Protocol) -> None:
        super().__init__(connected, asyncio.get_running_loop(), protocol)
        self._stamped = cast("StampedProtocol", protocol).stamped
        self._lost = False
        protocol.connection_made(self)
        if not self._closing:
            self._loop.add_reader(connected, self._read)

    def pause_reading(self) -> None:
        """Leave what comes to the kernel."""
        if not self._closing:
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        """Read again."""
        if not self._closing:
            self._loop.add_reader(self._socket, self._read)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand bytes to the kernel, now or as soon as it takes them."""
        if not self._closing and data:
            self._send(data)

    def can_write_eof(self) -> bool:
        """No: HTTP has no use for half a connection."""
        return False

    def close(self) -> None:
        """Close, when all that was written has left."""
        if self._closing:
            return
        if not self._waiting:
            self._lose(None)
            return
        self._closing = True
        self._loop.remove_reader(self._socket)

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self._receive(READ_BYTES, ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        # Right before the other clock, and not after: a stamp may be late by a hair, and never early.
        wall_now_ns = wall_ns()
        now_ns = monotonic_ns()
        if not data:
            self._end_of_file()
            return
        error_of_socket = self._error_of_socket()
        if ancillary:
            self._stamped(data, came_ns(ancillary[0][2], wall_now_ns, now_ns), now_ns)
        else:
            self._stamped(data, now_ns, now_ns)
        if error_of_socket is not None:
            self._hear_out()
            self._lose(error_of_socket)

    def _hear_out(self) -> None:
        """Read what came before the connection broke."""
        with contextlib.suppress(OSError):
            while not self._lost and (data := self._socket.recv(READ_BYTES)):
                now_ns = monotonic_ns()
                self._stamped(data, now_ns, now_ns)

    def _end_of_file(self) -> None:
        if not self._protocol.eof_received():
            self._lose(None)
        elif not self._closing:
            self._loop.remove_reader(self._socket)

    def _break(self, error: OSError) -> None:
        self._lose(error)

    def _sent_some(self) -> None:
        if self._closing and not self._waiting:
            self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._waiting.clear()
        # Not from within whoever closes it: it may be in the middle of something.
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()


async def connect[P: asyncio.Protocol](
    address: str, port: int, make: Callable[[], P]
) -> tuple[PlainTransport, P]:
    """Connect to an IP address; the transport, and the protocol that `make` made. Raises `OSError`.

    The protocol has to be a `StampedProtocol`.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    dialled = socket.socket(family, socket.SOCK_STREAM)
    try:
        dialled.setblocking(False)
        state = dialled.connect_ex((address, port))
        if state == errno.EINPROGRESS:
            # Asked again, a near server has accepted already: no need to wait for the loop's next turn, which
            # is long in coming when there is much to do.
            state = dialled.connect_ex((address, port))
        if state in (errno.EINPROGRESS, errno.EALREADY):
            await _writable(dialled)
            state = dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if state not in (0, errno.EISCONN):
            raise OSError(state, os.strerror(state))
        protocol = make()
        return PlainTransport(dialled, protocol), protocol
    except BaseException:
        dialled.close()
        raise


async def _writable(dialled: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def connected() -> None:
        if not found.done():
            found.set_result(None)

    loop.add_writer(dialled, connected)
    try:
        await found
    finally:
        loop.remove_writer(dialled)
