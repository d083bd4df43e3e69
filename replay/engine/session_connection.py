"""Connections of the session sender: aiohttp's, dialled at vetted addresses only, with reads stamped.

aiohttp has no public way to choose the protocol class, nor TLS on Unix sockets: so this reaches into it.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from typing import Any

import aiohappyeyeballs
import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_proto import ResponseHandler

from replay.engine.connecting import Connecting
from replay.engine.exchange import HUNG_UP, Exchange
from replay.engine.pacer import Pacer
from replay.engine.plain_transport import PlainTransport, connect
from replay.engine.sender import KEEP_ALIVE_S

monotonic_ns = time.monotonic_ns


def connector_of(connecting: Connecting, pacer: Pacer) -> aiohttp.BaseConnector:
    """The session's connector; raises `BadInput` for unusable TLS files."""
    connector: aiohttp.BaseConnector
    if connecting.unix_socket is not None:
        connector = _UnixConnector(connecting)
    else:
        # A proxy's connection may come to speak TLS, which only the loop's own transports do.
        kind = _StampedConnector if connecting.proxy is None else aiohttp.TCPConnector
        connector = kind(
            limit=0,
            keepalive_timeout=KEEP_ALIVE_S,
            resolver=_Vetted(connecting.dialled_addresses),
            ssl=connecting.tls() or True,
        )
    factory: Any = functools.partial(StampedHandler, pacer, asyncio.get_running_loop())
    connector._factory = factory
    return connector


class _StampedConnector(aiohttp.TCPConnector):
    """aiohttp's, but for the transport of a plain connection: ours, whose reads the kernel stamps."""

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[Any], req: Any, **named: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        if named.get("ssl") is not None:
            return await super()._wrap_create_connection(*args, addr_infos=addr_infos, req=req, **named)
        error_of: Any = named.get("client_error", aiohttp.ClientConnectorError)
        factory: Any = self._factory
        try:
            async with asyncio.timeout(named["timeout"].sock_connect):
                if len(addr_infos) == 1:
                    address, port = addr_infos[0][4][:2]
                    return await connect(address, port, factory)
                connected = await aiohappyeyeballs.start_connection(
                    addr_infos=addr_infos,
                    happy_eyeballs_delay=self._happy_eyeballs_delay,
                    interleave=self._interleave,
                    loop=self._loop,
                )
            protocol: StampedHandler = factory()
            return PlainTransport(connected, protocol), protocol
        except OSError as error:
            if error.errno is None and isinstance(error, TimeoutError):
                raise
            raise error_of(req.connection_key, error) from error


class _Vetted(AbstractResolver):
    """Gives the addresses that the target guard has seen, whatever name is asked for: no DNS after it."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if not self._addresses:
            raise OSError(f"{host}: no vetted address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _UnixConnector(aiohttp.UnixConnector):
    """aiohttp's speaks plain HTTP only, and so would send an https target's requests in the clear."""

    def __init__(self, connecting: Connecting) -> None:
        super().__init__(connecting.unix_socket or "", limit=0, keepalive_timeout=KEEP_ALIVE_S)
        self._context = connecting.tls()
        self._name = connecting.target.tls_name if self._context is not None else None

    async def _create_connection(self, req: Any, *_: Any) -> ResponseHandler:
        factory: Any = self._factory
        try:
            made = await self._loop.create_unix_connection(
                factory, self.path, ssl=self._context, server_hostname=self._name
            )
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except OSError as error:
            raise UnixClientConnectorError(self.path, req.connection_key, error) from error
        protocol: StampedHandler = made[1]
        return protocol


class StampedHandler(ResponseHandler):
    """aiohttp's client protocol, noting when each read came and how much body it brought."""

    exchange: Exchange | None = None
    uses = 0
    uploading = False

    def __init__(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._pacer = pacer

    def uploaded(self) -> None:
        """The transport has the whole request."""
        self.uploading = False

    @property
    def should_close(self) -> bool:
        """Whether the connection may carry no other request; so too if one's upload was answered early.

        aiohttp thinks that it wrote all of it when it was staged.
        """
        transport = self.transport
        unsent = self.uploading or (transport is not None and transport.get_write_buffer_size() > 0)
        return unsent or super().should_close

    def data_received(self, data: bytes) -> None:
        """Stamp a read and have aiohttp parse it."""
        now_ns = monotonic_ns()
        self.stamped(data, now_ns, now_ns)

    def stamped(self, data: bytes, came_ns: int, now_ns: int) -> None:
        """The same for a read, made now, of what came then."""
        exchange = self.exchange
        # aiohttp also calls this with nothing, to go on with what it holds: no read, no stamp. And before
        # the first request, it is a proxy that answers.
        if not data or exchange is None:
            super().data_received(data)
            return
        if exchange.sent_ns is None or exchange.over:
            # A server that speaks out of turn is about to close: an answer can't be told from this.
            self.abort_transport()
            return
        came_ns = exchange.note_read(came_ns, len(data))
        self._pacer.catch_up(now_ns)  # many answers may have come at once, this one is stamped
        reader = self._payload
        before = reader.total_bytes if reader is not None else 0
        super().data_received(data)
        after_reader = self._payload
        if after_reader is not reader:
            before = 0
        body_bytes = (after_reader.total_bytes if after_reader is not None else 0) - before
        if body_bytes > 0:
            exchange.read_ns.append(came_ns)
            exchange.read_bytes.append(body_bytes)
        read_to = after_reader or reader
        whole = read_to is not None and read_to.is_eof()
        if exchange.hangs_up_now() and not whole and exchange.error is None and self.transport is not None:
            exchange.fail(*HUNG_UP)
            self.transport.abort()

    def abort_transport(self) -> None:
        """Break the connection; whoever waits on it is told that it was lost."""
        if self.transport is not None:
            self.transport.abort()
