"""A bare server that notes when each post's first byte reached it: what a proxy's stamps are held against.

Answers as `answer_server` does. Once stdin ends it prints, as JSON, the instants (monotonic ns) in the order
in which requests came in. What its stamps are late by is the machine's and the event loop's, not a proxy's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from answer_server import Answers

STAMPS_NS: list[int] = []


class Stamped(Answers):
    """One connection; a request begins with the first bytes after an answer."""

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not self._held and not self._body_left:
            STAMPS_NS.append(now_ns)
        super().data_received(data)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stamped, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(STAMPS_NS), flush=True)


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve()))
