"""SIGUSR1 begins or resumes recording, SIGUSR2 pauses it; clients are served all the same.

The handlers do nothing but turn the switch, which takes a few writes to memory: they may run between any two
steps of the main thread. Who is told, and what is logged, is the recorder's, which looks at the switch.
uvloop and asyncio both run such handlers in the main thread; mitmproxy uses these signals in its own command
line only.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

from capture.handover import Handover
from capture.recording_switch import EDGE_NS


def ignore_switch_signals() -> None:
    """Before and after there is something to switch they must not end the process, as they would."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def switched_by_signals(recorder: Handover) -> Iterator[None]:
    """While this lasts, the signals turn the recorder's switch; afterwards they do nothing."""

    def soon_ns() -> int:
        return time.monotonic_ns() - recorder.zero_ns + EDGE_NS

    def turn_on(number: int, frame: FrameType | None) -> None:
        recorder.switch.turn_on(soon_ns())

    def turn_off(number: int, frame: FrameType | None) -> None:
        recorder.switch.turn_off(soon_ns())

    signal.signal(signal.SIGUSR1, turn_on)
    signal.signal(signal.SIGUSR2, turn_off)
    try:
        yield
    finally:
        ignore_switch_signals()
