"""A scripted HTTP/2 server and client on the `h2` library, for what httpx and curl don't do: trailers."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
from capture_rig import eventually

type Fields = list[tuple[bytes, bytes]]


@dataclasses.dataclass
class Message:
    """A request or a response as it came in."""

    headers: Fields = dataclasses.field(default_factory=list)
    body: bytearray = dataclasses.field(default_factory=bytearray)
    trailers: Fields = dataclasses.field(default_factory=list)


class Peer(asyncio.Protocol):
    def __init__(self, *, client_side: bool) -> None:
        self.stalled = False
        self._owed: list[tuple[int, int]] = []
        config = h2.config.H2Configuration(client_side=client_side, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.messages: dict[int, Message] = {}
        self.ended: asyncio.Queue[int] = asyncio.Queue()
        self._to_send: dict[int, tuple[memoryview, Fields]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RequestReceived() | h2.events.ResponseReceived():
                    self.messages[event.stream_id] = Message(list(event.headers))
                case h2.events.DataReceived():
                    self.messages[event.stream_id].body += event.data
                    self._owed.append((event.flow_controlled_length, event.stream_id))
                case h2.events.TrailersReceived():
                    self.messages[event.stream_id].trailers = list(event.headers)
                case h2.events.StreamEnded():
                    self.ended.put_nowait(event.stream_id)
                    self.whole(event.stream_id)
        if not self.stalled:
            self.go_on()
        for stream_id in list(self._to_send):
            self._send_on(stream_id)
        self.flush()

    def go_on(self) -> None:
        """Open the windows again by what has been received."""
        self.stalled = False
        while self._owed:
            self.h2.acknowledge_received_data(*self._owed.pop())
        self.flush()

    def unsent_bytes(self) -> int:
        """What of the bodies to send the windows have not taken yet."""
        return sum(len(body) for body, _ in self._to_send.values())

    def send(self, stream_id: int, headers: Fields, body: bytes, trailers: Fields) -> None:
        self.h2.send_headers(stream_id, headers)
        self._to_send[stream_id] = memoryview(body), trailers
        self._send_on(stream_id)
        self.flush()

    def _send_on(self, stream_id: int) -> None:
        """As much as the windows take; the rest when they open."""
        body, trailers = self._to_send[stream_id]
        while body and (room := self.h2.local_flow_control_window(stream_id)):
            step = min(room, self.h2.max_outbound_frame_size, len(body))
            self.h2.send_data(stream_id, bytes(body[:step]))
            body = body[step:]
        self._to_send[stream_id] = body, trailers
        if not body:
            del self._to_send[stream_id]
            if trailers:
                self.h2.send_headers(stream_id, trailers, end_stream=True)
            else:
                self.h2.end_stream(stream_id)

    def whole(self, stream_id: int) -> None:
        """A message is all there."""


class Echo(Peer):
    """Sends each request's body back, and its trailers with "echoed-" before their names."""

    def __init__(self, received: list[Message], *, stalled: bool = False) -> None:
        super().__init__(client_side=False)
        self.stalled = stalled
        self._received = received

    def whole(self, stream_id: int) -> None:
        request = self.messages[stream_id]
        self._received.append(request)
        trailers = [(b"echoed-" + name, value) for name, value in request.trailers]
        self.send(stream_id, [(b":status", b"200")], bytes(request.body), trailers)


@asynccontextmanager
async def running_http2(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[Message]]]:
    """An echo server that speaks nothing but HTTP/2: its URL, and the requests it got."""
    received: list[Message] = []
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(received), "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}", received
    finally:
        server.close()


async def connected(address: str, tls: ssl.SSLContext | None) -> Peer:
    host, port = address.split(":")
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(
        lambda: Peer(client_side=True), host, int(port), ssl=tls, server_hostname=host if tls else None
    )
    return peer


async def first_pieces(address: str, path: str, count: int, tls: ssl.SSLContext) -> list[bytearray]:
    """Begin so many GETs on one connection, and let none of them end before each has got something."""
    peer = await connected(address, tls)
    for _ in range(count):
        pseudo = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", address.encode())]
        stream_id = peer.h2.get_next_available_stream_id()
        peer.send(stream_id, [*pseudo, (b":path", path.encode())], b"", [])
    found = peer.messages
    await eventually(lambda: len(found) == count and all(message.body for message in found.values()), 10)
    peer.transport.close()
    return [message.body for message in found.values()]


async def asked(
    address: str, requests: list[tuple[Fields, bytes, Fields]], tls: ssl.SSLContext | None = None
) -> list[Message]:
    """The answers of "host:port" to (further headers, body, trailers), all on one connection at once."""
    peer = await connected(address, tls)
    ids = []
    scheme = b"https" if tls else b"http"
    pseudo = [
        (b":method", b"POST"),
        (b":scheme", scheme),
        (b":authority", address.encode()),
        (b":path", b"/"),
    ]
    for headers, body, trailers in requests:
        ids.append(peer.h2.get_next_available_stream_id())
        peer.send(ids[-1], [*pseudo, *headers], body, trailers)
    for _ in ids:
        await asyncio.wait_for(peer.ended.get(), 20)
    peer.transport.close()
    return [peer.messages[stream_id] for stream_id in ids]
