"""Clients and servers that mean harm, for the capture proxy; also run at full size by `tests/benchmarks`."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from capture_rig import keeping

CHECKOUT = Path(__file__).resolve().parents[2]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclasses.dataclass
class Seen:
    """A request as the upstream server had it."""

    method: str
    path: str
    body: str


class Handler(BaseHTTPRequestHandler):
    """Notes what it got, and answers with the number of the note; /bomb and /zeros as their name says."""

    protocol_version = "HTTP/1.1"
    log: list[Seen]
    bombs: dict[str, bytes]
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        pass

    def handle_any(self) -> None:
        hashed = hashlib.sha256()
        for piece in self._body():
            hashed.update(piece)
        with self.lock:
            number = len(self.log)
            path = self.requestline.split()[1]  # `self.path` has fewer slashes
            self.log.append(Seen(self.command, path, hashed.hexdigest()))
        coding = self.path.removeprefix("/bomb/")
        if coding in self.bombs:
            self._answer(number, self.bombs[coding], coding)
        elif self.path.startswith("/zeros/"):
            self._send_zeros(int(self.path.removeprefix("/zeros/")))
        else:
            self._answer(number, b"ok")

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = do_DELETE = do_PATCH = handle_any  # noqa: N815

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            if not piece:
                return
            left -= len(piece)
            yield piece

    def _answer(self, number: int, body: bytes, coding: str = "identity") -> None:
        self.send_response(200)
        self.send_header("X-Number", str(number))
        self.send_header("Content-Encoding", coding)
        self.send_header("Content-Type", "text/event-stream" if coding != "identity" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_zeros(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        piece = bytes(1 << 16)
        for _ in range(size >> 16):
            self.wfile.write(piece)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news here."""


@contextlib.contextmanager
def running_server(bombs: dict[str, bytes] | None = None) -> Iterator[tuple[str, list[Seen]]]:
    log: list[Seen] = []
    handler = type("Noting", (Handler,), {"log": log, "bombs": bombs or {}})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        server.server_close()


@dataclasses.dataclass
class Capture:
    """A running `peaktape capture`."""

    process: subprocess.Popen[str]
    port: int
    said: list[str]
    peak_bytes: int = 0
    """The most resident memory that it had, until its end."""

    def watch(self) -> None:
        """Keep `peak_bytes` until the process ends; for a thread."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError, TypeError):  # gone, or going
                self.peak_bytes = max(self.peak_bytes, self.rss_bytes("VmHWM"))
            time.sleep(0.02)

    def rss_bytes(self, name: str = "VmRSS") -> int:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]

    def connect(self, timeout_s: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def ask(self, path: str, body: bytes = b"") -> bytes:
        """One well-behaved request; the whole answer."""
        with self.connect() as client:
            fields = f"Host: h\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            client.sendall(f"POST {path} HTTP/1.1\r\n{fields}".encode() + body)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextlib.contextmanager
def running_capture(output: Path, upstream: str) -> Iterator[Capture]:
    command = [sys.executable, "-m", "replay.cli", "capture", "--upstream", upstream]
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "XDG_CONFIG_HOME": str(output.parent / "config"),
    }
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", "-o", str(output), *keeping(output.parent, "x-number")],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        cwd=output.parent,
    )
    said: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        said.extend(iter(process.stderr.readline, ""))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        until(lambda: any("listening" in line for line in said) or process.poll() is not None)
        found = re.search(r"http://\S+:(\d+)", next(line for line in said if "listening" in line))
        assert found
        capture = Capture(process, int(found[1]), said)
        threading.Thread(target=capture.watch, daemon=True).start()
        yield capture
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "what was waited for did not happen"
        time.sleep(0.01)


WELL_FORMED = (
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    b"POST /v1/chat HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
    b'{"model":"m"}',
    b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"PUT /up HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x0d\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x88\x2f\x91\xd3\x5d\x05\x5c\x87\xa7",
    b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00\x00\x00",
    b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
)
SPITEFUL = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 1\r\nContent-Length: 2\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"X: " + b"y" * 70_000 + b"\r\n",
    b"\x00: \xff\r\n",
    b" folded: 1\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n",
    b"\r\n\r\n",
    b"\n\n",
    "größer: Ω\r\n".encode(),
    b"Content-Type: application/grpc\r\n",
    b"Upgrade: h2c\r\n",
    b"Host: [::1\r\n",
)


def mangled(chance: random.Random) -> bytes:
    """A request that was well-formed once: cut, doubled, flipped, with spiteful lines put in."""
    data = bytearray(chance.choice(WELL_FORMED))
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 5):
            case 0:
                del data[at : at + chance.randint(1, 20)]
            case 1:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
            case 2:
                data[at:at] = chance.choice(SPITEFUL)
            case 3:
                end = data.find(b"\r\n")
                data[end + 2 : end + 2] = chance.choice(SPITEFUL)
            case 4:
                data[at:at] = data[at : at + chance.randint(1, 100)]
            case _:
                if at < len(data):
                    data[at] = chance.randint(0, 255)
    return bytes(data)


def throw(capture: Capture, script: list[bytes], *, reset: bool = False) -> bytes:
    """Send the pieces on one connection, then close it, politely or not; what was answered."""
    answer = b""
    with capture.connect() as client, contextlib.suppress(OSError):
        for piece in script:
            client.sendall(piece)
        if reset:
            linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return answer
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(1 << 16):
            answer += piece
    return answer


def throw_malformed(capture: Capture, count: int, seed: int) -> list[str]:
    """So many mangled requests, and after each hundred a good one; the paths of the good ones."""
    chance, good = random.Random(seed), []
    for number in range(count):
        data = mangled(chance)
        cut = chance.randint(0, len(data))
        throw(capture, [data[:cut], data[cut:]], reset=chance.random() < 0.2)
        if number % 100 == 99:
            good.append(f"/good/{number}")
            assert capture.ask(good[-1], good[-1].encode()).endswith(b"ok"), number
    return good


def slow_clients(capture: Capture, count: int) -> list[socket.socket]:
    """Connections that have begun a request, and mean to take their time."""
    clients = []
    for number in range(count):
        client = capture.connect()
        client.sendall(WELL_FORMED[1][: 1 + number % 60])
        clients.append(client)
    return clients


def upload_zeros(capture: Capture, size: int) -> bytes:
    """The answer to an upload of so many zero bytes, in flat memory here."""
    piece = bytes(1 << 16)
    with capture.connect(120) as client:
        fields = b"Host: h\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size
        client.sendall(b"POST /up HTTP/1.1\r\n" + fields)
        for _ in range(size >> 16):
            client.sendall(piece)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def download(capture: Capture, path: str) -> int:
    """Bytes of the answer to a GET, read in flat memory."""
    total = 0
    with capture.connect(120) as client:
        client.sendall(b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode())
        while piece := client.recv(1 << 18):
            total += len(piece)
    return total


def gzip_bomb(size: int) -> bytes:
    """A gzip stream, of one member, that inflates to about `size` zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    step = 1 << 24
    block = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * (size // step) + b"\x03\x00" + bytes(8)


def zstd_bomb(size: int, byte: bytes = b"\0") -> bytes:
    """A zstd stream that gives `size` equal bytes."""
    import zstandard

    packer = zstandard.ZstdCompressor(level=1).compressobj()
    block = byte * (1 << 24)
    return b"".join(packer.compress(block) for _ in range(size >> 24)) + packer.flush()


def brotli_bomb(size: int) -> bytes:
    import brotli

    packer = brotli.Compressor(quality=1)
    block = bytes(1 << 24)
    return b"".join(packer.process(block) for _ in range(size >> 24)) + packer.finish()
