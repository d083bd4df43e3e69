"""A kernel that stamps what TCP brings: it begins a moment after a first socket asked, later under load."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator

from capture.kernel_stamps import ANCILLARY_BYTES, have_stamped

PATIENCE_S = 20


@contextlib.contextmanager
def stamping_kernel() -> Iterator[None]:
    """The kernel stamps meanwhile, whatever other sockets ask; where it can't, nothing is waited for."""
    if sys.platform != "linux":
        yield
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    with one, other:
        assert have_stamped(one)
        until_s = time.monotonic() + PATIENCE_S
        stamps: list[object] = []
        while not stamps:
            assert time.monotonic() < until_s, "the kernel did not begin to stamp"
            other.send(b"?")
            _, stamps, _, _ = one.recvmsg(1, ANCILLARY_BYTES)
        yield
