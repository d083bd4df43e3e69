"""The event loop of a proxy: uvloop's, with TCP connections that tell when their bytes came.

What asyncio's servers accept and what it connects to become `StampedStream`s: the former before anything was
read. There is nothing else on this loop that listens or connects.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import aiohappyeyeballs

from capture.failures import BadInput
from capture.kernel_stamps import have_stamped
from capture.stamped_streams import StampedStream


class _Accepted(asyncio.Protocol):
    """Takes a connection from the loop that accepted it, before it is read, and gives it to another."""

    def __init__(self, make: Callable[[], asyncio.BaseProtocol], loop: asyncio.AbstractEventLoop) -> None:
        self._make = make
        self._loop = loop

    def connection_made(self, transport: Any) -> None:
        accepted = transport.get_extra_info("socket")
        try:
            own = socket.socket(accepted.family, socket.SOCK_STREAM, fileno=os.dup(accepted.fileno()))
        except OSError:  # no descriptor is free: as if it had not been accepted
            return
        finally:
            transport.abort()  # closes its descriptor; the connection is ours
        protocol = self._make()
        protocol.connection_made(StampedStream(own, self._loop, protocol))


class _StampingLoop:
    """Mixed into an event loop: its TCP connections are `StampedStream`s."""

    async def create_server(self: Any, protocol_factory: Any, *given: Any, **named: Any) -> Any:
        """As asyncio's, for TCP without TLS."""
        create_server = super().create_server  # type: ignore[misc]
        server = await create_server(lambda: _Accepted(protocol_factory, self), *given, **named)
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                have_stamped(same)  # what comes before a connection is accepted, too
        return server

    async def sock_connect(self: Any, dialled: socket.socket, address: Any) -> None:
        """As asyncio's; a near server has accepted at once, and it takes no turn of the loop to see it."""
        state = dialled.connect_ex(address)
        if state == errno.EINPROGRESS:
            state = dialled.connect_ex(address)
        if state in (0, errno.EISCONN):
            return
        if state not in (errno.EINPROGRESS, errno.EALREADY):
            raise OSError(state, os.strerror(state))
        try:
            await super().sock_connect(dialled, address)  # type: ignore[misc]
        except OSError as error:
            if error.errno != errno.EISCONN:
                raise

    async def create_connection(
        self: Any, protocol_factory: Any, host: Any = None, port: Any = None, *, local_addr: Any = None
    ) -> Any:
        """As asyncio's, for TCP without TLS: addresses are tried one after the other. Raises `OSError`."""
        await asyncio.sleep(0)  # who asks may not have finished with having asked: tasks start at once here
        found = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        own = await self.getaddrinfo(*local_addr[:2], type=socket.SOCK_STREAM) if local_addr else None
        try:
            connected = await aiohappyeyeballs.start_connection(found, local_addr_infos=own, loop=self)
        except OSError as error:
            if error.errno:  # clients get the words
                raise OSError(error.errno, os.strerror(error.errno)) from error
            raise
        protocol = protocol_factory()
        stream = StampedStream(connected, self, protocol)
        protocol.connection_made(stream)
        return stream, protocol


def shared_port_loop() -> asyncio.AbstractEventLoop:
    """The same, with servers on ports that others may listen on, too. Raises `BadInput` without uvloop."""
    return new_loop(shared_port=True)


def new_loop(*, shared_port: bool = False) -> asyncio.AbstractEventLoop:
    """A loop for a proxy: uvloop's where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        if shared_port:
            raise BadInput("--processes: needs uvloop, which is not installed; leave it out") from None

        class Plain(_StampingLoop, asyncio.SelectorEventLoop):  # type: ignore[misc]
            """asyncio's own."""

        return Plain()

    class Loop(_StampingLoop, uvloop.Loop):  # type: ignore[misc]
        """uvloop passes `eager_start` to task factories, which mitmproxy's factory doesn't take."""

        def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
            if factory is None:
                super().set_task_factory(None)
                return

            def make(loop: asyncio.AbstractEventLoop, coro: Any, **facts: Any) -> Any:
                facts.pop("eager_start", None)
                return factory(loop, coro, **facts)

            super().set_task_factory(make)

        async def create_server(self, *given: Any, **named: Any) -> Any:
            return await super().create_server(*given, **{**named, "reuse_port": shared_port or None})

    loop: asyncio.AbstractEventLoop = Loop()
    return loop
