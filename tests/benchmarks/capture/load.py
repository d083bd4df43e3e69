"""Bare clients: closed-loop posts, stamped streams, posts at a constant rate. Values come back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 980}]}).encode()

Int64 = npt.NDArray[np.int64]


def post(number: int = 0, body: bytes = BODY) -> bytes:
    """A request of 5 KB as clients send it, "x-request-id" its number."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer sk-aaaaaaaaaaaaaaa\r\n"
        b"X-Request-Id: %d\r\nContent-Length: %d\r\n\r\n%s" % (number, len(body), body)
    )


class _Client(asyncio.Protocol):
    """A connection; `on_answer` is called once per whole answer with a content length."""

    def __init__(self, on_answer: Callable[[_Client], None]) -> None:
        self._on_answer = on_answer
        self._left = -1
        self._head = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            at = head.lower().index(b"content-length:") + 15
            self._left = int(head[at:].split(b"\r\n")[0]) - len(rest)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            self._head = b""
        else:
            self._left -= len(data)
        if self._left == 0:
            self._left = -1
            self._on_answer(self)


def closed_loop(port: int, seconds: float, connections: int = 16, count: int | None = None) -> float:
    """Answers a second of `connections` clients that ask again at once; until `count` answers, if given."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        answered = 0
        over = loop.create_future()
        request = post()

        def again(client: _Client) -> None:
            nonlocal answered
            answered += 1
            if count is not None and answered >= count and not over.done():
                over.set_result(None)
            client.transport.write(request)

        clients = [
            (await loop.create_connection(lambda: _Client(again), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        began = time.perf_counter()
        for client in clients:
            client.transport.write(request)
        if count is None:
            await asyncio.sleep(seconds)
        else:
            await asyncio.wait_for(over, seconds)
        took, total = time.perf_counter() - began, answered
        for client in clients:
            client.transport.abort()
        return total / took

    return uvloop.run(run())


def posts(port: int, bodies: list[bytes], connections: int = 8) -> None:
    """Post every body once, `connections` at a time."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        left = iter(bodies)
        over = loop.create_future()
        answered = 0

        def next_one(client: _Client) -> None:
            nonlocal answered
            answered += 1
            if answered == len(bodies) + connections:
                over.set_result(None)
            elif (body := next(left, None)) is not None:
                client.transport.write(post(body=body))

        for _ in range(connections):
            next_one((await loop.create_connection(lambda: _Client(next_one), "127.0.0.1", port))[1])
        await asyncio.wait_for(over, 300)

    uvloop.run(run())


def constant_rate(port: int, rate: float, seconds: float, connections: int = 40) -> Int64:
    """When each post was sent, monotonic ns by its number: open loop, on the next free connection."""

    async def run() -> Int64:
        loop = asyncio.get_running_loop()
        free: list[_Client] = []
        free += [
            (await loop.create_connection(lambda: _Client(free.append), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        sent = np.zeros(int(rate * seconds), np.int64)
        zero_ns = time.monotonic_ns() + 100_000_000
        for number in range(len(sent)):
            due_ns = zero_ns + int(number / rate * 1e9)
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            client, request = free.pop(0), post(number)
            sent[number] = time.monotonic_ns()
            client.transport.write(request)
        await asyncio.sleep(1)
        return sent

    return uvloop.run(run())


def stream_delays(port: int, streams: int, chunks: int, gap_ms: float, kind: str = "stream") -> Int64:
    """For each chunk of so many streams at once: ns from its writing by the server to its arrival here."""
    return uvloop.run(_stream_delays(port, streams, chunks, gap_ms, kind))


async def _stream_delays(port: int, streams: int, chunks: int, gap_ms: float, kind: str) -> Int64:
    loop = asyncio.get_running_loop()
    delays: list[int] = []
    left = asyncio.Semaphore(0)
    mark = b"data: " if kind == "stream" else b'"at": '

    class Watch(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.write(b"GET /%s/%d/%g HTTP/1.1\r\nHost: h\r\n\r\n" % (kind.encode(), chunks, gap_ms))

        def data_received(self, data: bytes) -> None:
            now_ns = time.monotonic_ns()
            found = (piece[:20].split(b"\n")[0].split(b"}")[0] for piece in data.split(mark)[1:])
            delays.extend(now_ns - int(stamp) for stamp in found)
            if data.endswith(b"0\r\n\r\n"):
                self.transport.close()
                left.release()

        def connection_lost(self, error: Exception | None) -> None:
            if error is not None:
                raise RuntimeError(f"a stream broke: {error}")

    for _ in range(streams):
        await loop.create_connection(Watch, "127.0.0.1", port)
        await asyncio.sleep(gap_ms / 1e3 / streams)  # not all in one tick
    async with asyncio.timeout(chunks * gap_ms / 1e3 + 60):
        for _ in range(streams):
            await left.acquire()
    return np.array(delays, np.int64)
