"""A server that does nothing but stamp: each request's arrival on the monotonic clock, and "{}" at once.

It is what a generator's punctuality is measured against: `python -m replay.demo.stamping STAMPS.npy` prints
its port, serves until its standard input closes, then writes int64[n, 2]: the arrival in CLOCK_MONOTONIC
ns and the request's number, from the tag "rNUMBER/…" that a replay puts on it (-1 without).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_NUMBER: Final = re.compile(rb"\r\nx-peaktape-request: r(\d+)/", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STOP_S: Final = 10.0


class _Stamping(asyncio.Protocol):
    """One keep-alive connection; a request ends where its Content-Length says."""

    def __init__(self, stamps: list[tuple[int, int]]) -> None:
        self._stamps = stamps
        self._buffer = b""
        self._began_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not self._buffer:
            self._began_ns = now_ns
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[: end + 2]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            number = _NUMBER.search(head)
            self._stamps.append((self._began_ns, int(number[1]) if number else -1))
            self._buffer, self._began_ns = self._buffer[whole:], now_ns
            self._transport.write(ANSWER)


async def _serve() -> list[tuple[int, int]]:
    stamps: list[tuple[int, int]] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Stamping(stamps), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    return stamps


class StampingServer:
    """The server in a child process, for a `with` block. `stamps` are there once `stop` has returned them.

    On `core`, if one is given, and before others who want it: its own waiting would count as the sender's.
    """

    def __init__(self, stamps: Path, core: int | None = None) -> None:
        self._path = stamps
        self._core = core
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid if self._process else 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "replay.demo.stamping",
                str(self._path),
                "" if self._core is None else str(self._core),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            port = self._process.stdout.readline().strip() if self._process.stdout else ""
        except BaseException:  # Ctrl-C, for one
            self.__exit__(None, None, None)
            raise
        if not port:
            self.__exit__(None, None, None)
            raise BadInput("selftest: the stamping server did not start; is 127.0.0.1 usable here?")
        self.base_url = f"http://127.0.0.1:{port}"
        return self

    def stop(self) -> npt.NDArray[np.int64]:
        """End the server; int64[n, 2], the arrival (monotonic ns) and the number of each request."""
        if self._process is not None:
            self._process.communicate(timeout=_STOP_S)
        self._process = None
        return np.asarray(np.load(self._path), np.int64)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _go_first(core: str) -> None:
    gc.collect()
    gc.freeze()
    gc.disable()  # stamps are tuples of numbers: nothing in a circle
    with contextlib.suppress(OSError, AttributeError):
        if core:
            os.sched_setaffinity(0, {int(core)})
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main(path: str, core: str = "") -> None:
    """Entry of the server process."""
    _go_first(core)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        stamps = runner.run(_serve())
    np.save(path, np.array(stamps, np.int64).reshape(-1, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
