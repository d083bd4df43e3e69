"""How punctual is a replay? Arrivals stamped by a server in another process, against the due instants.

    python tests/benchmarks/pacing.py [--rates 100,500] [--seconds 10]

Three senders fire the same constant schedule at the same server, one after the other:
  limit     a bare socket, timerfd and a spin: what this machine can do at all
  peaktape  `peaktape replay` with one worker
  timers    aiohttp and `loop.call_at`, as most Python load generators have it
The sender is pinned to one core and the server to another. Lateness is server arrival − due in µs,
absolute: both clocks are CLOCK_MONOTONIC of one host. Not a test: nothing fails here, figures are printed
with their ratio to the limit of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "engine")]

from replay_rig import replay_rows, request  # noqa: E402

from replay.engine.timerfd import TimerFd, available  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class _Stamping(asyncio.Protocol):
    """Answers every request at once, and notes when its first bytes came. One read is one request here."""

    stamps: list[int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.stamps.append(time.monotonic_ns())
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


async def _serve() -> list[int]:
    _Stamping.stamps = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Stamping, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    return _Stamping.stamps


def _limit(port: int, dues_ns: list[int]) -> None:
    timer = TimerFd() if available() else None
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for due_ns in dues_ns:
            if timer is not None:
                timer.arm(due_ns - 80_000)
                select.select([timer.fileno()], [], [])
                timer.acknowledge()
            while time.monotonic_ns() < due_ns:
                pass
            connection.sendall(head)
            connection.recv(4096)


async def _timers(port: int, dues_ns: list[int]) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send() -> None:
            async with session.post(f"http://127.0.0.1:{port}/", data=b"{}") as response:
                await response.read()

        def start() -> None:
            tasks.append(loop.create_task(send()))

        now_ns, now_s = time.monotonic_ns(), loop.time()
        for due_ns in dues_ns:
            loop.call_at(now_s + (due_ns - now_ns) / 1e9, start)
        await asyncio.sleep((dues_ns[-1] - time.monotonic_ns()) / 1e9 + 0.5)
        await asyncio.gather(*tasks)


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin(process: int, core: int) -> None:
    if len(CORES) > 1:
        os.sched_setaffinity(process, {CORES[core]})


def _measure(sender: str, rate: float, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder / "stamps")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _pin(server.pid, 1)
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        offsets = [round(i * 1e9 / rate) for i in range(int(rate * seconds))]
        cpu_us = float("nan")
        if sender == "peaktape":
            done = replay_rows(
                folder,
                [request(i, at) for i, at in enumerate(offsets)],
                f"http://127.0.0.1:{port}",
                sender=chosen_sender,
            )
            zero_ns = done.metadata.zero_monotonic_ns
            cpu_us = done.metadata.workers[0]["cpu_s"] / len(offsets) * 1e6
        else:
            zero_ns = time.monotonic_ns() + 300_000_000
            dues_ns = [zero_ns + at for at in offsets]
            _limit(port, dues_ns) if sender == "limit" else asyncio.run(_timers(port, dues_ns))
        server.stdin.write("\n")
        server.stdin.close()
        server.wait()
        stamps = np.sort(np.array(json.loads((folder / "stamps").read_text())))
    # Requests may overtake each other; the i-th arrival against the i-th due is then the kinder reading.
    lateness_us = (stamps - zero_ns - np.array(offsets[: len(stamps)])) / 1e3
    p50, p99, most = np.quantile(lateness_us, [0.5, 0.99, 1.0])
    return {"arrived": len(stamps), "p50": p50, "p99": p99, "max": most, "cpu": cpu_us}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", default="100,500")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        chosen.serve.write_text(json.dumps(asyncio.run(_serve())))
        return
    titles = ("rate/s", "sender", "arrived", "p50 µs", "p99 µs", "max µs", "p99 / limit", "CPU µs each")
    print(*(f"{title:>12}" for title in titles))
    _pin(0, 0)
    for rate in map(float, chosen.rates.split(",")):
        limit = float("nan")
        for sender in ("limit", "peaktape", "timers"):
            found = _measure(sender, rate, chosen.seconds)
            limit = found["p99"] if sender == "limit" else limit
            figures = [found[name] for name in ("arrived", "p50", "p99", "max")]
            shown = [f"{rate:.0f}", sender, *(f"{value:.0f}" for value in figures)]
            print(
                *(f"{text:>12}" for text in (*shown, f"{found['p99'] / limit:.1f}x", f"{found['cpu']:.0f}"))
            )


if __name__ == "__main__":
    main()
