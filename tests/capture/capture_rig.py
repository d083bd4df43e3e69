"""Real processes and sockets for the capture tests: an upstream server, and `peaktape capture` before it."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import hashlib
import ipaddress
import json
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from mitmproxy import certs

from capture.trace_reader import open_trace

CHECKOUT = Path(__file__).resolve().parents[2]
PEAKTAPE = [sys.executable, "-m", "replay.cli"]
WORDS = ("One ", "two ", "three ", "four ", "five")
GAP_S = 0.05


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sse(message: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(message).encode() + b"\n\n"


@dataclasses.dataclass
class Upstream:
    """A server whose answers depend on the path; it remembers the sha256 of every body it received."""

    url: str = ""
    received: list[str] = dataclasses.field(default_factory=list)
    hosts: list[str] = dataclasses.field(default_factory=list)
    silences: int = 0

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/gzip", self.zipped)
        app.router.add_route("*", "/echo", self.echo)
        app.router.add_post("/breaks", self.breaks)
        app.router.add_get("/endless", self.endless)
        app.router.add_get("/silent", self.silent)
        app.router.add_get("/refused", self.refused)
        return app

    async def _body(self, request: web.Request) -> bytes:
        body = await request.read()
        self.received.append(sha256(body))
        self.hosts.append(request.headers["Host"])
        return body

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await self._body(request))
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        base = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            return web.json_response(
                {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        base["object"] = "chat.completion.chunk"
        for word in WORDS:
            await asyncio.sleep(GAP_S)
            delta = {"role": "assistant", "content": word}
            await response.write(
                sse({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            )
        await response.write(sse({**base, "choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        if request.headers.get("x-linger"):
            await asyncio.sleep(5)
        await response.write_eof()
        return response

    async def zipped(self, request: web.Request) -> web.Response:
        body = gzip.compress(await self._body(request))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await self._body(request), headers={"Set-Cookie": "id=cookie-secret-1"})

    async def breaks(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(GAP_S)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(2000):
            await response.write(b"data: more\n\n")
            await asyncio.sleep(0.01)
        return response

    async def silent(self, request: web.Request) -> web.Response:
        self.silences += 1
        await asyncio.sleep(60)
        return web.Response()

    async def refused(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "slow down"}}, status=429)


def tls_server(folder: Path) -> ssl.SSLContext:
    """TLS for 127.0.0.1, signed by a new authority whose certificate is folder/mitmproxy-ca-cert.pem."""
    store = certs.CertStore.from_store(folder, "mitmproxy", 2048)
    entry = store.get_cert("127.0.0.1", [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    (folder / "server.pem").write_bytes(entry.cert.to_pem())
    key = entry.privatekey.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


@asynccontextmanager
async def running_upstream(
    tls: ssl.SSLContext | None = None, upstream: Upstream | None = None
) -> AsyncIterator[Upstream]:
    upstream = upstream or Upstream()
    runner = web.AppRunner(upstream.application(), shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    upstream.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield upstream
    finally:
        await runner.cleanup()


@dataclasses.dataclass
class Proxy:
    """A running `peaktape capture`; `stop` ends it and gives back its exit code."""

    process: asyncio.subprocess.Process
    url: str
    said: list[str]
    _reader: asyncio.Task[None]

    async def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), 30)
        await self._reader
        return code

    async def until(self, seen: Callable[[str], bool]) -> None:
        """Wait for a line on stderr that satisfies `seen`."""
        await eventually(lambda: any(seen(line) for line in self.said) or self.process.returncode is not None)
        assert any(seen(line) for line in self.said), f"ended with {self.process.returncode}: {self.said}"


def keeping(folder: Path, *headers: str) -> tuple[str, str]:
    """Options of a capture that keeps the values of these headers too."""
    policy = folder / "keep.yml"
    policy.write_text(f"headers: {{keep: [{', '.join(headers)}]}}\n")
    return "--policy", str(policy)


@asynccontextmanager
async def running_capture(
    output: Path, *options: str, command: list[str] | None = None, **process: Any
) -> AsyncIterator[Proxy]:
    """`peaktape capture -o output …` (or `command`) as a process, until it listens."""
    asked = command or [*PEAKTAPE, "capture", "--listen", "127.0.0.1:0", "-o", str(output), *options]
    started = await asyncio.create_subprocess_exec(
        *asked,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "XDG_CONFIG_HOME": str(output.parent / "config")},
        cwd=output.parent,
        **process,
    )
    said: list[str] = []

    async def read() -> None:
        assert started.stderr is not None
        while line := await started.stderr.readline():
            said.append(line.decode())

    proxy = Proxy(started, "", said, asyncio.create_task(read()))
    try:
        await proxy.until(lambda line: "listening" in line)
        proxy.url = re.search(r"http://\S+:\d+", next(line for line in said if "listening" in line))[0]  # type: ignore[index]
        yield proxy
    finally:
        await proxy.stop()  # also one that has ended: its pipe is read to the end, and closed with it


def children_of(pid: int) -> list[int]:
    """The processes that process `pid` started and that still are there."""
    told = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for line in told for child in line.split()]


def processes_of(proxy: Proxy) -> list[int]:
    """The proxy, its recorder, and the recorder's compactor once there is one."""
    found = [proxy.process.pid]
    for pid in found:
        found += children_of(pid)
    return found


async def eventually(condition: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait until `condition` holds; AssertionError when it never does."""
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("what was waited for did not happen")


def segments_in(folder: Path) -> list[Path]:
    """The whole segments in a folder."""
    return sorted(folder.glob("segment-*.parquet"))


def rows_of(trace: Path) -> list[dict[str, Any]]:
    """All rows of a trace file or a folder of segments, by arrival."""
    files = sorted(trace.glob("*.parquet")) if trace.is_dir() else [trace]
    if not sum(pq.read_metadata(file).num_rows for file in files):
        return []
    return [row for batch in open_trace(trace).iter_batches() for row in batch.to_pylist()]


def metadata_of(trace: Path) -> dict[str, Any]:
    """The metadata of a trace file, or of a folder's last segment."""
    file = sorted(trace.glob("*.parquet"))[-1] if trace.is_dir() else trace
    found: dict[str, Any] = json.loads(pq.read_metadata(file).metadata[b"peaktape.trace"])
    return found
