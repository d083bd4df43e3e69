"""A timer that an event loop can wait on, finer than the loop's own 1 ms tick: Linux timerfd(2).

Python has it from 3.13 (`os.timerfd_create`); before, the same three system calls go through ctypes. Where
the kernel has none (macOS, Windows) `available` is false and the pacer uses the loop's timers.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final

_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


def available() -> bool:
    """Whether this system has timerfd."""
    return sys.platform == "linux"


class TimerFd:
    """One CLOCK_MONOTONIC timer; `fileno()` becomes readable at the instant set by `arm`."""

    def __init__(self) -> None:
        create: Callable[..., int] | None = getattr(os, "timerfd_create", None)
        self._settime_ns: Callable[..., object] | None = getattr(os, "timerfd_settime_ns", None)
        if create is not None:
            self._fd = create(time.CLOCK_MONOTONIC, flags=_NONBLOCK_CLOEXEC)
            return
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = int(self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def arm(self, at_monotonic_ns: int) -> None:
        """Become readable at this instant (at once when it has passed)."""
        at = max(1, at_monotonic_ns)
        if self._settime_ns is not None:
            self._settime_ns(self._fd, flags=_ABSOLUTE, initial=at)
            return
        seconds, rest_ns = divmod(at, 10**9)
        value = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, rest_ns))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(value), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def acknowledge(self) -> None:
        """Make the descriptor unreadable until armed again."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
