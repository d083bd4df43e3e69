"""How punctual a generator is, as a server saw it: arrivals against due instants. Values only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

PUNCTUAL_P99_NS = 1e6
"""A rate is kept if 99 of 100 requests arrive within this of their due instant, as validity demands."""

ACHIEVED_SHARE = 0.999


@dataclasses.dataclass(frozen=True)
class Punctuality:
    """One rate of a self-test. Lateness is arrival at the server − due in ns; CPU the workers', in cores."""

    rate_per_s: float
    sender: str
    workers: int
    scheduled: int
    arrived: int
    p50_ns: float
    p99_ns: float
    max_ns: float
    cpu_cores: float
    stall: str

    @property
    def kept(self) -> bool:
        """Whether the rate was kept: all but a thousandth arrived, p99 within `PUNCTUAL_P99_NS`."""
        return self.arrived >= ACHIEVED_SHARE * self.scheduled and self.p99_ns <= PUNCTUAL_P99_NS


def lateness_ns(
    due_ns: npt.NDArray[np.int64], number: npt.NDArray[np.int64], arrival_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """arrival − due of each arrived request, int64; `number` says which due instant is whose."""
    known = (number >= 0) & (number < len(due_ns))
    return np.asarray(arrival_ns[known] - due_ns[number[known]], np.int64)


def kept_up_to(found: Sequence[Punctuality]) -> float | None:
    """The highest rate per second that was kept with all lower ones; None when not even the lowest was."""
    best = None
    for one in sorted(found, key=lambda one: one.rate_per_s):
        if not one.kept:
            break
        best = one.rate_per_s
    return best
