"""A bare server that notes when each post's first byte reached it: what a proxy's stamps are held against.

    stamp_server.py [BUSY_US]

Answers as `answer_server` does. Once stdin ends it prints, as JSON, the instants (monotonic ns) in the order
in which requests came in. What its stamps are late by is the machine's and the event loop's, not a proxy's.
With BUSY_US each request is so much arithmetic, too, as timed on a core at its full speed: a core that the
host slows takes longer for it, and what comes meanwhile waits, as it does for a proxy.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from answer_server import Answers

STAMPS_NS: list[int] = []
_ROUNDS_TIMED = 20_000


def _work(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += number * number
    return total


def _rounds_in(busy_us: float) -> int:
    """How much of `_work` takes so long, by the fastest of some."""
    took_ns = []
    for _ in range(50):
        began_ns = time.monotonic_ns()
        _work(_ROUNDS_TIMED)
        took_ns.append(time.monotonic_ns() - began_ns)
    return round(busy_us * 1e3 * _ROUNDS_TIMED / min(took_ns))


class Stamped(Answers):
    """One connection; a request begins with the first bytes after an answer."""

    busy_rounds = 0

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not self._held and not self._body_left:
            STAMPS_NS.append(now_ns)
            _work(self.busy_rounds)
        super().data_received(data)


async def _serve() -> None:
    Stamped.busy_rounds = _rounds_in(float(sys.argv[1])) if sys.argv[1:] else 0
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stamped, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(STAMPS_NS), flush=True)


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve()))
