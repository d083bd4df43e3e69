"""A gRPC service of bytes, all four kinds of call, with a client that notes what it got: grpcio's own."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio
from capture_rig import tls_server

GAP_S = 0.05
SERVICE = "inference.Models"


async def unary(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-tokens", "7"),))
    return request[::-1]


async def server_stream(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    for word in request.split():
        yield word
        await asyncio.sleep(GAP_S)


async def client_stream(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
    return b"|".join([request async for request in requests])


async def talk(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"heard " + request


async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full, größer")
    raise AssertionError


async def break_off(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    yield b"a first answer"
    await context.abort(grpc.StatusCode.INTERNAL, "out of memory")


async def stop_listening(
    requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
) -> AsyncIterator[bytes]:
    yield b"heard " + await anext(requests)


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "BreakOff": grpc.unary_stream_rpc_method_handler(break_off),
    "StopListening": grpc.stream_stream_rpc_method_handler(stop_listening),
}


@asynccontextmanager
async def running_grpc(tls_folder: Path | None = None) -> AsyncIterator[str]:
    """The service on loopback; its URL. With a folder it speaks TLS, as `tls_server` signs it."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    if tls_folder is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        tls_server(tls_folder)
        pair = (tls_folder / "server.key").read_bytes(), (tls_folder / "server.pem").read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield f"{'http' if tls_folder is None else 'https'}://127.0.0.1:{port}"
    finally:
        await server.stop(0.1)


@dataclasses.dataclass
class Call:
    """What a client got: messages, status, its message, the trailing metadata."""

    messages: list[bytes]
    status: str = "OK"
    details: str = ""
    trailers: list[tuple[str, str | bytes]] = dataclasses.field(default_factory=list)


async def every_kind_of_call(address: str, authority: Path | None = None) -> dict[str, Call]:
    """One call of each kind at "host:port", with TLS where the certificate of an authority is given."""
    async with channel_to(address, authority) as channel:
        return {
            "Unary": await _unary(channel, "Unary", bytes(range(256)) * 300),
            "ServerStream": await _streamed(channel, "ServerStream", b"one two three four"),
            "ClientStream": await _client_stream(channel),
            "Talk": await _talk(channel, "Talk", 3),
            "Refuse": await _unary(channel, "Refuse", b"please"),
            "BreakOff": await _streamed(channel, "BreakOff", b"please"),
            "StopListening": await _talk(channel, "StopListening", 1),
            "Unknown": await _unary(channel, "Unknown", b"please"),
        }


def channel_to(address: str, authority: Path | None) -> grpc.aio.Channel:
    if authority is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority.read_bytes()))


async def _unary(channel: grpc.aio.Channel, method: str, request: bytes) -> Call:
    call = channel.unary_unary(f"/{SERVICE}/{method}")(request, timeout=10)
    messages = []
    with suppress(grpc.aio.AioRpcError):
        messages = [await call]
    return await _noted(call, messages)


async def _streamed(channel: grpc.aio.Channel, method: str, request: bytes) -> Call:
    call = channel.unary_stream(f"/{SERVICE}/{method}")(request, timeout=10)
    messages = []
    with suppress(grpc.aio.AioRpcError):
        async for message in call:
            messages.append(message)  # noqa: PERF401 - what came before an error counts
    return await _noted(call, messages)


async def _client_stream(channel: grpc.aio.Channel) -> Call:
    async def requests() -> AsyncIterator[bytes]:
        for word in (b"one", b"", b"three"):
            yield word
            await asyncio.sleep(GAP_S)

    call = channel.stream_unary(f"/{SERVICE}/ClientStream")(requests(), timeout=10)
    return await _noted(call, [await call])


async def _talk(channel: grpc.aio.Channel, method: str, turns: int) -> Call:
    """Each request waits for the answer to the one before: a proxy that holds one back stands still."""
    call = channel.stream_stream(f"/{SERVICE}/{method}")(timeout=10)
    messages = []
    for turn in range(turns):
        await call.write(f"turn {turn}".encode())
        messages.append(await call.read())
    if method == "Talk":
        await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    return await _noted(call, messages)


async def _noted(call: grpc.aio.Call, messages: list[bytes]) -> Call:
    trailers = [(name, value) for name, value in await call.trailing_metadata() or ()]
    return Call(messages, (await call.code()).name, await call.details(), trailers)
