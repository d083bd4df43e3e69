"""A proxy's TCP connections: read when asked, each read with the instant at which the kernel got its bytes.

asyncio's and uvloop's transports read without asking for stamps (see `kernel_stamps`), so what they say is
late by whatever else the event loop has to do. A `StampedStream` is a transport to asyncio, and both reader
and writer to mitmproxy. What one event makes a proxy write leaves in one piece, with `send_held`. How an
event loop comes to make them is in `event_loop`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import time
from typing import Any, Final

from capture.kernel_stamps import ANCILLARY_BYTES, came_ns
from capture.stamped_transport import StampedTransport

READ_BYTES: Final = 64 << 10
HIGH_WATER_BYTES: Final = 64 << 10
LOW_WATER_BYTES: Final = 16 << 10
"""As asyncio's: a writer waits with more than the first in hand, until it is the second."""
UNREAD_LIMIT_BYTES: Final = 16 << 20
"""More than a socket's buffer holds; so much is read at most of what came before a connection broke."""
STEP_NS: Final = 1_000_000_000
"""A stamp of longer before the socket was last empty is no stamp: the wall clock was set meanwhile."""
FIRST_STEP_NS: Final = 5 * STEP_NS
"""The same for the first read, whose bytes may have come before the connection was accepted."""

_now_ns = time.monotonic_ns
_wall_ns = time.time_ns

_held: list[StampedStream] = []
_holding = [False]


def hold_writes() -> None:
    """Until `send_held`, streams keep what is written."""
    _holding[0] = True


def send_held() -> None:
    """Hand the kernel what was written since `hold_writes`."""
    _holding[0] = False
    if _held:
        for stream in _held:
            stream.send_on()
        _held.clear()


class StampedStream(StampedTransport):
    """A connected TCP socket on `loop`. `came_ns` is the (monotonic) instant when the last read's bytes came.

    A connection that breaks while it is written to is read to its end first: a server that refuses an upload
    says so and hangs up, and its kernel resets what is still sent to it.
    """

    came_ns = 0

    def __init__(
        self, connected: socket.socket, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol
    ) -> None:
        super().__init__(connected, loop, protocol)
        self._watched = False
        self._reading: asyncio.Future[bytes] | None = None
        self._unread: collections.deque[bytes] = collections.deque()
        self._ended = False  # nothing more is read from the socket
        self._error: OSError | None = None
        self._told = False
        self._not_before_ns = _now_ns() - FIRST_STEP_NS
        self._written: list[bytes] = []
        self._drained: asyncio.Future[None] | None = None
        self._half_closing = self._closed = False

    def get_write_buffer_size(self) -> int:
        """How many bytes the kernel has not taken yet."""
        return len(self._waiting) + sum(map(len, self._written))

    async def read(self, most_bytes: int = READ_BYTES) -> bytes:
        """What came next, b"" at the end. For one caller at a time, which takes `READ_BYTES`.

        Raises `OSError` once the connection is broken and all that came before was read.
        """
        if self._unread:
            return self._unread.popleft()
        if self._ended:
            self._told = True
            if self._error is not None:
                raise self._error
            return b""
        self._reading = self._loop.create_future()
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._socket, self._readable)
        try:
            return await self._reading
        except OSError:
            self._told = True
            raise
        finally:
            self._reading = None

    def _readable(self) -> None:
        reading = self._reading
        if reading is None or reading.done():  # it is left to the kernel until somebody asks
            self._unwatch()
            return
        before_ns = _now_ns()
        try:
            data, ancillary, _, _ = self._receive(READ_BYTES, ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        if not data:
            self._told = True
            self._end_reading()
            return
        self._stamp(ancillary, before_ns)
        if len(data) < READ_BYTES:
            self._not_before_ns = before_ns - STEP_NS
        reading.set_result(data)
        error_of_socket = self._error_of_socket()
        if error_of_socket is not None:
            self._break(error_of_socket)

    def _stamp(self, ancillary: list[Any], before_ns: int) -> None:
        """Set `came_ns`: never before an earlier read's, and when it was read if the kernel's can't be."""
        at_ns = came_ns(ancillary[0][2], _wall_ns(), _now_ns()) if ancillary else before_ns
        if at_ns < self._not_before_ns:
            at_ns = before_ns
        if at_ns > self.came_ns:
            self.came_ns = at_ns

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._socket)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand bytes to the kernel: now, with what else is held, or as soon as it takes them."""
        if self._closing or self._error is not None or not data:
            return
        if not self._written and _holding[0]:
            _held.append(self)
        self._written.append(data if isinstance(data, bytes) else bytes(data))
        if not _holding[0]:
            self.send_on()

    def send_on(self) -> None:
        """Hand the kernel what was written, as far as it takes it."""
        pieces = self._written
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._send(data)

    def _sent_some(self) -> None:
        if len(self._waiting) <= LOW_WATER_BYTES:
            self._wake_drain()
        if self._waiting:
            return
        if self._closing:
            self._close()
        elif self._half_closing:
            with contextlib.suppress(OSError):  # a socket that is dead already: reading tells
                self._socket.shutdown(socket.SHUT_WR)

    @property
    def wants_drain(self) -> bool:
        """Whether `drain` would wait or raise."""
        return len(self._waiting) > HIGH_WATER_BYTES or (self._told and self._error is not None)

    async def drain(self) -> None:
        """Wait while much is written that the kernel hasn't taken.

        Raises `OSError` if the connection is broken and whoever reads knows.
        """
        if self._told and self._error is not None:
            raise self._error
        if len(self._waiting) > HIGH_WATER_BYTES:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def _wake_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more will be written. Raises `OSError` when the socket is dead."""
        self.send_on()
        if self._closing or self._error is not None:
            return
        self._half_closing = True
        if not self._waiting:
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close, when all that was written has left; nothing more is read."""
        if self._closing:
            return
        self.send_on()
        self._closing = True
        self._end_reading()
        if not self._waiting:
            self._close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._written.clear()
        self._end_reading()
        self._close()

    def _end_reading(self) -> None:
        self._unwatch()
        self._ended = True
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(b"")

    def _break(self, error: OSError) -> None:
        """The connection is no more: whoever reads gets what came before, then the error."""
        if self._closing:
            self._close()
            return
        self._error = error
        self._written.clear()
        self._waiting.clear()
        self._loop.remove_writer(self._socket)
        self._unwatch()
        if not self._ended:
            self._ended = True
            self._hear_out()
            if self._reading is not None and not self._reading.done():
                if self._unread:
                    self._reading.set_result(self._unread.popleft())
                else:
                    self._reading.set_exception(error)
        self._wake_drain()

    def _hear_out(self) -> None:
        """Read what lies in the socket still."""
        heard_bytes = 0
        with contextlib.suppress(OSError):  # the end of what can be had
            while heard_bytes < UNREAD_LIMIT_BYTES and (piece := self._socket.recv(READ_BYTES)):
                heard_bytes += len(piece)
                self._unread.append(piece)
        if heard_bytes:
            self._stamp([], _now_ns())

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._unwatch()
        self._loop.remove_writer(self._socket)
        self._waiting.clear()
        self._wake_drain()
        self._socket.close()
        self._loop.call_soon(self._protocol.connection_lost, self._error)


def stream_of(writer: Any) -> StampedStream | None:
    """The stream that an asyncio writer writes to; None for one of another kind."""
    transport = writer.transport if isinstance(writer, asyncio.StreamWriter) else None
    return transport if isinstance(transport, StampedStream) else None
