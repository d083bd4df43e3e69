"""How fast is the CPU just now? The same small piece of work, timed again and again while a load runs.

A virtual machine's host may give its CPUs a fraction of their time, for some ten ms at a stretch, without a
word of it as stolen time: to the guest everything then takes a multiple, and looks busy. What follows from
it for a run is not decided here.
"""

from __future__ import annotations

import time
from typing import Final

SLOW_RATIO: Final = 2.0
_ROUNDS: Final = range(50)


def work_ns() -> int:
    """How long a fixed piece of work takes, some µs, once it is in the caches; in ns."""
    took_ns = []
    for _ in range(2):  # the first warms up; and of two, an interrupt meets one
        began_ns = time.monotonic_ns()
        value = 1
        for _ in _ROUNDS:
            value = value * 3 & 0xFFFF
        took_ns.append(time.monotonic_ns() - began_ns)
    return min(took_ns)


class CpuSpeed:
    """The pure part: samples of `work_ns`, each held against the least one so far. No clock in here."""

    def __init__(self) -> None:
        self._least_ns = 0
        self._samples = self._slow = 0
        self.is_slow = False

    def add(self, took_ns: int) -> None:
        """Take a sample; `is_slow` then says whether the CPU is slower than at its best by `SLOW_RATIO`."""
        self._least_ns = min(self._least_ns or took_ns, took_ns)
        self.is_slow = took_ns > SLOW_RATIO * self._least_ns
        self._samples += 1
        self._slow += self.is_slow

    def begin(self) -> None:
        """Count from here; the least sample stays."""
        self._samples = self._slow = 0
        self.is_slow = False

    @property
    def slow_share(self) -> float:
        """The share of samples that were slow, 0 without any."""
        return self._slow / self._samples if self._samples else 0.0
