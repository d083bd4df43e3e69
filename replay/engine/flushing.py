"""Handing a request's bytes to the kernel at once, large ones piece by piece. Nothing about HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

PIECE_BYTES: Final = 128 << 10
"""Copying this much takes some 50 µs; what is due meanwhile waits no longer than that."""


def write_now(
    transport: asyncio.Transport, descriptor: int | None, data: bytes, whole: Callable[[], None]
) -> None:
    """Write the first piece of `data` at once, and let the rest follow between whatever else is due.

    `descriptor` is the socket's, None where bytes must pass through the transport (TLS). uvloop's transports
    may write at the end of the loop's iteration, after whatever else is ready by then; so this goes past
    them. `whole` is called when the transport has all of it, maybe before this returns: until then, nothing
    else may be written.
    """
    taken = 0
    if descriptor is not None and transport.get_write_buffer_size() == 0:
        first = data if len(data) <= PIECE_BYTES else memoryview(data)[:PIECE_BYTES]
        try:
            taken = os.write(descriptor, first)
        except OSError:
            # Full for now, or broken: the transport waits, or finds out for itself and tells the protocol.
            taken = 0
        if taken == len(data):
            whole()
            return
    _pass_on(transport, memoryview(data)[taken:], whole)


def _pass_on(transport: asyncio.Transport, rest: memoryview, whole: Callable[[], None]) -> None:
    if transport.is_closing():
        return
    transport.write(rest[:PIECE_BYTES])
    if len(rest) > PIECE_BYTES:
        asyncio.get_running_loop().call_soon(_pass_on, transport, rest[PIECE_BYTES:], whole)
    else:
        whole()
