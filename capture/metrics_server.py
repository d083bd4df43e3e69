"""A capture's metrics and health over HTTP, on a port and in threads of their own.

    GET /metrics   Prometheus (or OpenMetrics, when it is asked for)
    GET /healthz   200 while the proxy is alive, else 503
    GET /readyz    200 while all that is chosen gets recorded, else 503; the reasons as JSON

No client of the proxy waits for any of it: a scrape holds the interpreter for less than a millisecond.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client.exposition import choose_encoder

from capture.addresses import not_bound
from capture.counts import Counts
from capture.health import HealthWatch, Pulse
from capture.metrics import registry_of

_AT_ONCE: Final = 8
_PATIENCE_S: Final = 5.0


class MetricsServer(ThreadingHTTPServer):
    """Listens from the start; answers while `serving`. Raises `BadInput` when the address can't be had."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int, pulse: Pulse) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pulse = pulse
        self.counts: Callable[[], Counts] = Counts
        self._health = HealthWatch()
        self._free = threading.Semaphore(_AT_ONCE)
        try:
            super().__init__((host, port), _Answer)
        except OSError as error:
            raise not_bound("--metrics", host, port, error) from error
        self.registry = registry_of(lambda: self.counts())

    @property
    def url(self) -> str:
        """Where it listens, "http://host:port"."""
        host, port = self.server_address[:2]
        host = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @contextlib.contextmanager
    def serving(self, counts: Callable[[], Counts]) -> Iterator[None]:
        """Answer with what `counts` says while this lasts."""
        self.counts = counts
        thread = threading.Thread(target=self.serve_forever, name="peaktape-metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()

    def complaints(self) -> list[str]:
        """Why the capture is not healthy."""
        stopped = [self.pulse.stopped] if self.pulse.stopped else []
        return stopped + self._health.complaints(self.counts(), time.monotonic())

    def server_bind(self) -> None:
        """Bind without a look-up of the host's name, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless too many answer already."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request, and let another one in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes or garbles is no news."""


class _Answer(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _PATIENCE_S
    server_version = "peaktape"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._say(200, kind, encode(self.server.registry))
        elif path in ("/healthz", "/readyz"):
            stopped = self.server.pulse.stopped
            complaints = self.server.complaints() if path == "/readyz" else [stopped] if stopped else []
            told = {"status": "unhealthy" if complaints else "ok", "reasons": complaints}
            self._say(503 if complaints else 200, "application/json", json.dumps(told).encode() + b"\n")
        else:
            self._say(404, "text/plain", b"/metrics, /healthz or /readyz\n")

    do_HEAD = do_GET  # noqa: N815 (the name that http.server looks for)

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nobody is told of scrapes."""
