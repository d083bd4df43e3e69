"""An HTTP/1.1 server as bare as asyncio allows, so that it isn't the limit: stamped streams, short answers.

GET  /stream/COUNT/GAP_MS   an SSE stream whose chunks say when they were written (monotonic ns)
GET  /chat/COUNT/GAP_MS     the same as OpenAI chat completion chunks of some 300 bytes
POST /…                     a JSON answer of 1 KB
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

ANSWER = json.dumps(
    {"model": "m", "usage": {"prompt_tokens": 900, "completion_tokens": 100}, "text": "so many words " * 64}
).encode()
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ANSWER),
    ANSWER,
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Answers(asyncio.Protocol):
    """One connection; requests are answered in order, bodies are thrown away."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._held = b""
        self._body_left = 0
        self._streams: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while self._held:
            if self._body_left:
                taken = min(self._body_left, len(self._held))
                self._body_left -= taken
                self._held = self._held[taken:]
                if self._body_left:
                    return
                self._transport.write(WHOLE)
                continue
            head, end, rest = self._held.partition(b"\r\n\r\n")
            if not end:
                return
            self._held = rest
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        first, *fields = head.split(b"\r\n")
        _, path, _ = first.split(b" ")
        for field in fields:
            if field[:15].lower() == b"content-length:":
                self._body_left = int(field[15:])
        kind, *numbers = path.strip(b"/").split(b"/")
        if kind in (b"stream", b"chat"):
            task = asyncio.ensure_future(self._stream(kind, int(numbers[0]), float(numbers[1]) / 1e3))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        elif not self._body_left:
            self._transport.write(WHOLE)

    async def _stream(self, kind: bytes, count: int, gap_s: float) -> None:
        self._transport.write(STREAM)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in range(count):
            due += gap_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            stamp = b"%d" % time.monotonic_ns()
            event = b"data: " + stamp + b"\n\n"
            if kind == b"chat":
                delta = {"index": 0, "delta": {"content": f" word{number}"}, "finish_reason": None}
                chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
                event = (
                    b"data: " + json.dumps({**chunk, "choices": [delta], "at": int(stamp)}).encode() + b"\n\n"
                )
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._transport.write(b"0\r\n\r\n")


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve()))
