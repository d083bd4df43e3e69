"""WebSockets through `peaktape capture`: real clients and servers, and byte scripts where frames are odd."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from capture_rig import eventually, rows_of, running_capture, sha256, tls_server

pytestmark = pytest.mark.slow

GAP_S = 0.05


async def realtime(socket: websockets.ServerConnection) -> None:
    """A model that talks as OpenAI's Realtime API does; what is binary comes back as it is."""
    await socket.send(json.dumps({"type": "session.created", "session": {"model": "gpt-realtime-1"}}))
    async for message in socket:
        if isinstance(message, bytes):
            await socket.send(message)
            continue
        if message == "please break":
            socket.transport.abort()
            return
        for word in ("One ", "two ", "three"):
            await asyncio.sleep(GAP_S)
            await socket.send(json.dumps({"type": "response.output_text.delta", "delta": word}))
        usage = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}
        await socket.send(json.dumps({"type": "response.done", "response": {"usage": usage}}))


@asynccontextmanager
async def running_model(
    tls: ssl.SSLContext | None = None, compression: str | None = None
) -> AsyncIterator[str]:
    async with websockets.serve(realtime, "127.0.0.1", 0, ssl=tls, compression=compression) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


def messages(row: dict[str, Any]) -> list[tuple[bool, bool, bytes]]:
    """(from the client, text, payload) of each message of a row, cut out of its two bodies."""
    bodies = {True: row["request_body"], False: row["response_body"]}
    found = []
    for size, from_client, text in zip(
        row["message_bytes"], row["message_from_client"], row["message_text"], strict=True
    ):
        found.append((from_client, text, bodies[from_client][:size]))
        bodies[from_client] = bodies[from_client][size:]
    assert list(bodies.values()) == [b"", b""]
    return found


async def converse(url: str, **options: Any) -> list[tuple[bool, bool, bytes]]:
    """Talk with the model; what passed, in order, as the client saw it."""
    said: list[tuple[bool, bool, bytes]] = []

    def note(message: str | bytes, *, from_client: bool) -> None:
        data = message.encode() if isinstance(message, str) else message
        said.append((from_client, isinstance(message, str), data))

    async with websockets.connect(f"ws{url[4:]}/v1/realtime?model=gpt-realtime", **options) as socket:
        note(await socket.recv(), from_client=False)
        for question, answers in (("größer?", 4), (os.urandom(200_000), 1), (b"", 1), ("again", 4)):
            await socket.send(question)
            note(question, from_client=True)
            for _ in range(answers):
                note(await socket.recv(), from_client=False)
    return said


@pytest.mark.parametrize(("compression", "tls"), [(None, True), ("deflate", False)], ids=["TLS", "deflate"])
async def test_messages_pass_unchanged_and_are_kept_with_direction_and_instant(
    tmp_path: Path, compression: str | None, tls: bool
) -> None:
    (tmp_path / "ca").mkdir()
    certificate = tls_server(tmp_path / "ca") if tls else None
    trust = ["--upstream-ca", str(tmp_path / "ca/mitmproxy-ca-cert.pem")] if tls else []
    async with (
        running_model(certificate, compression) as url,
        running_capture(tmp_path / "prod.parquet", "--upstream", url, *trust) as proxy,
    ):
        options: dict[str, Any] = {"compression": compression}
        if tls:
            ours = tmp_path / "config/peaktape/mitmproxy/mitmproxy-ca-cert.pem"
            options["ssl"] = ssl.create_default_context(cafile=ours)
        said = await converse(f"http{'s' if tls else ''}{proxy.url[4:]}", **options)
        assert await proxy.stop() == 0
        assert not [line for line in proxy.said if "crash" in line or "Traceback" in line], proxy.said
    (row,) = rows_of(tmp_path / "prod.parquet")
    kept = messages(row)
    assert [(c, t, sha256(d)) for c, t, d in kept] == [(c, t, sha256(d)) for c, t, d in said]
    assert (row["outcome"], row["error"], row["status"]) == ("complete", None, 101)
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("gpt-realtime", 22, 6)
    assert row["stream"]
    stamps = row["message_ns"]
    assert stamps == sorted(stamps)
    assert stamps[4] - stamps[1] > 0.5 * 3 * GAP_S * 1e9, "each delta has its own instant"
    assert row["end_ns"] >= stamps[-1]


async def test_a_server_and_a_client_that_vanish_are_told_apart(tmp_path: Path) -> None:
    async with running_model() as url, running_capture(tmp_path / "prod.parquet", "--upstream", url) as proxy:
        async with websockets.connect(f"ws{proxy.url[4:]}/1") as socket:
            await socket.send("please break")
            await socket.recv()
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
        socket = await websockets.connect(f"ws{proxy.url[4:]}/2")
        await socket.recv()
        socket.transport.abort()
        await asyncio.sleep(0.3)
        still_on = await websockets.connect(f"ws{proxy.url[4:]}/3")
        await still_on.recv()
        assert await proxy.stop() == 0
    rows = rows_of(tmp_path / "prod.parquet")
    assert [row["outcome"] for row in rows] == ["server_error", "client_aborted", "in_flight"]
    assert [row["error"] for row in rows[:2]] == ["closed without a close frame"] * 2
    assert [len(row["message_ns"]) for row in rows] == [2, 1, 1]


async def test_an_abnormal_close_is_the_error(tmp_path: Path) -> None:
    async with running_model() as url, running_capture(tmp_path / "prod.parquet", "--upstream", url) as proxy:
        async with websockets.connect(f"ws{proxy.url[4:]}/") as socket:
            await socket.close(1011, "out of memory")
        assert await proxy.stop() == 0
    (row,) = rows_of(tmp_path / "prod.parquet")
    assert (row["outcome"], row["error"]) == ("complete", "websocket closed with 1011: out of memory")


@pytest.mark.parametrize("protocol", ["websocket", "tape/1"])
async def test_bytes_after_an_upgrade_are_the_same_whatever_they_are(tmp_path: Path, protocol: str) -> None:
    """Frames that no library would send, and a protocol that nobody knows, pass as they are."""
    spoken = [os.urandom(5000), b"\x81\x05hello", b"\xff" * 300]
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n" % name)
        for data in spoken:
            heard.append(await reader.readexactly(len(data)))
            writer.write(data[::-1])
        await writer.drain()
        writer.close()

    name = protocol.encode()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with running_capture(tmp_path / "prod.parquet", "--upstream", address) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.url[7:].split(":"))
        key = base64.b64encode(os.urandom(16))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: %s\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % (name, key)
        )
        await reader.readuntil(b"\r\n\r\n")
        for data in spoken:
            writer.write(data)
            assert await reader.readexactly(len(data)) == data[::-1]
        assert await reader.read() == b""
        writer.close()
        await eventually(lambda: heard == spoken)
        assert await proxy.stop() == 0
        assert not [line for line in proxy.said if "crash" in line or "Traceback" in line], proxy.said
    server.close()
    (row,) = rows_of(tmp_path / "prod.parquet")
    assert row["status"] == 101
    assert row["response_bytes"] == row["request_bytes"] == sum(map(len, spoken))
    if protocol == "websocket":
        assert row["error"], "what is no WebSocket is said to be none"
    else:
        assert row["request_body"] == b"".join(spoken)
        assert row["response_body"] == b"".join(data[::-1] for data in spoken)
        assert len(row["request_chunk_ns"]) == len(row["chunk_ns"]) == 3
