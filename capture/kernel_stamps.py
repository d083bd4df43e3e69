"""When bytes came over TCP, as the kernel saw it: asking for its stamps, and what they say on our clock.

Linux stamps what the network brings as it takes it in, before any process runs (SO_TIMESTAMPNS, socket(7);
for TCP since 4.14, then of the last segment in a read). So a stamp does not get later while Python is busy,
nor while its core belongs to somebody else. Elsewhere there are none. Reading is in the transports that use
this: asyncio's and uvloop's read without asking for stamps.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

SO_TIMESTAMPNS_NEW: Final = 64
"""Of Linux 5.1 and later: two int64, s and ns of the wall clock. Python has no name for it."""
_STAMP: Final = struct.Struct("=qq")
_unpack = _STAMP.unpack
ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_STAMP.size) if sys.platform != "win32" else 0
"""What a read has to leave room for beside its data; the stamp is the only ancillary item then."""


def came_ns(stamp: bytes, wall_now_ns: int, now_ns: int) -> int:
    """A stamp of the kernel's, by the wall clock, as an instant of the monotonic clock, both read now.

    One from the future, as after the wall clock was set back, counts as now. One from before it can be is for
    the caller to see.
    """
    seconds, rest_ns = _unpack(stamp)
    came = now_ns - wall_now_ns + seconds * 1_000_000_000 + rest_ns
    return came if came < now_ns else now_ns


def have_stamped(connected: socket.socket) -> bool:
    """Ask the kernel for stamps; whether it gives them for this socket."""
    if sys.platform != "linux" or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        connected.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
    except OSError:
        return False
    return True
