"""Which network read is being handled, and when its bytes came: what a proxy's hooks stamp events with.

One read is handled at a time, in one turn, by everything that it leads to: one place tells, for a process.
What happens outside of any read (a timer, a connection that stands) is stamped when it happens.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Final

_number = [0]
_came_ns = [0]
_now_ns = time.monotonic_ns

read_number: Final[Callable[[], int]] = functools.partial(_number.__getitem__, 0)
"""The number of the last read of any connection: what one read brought is passed on before the next."""


def event_ns() -> int:
    """The monotonic instant at which the bytes that are handled now came; now, if none are."""
    return _came_ns[0] or _now_ns()


def begin_read(came_ns: int) -> None:
    """What came then, 0 if nobody knows when, is handled from now on."""
    _number[0] += 1
    _came_ns[0] = came_ns


def end_read() -> None:
    """What follows has nothing to do with the last read."""
    _came_ns[0] = 0
