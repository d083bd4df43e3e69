"""Something done every so often by a thread beside: counters shown, counts reported."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def every(interval_s: float, what: Callable[[], None], name: str, *, wait: bool = True) -> Iterator[None]:
    """While this lasts, a thread of that name does `what`; its last time is waited for if `wait`."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(interval_s):
            what()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        if wait:
            thread.join()
