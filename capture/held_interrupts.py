"""Ctrl-C at a terminal goes to all processes there; children whose parent answers it must not hear it.

Each ignores it as soon as it runs its own code; this is for the half second before, while Python starts and
imports, when it would end in a traceback.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """A child that is started within never gets a SIGINT; one that came meanwhile is the caller's afterwards.

    A blocked signal stays so through fork and exec (signal(7)); ignoring it in the parent would lose it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
