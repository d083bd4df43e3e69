"""What transports over a plain TCP socket share: a kernel that stamps what comes, and writes that never wait.

asyncio's and uvloop's own read without asking for stamps (see `kernel_stamps`). Reading is not here, nor what
becomes of a connection that breaks or closes: a proxy (`stamped_streams`) and a replayer want other things.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from capture.kernel_stamps import have_stamped


class StampedTransport(asyncio.Transport, abc.ABC):
    """A connected socket on `loop`; what the kernel does not take of a write is kept until it does.

    `get_extra_info` knows `socket`, `peername` and `sockname`.
    """

    _closing = False

    def __init__(
        self, connected: socket.socket, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol
    ) -> None:
        names = {"peername": _name(connected.getpeername), "sockname": _name(connected.getsockname)}
        super().__init__({"socket": connected, **names})
        connected.setblocking(False)
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        have_stamped(connected)
        self._socket = connected
        self._loop = loop
        self._protocol = protocol
        self._receive: Callable[[int, int], tuple[bytes, list[Any], int, Any]] = connected.recvmsg
        self._waiting = bytearray()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom the connection was given to."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """How many bytes the kernel has not taken yet."""
        return len(self._waiting)

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        """Hand bytes to the kernel, now or as soon as it takes them."""
        if self._waiting:
            self._waiting += data
            return
        try:
            taken = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError as error:
            self._break(error)
            return
        if taken < len(data):
            self._waiting += memoryview(data)[taken:]
            self._loop.add_writer(self._socket, self._send_waiting)

    def _send_waiting(self) -> None:
        try:
            taken = self._socket.send(self._waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        del self._waiting[:taken]
        if not self._waiting:
            self._loop.remove_writer(self._socket)
        self._sent_some()

    def _error_of_socket(self) -> OSError | None:
        """What broke the connection, told once. To be asked after a read: uvloop tells once of a socket with
        an error, and no more, whatever is left in it."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(number, os.strerror(number)) if number else None

    @abc.abstractmethod
    def _break(self, error: OSError) -> None:
        """Nothing more can be written, and most likely nothing read."""

    @abc.abstractmethod
    def _sent_some(self) -> None:
        """The kernel took some of what waited, or all."""


def _name(ask: Callable[[], Any]) -> Any:
    """What a socket says of itself, None when it is disconnected already."""
    try:
        return ask()
    except OSError:
        return None
