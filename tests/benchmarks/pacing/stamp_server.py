"""The stamping server for machines without a C compiler; the contract is in stamp_server.c.

python stamp_server.py STAMPS.bin EXPECTED [CHUNKS INTERVAL_US]
"""

from __future__ import annotations

import array
import asyncio
import json
import re
import sys
import time
from pathlib import Path

_PROBES = (b"/v1/models", b"/health", b"/version", b"/metrics", b"/tokenize")
_TAG = re.compile(rb"\r\nx-peaktape-request: r(\d+)/(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model","max_model_len":100000}]}'


def _completion(chat: bool, stream: bool) -> bytes:
    kind = "text_completion" if not chat else "chat.completion.chunk" if stream else "chat.completion"
    said = {"role": "assistant", "content": " a"}
    choice = {"index": 0, "text": " a", "delta": said, "message": said, "finish_reason": "stop"}
    usage = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}
    answer = {"id": "x", "object": kind, "created": 1, "model": "m", "choices": [choice], "usage": usage}
    whole = json.dumps(answer).encode()
    return b"data: " + whole + b"\n\ndata: [DONE]\n\n" if stream else whole


class _Server:
    """Settings and logs, shared by all connections."""

    def __init__(self, expected: int, chunks: int, interval_us: int) -> None:
        self.expected, self.chunks, self.interval_s = expected, chunks, interval_us / 1e6
        self.arrivals, self.sent = array.array("q"), array.array("q")

    def note(self, at_ns: int, number: int, copy: int) -> None:
        self.arrivals.extend((at_ns, number, copy))
        count = len(self.arrivals) // 3
        if count == 1:
            print("first", flush=True)
        if count == self.expected:
            print("last", flush=True)


class _Connection(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self._server, self._data, self._began_ns = server, b"", 0
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._began_ns = self._began_ns or time.monotonic_ns()
        self._data += data
        while (end := self._data.find(b"\r\n\r\n") + 4) > 3:
            found = _LENGTH.search(self._data, 0, end)
            length = int(found[1]) if found else 0
            if len(self._data) < end + length:
                return
            self._answer(self._data[:end], self._data[end : end + length])
            self._data = self._data[end + length :]
            self._began_ns = time.monotonic_ns() if self._data else 0

    def _say(self, body: bytes, kind: bytes = b"application/json") -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
        self._transport.write(head + body)  # type: ignore[attr-defined]

    def _answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path.startswith(_PROBES):
            return self._say(_MODELS)
        tag = _TAG.search(head)
        number, copy = (int(tag[1]), int(tag[2])) if tag else (-1, 0)
        if b"stream" in path:
            task = asyncio.get_running_loop().create_task(self._stream(number))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        elif b"completions" in path:
            stream = re.search(rb'"stream": ?true', body) is not None
            answer = _completion(b"chat" in path, stream)
            self._say(answer, b"text/event-stream" if stream else b"application/json")
        else:
            self._say(b"{}")
        return self._server.note(self._began_ns, number, copy)

    async def _stream(self, number: int) -> None:
        write = self._transport.write  # type: ignore[attr-defined]
        write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for chunk in range(self._server.chunks):
            await asyncio.sleep(begun_s + (chunk + 1) * self._server.interval_s - loop.time())
            at_ns = time.monotonic_ns()
            event = b'data: {"choices":[{"delta":{"content":"%019d"}}]}\n\n' % at_ns
            self._server.sent.extend((at_ns, number, chunk))
            write(b"%x\r\n%s\r\n" % (len(event), event))
        write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


async def _serve(settings: _Server) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(settings), "127.0.0.1", 0, backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def _main() -> None:
    stamps, numbers = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    settings = _Server(*(numbers if len(numbers) == 3 else (numbers[0], 100, 10_000)))
    asyncio.run(_serve(settings))
    stamps.write_bytes(settings.arrivals.tobytes())
    Path(f"{stamps}.chunks").write_bytes(settings.sent.tobytes())


if __name__ == "__main__":
    _main()
