"""What is shown over a run's time beside its lines: latencies as counts, and single requests.

Plain frozen dataclasses as in `values`; instants are float ns from the run's zero unless the name says else.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from replay.analysis.change_values import RequestTimeline

SLOWEST = "slowest"
FAILED = "failed"
SAMPLED = "sample"
"""Why a request is among those of its window: it took longest, it failed, or it stands for the others."""


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """How many requests that were due in a bucket of time had a latency of a bin: see `heat_map`."""

    metric: str
    width_s: float
    """Of a bucket of time; the first begins at the run's zero."""
    lowest_bin: int
    """The bin of the first row: bin k is 10^(k/20) up to 10^((k + 1)/20) ns."""
    counts: npt.NDArray[np.int64] = dataclasses.field(compare=False)
    """(bins of latency, buckets of time)."""


@dataclasses.dataclass(frozen=True)
class ShownRequest:
    """One request with its instants in the run, or in both runs of a comparison, and why it is shown."""

    request_id: str
    copy: int
    endpoint: str
    model: str
    phase: str
    input_tokens: float
    why: str
    lines: tuple[RequestTimeline, ...]


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of due instants: how many requests (or pairs) fall into it, and those of them shown."""

    due: int
    shown: tuple[ShownRequest, ...]
    """In the order of their due instants."""


@dataclasses.dataclass(frozen=True)
class Waterfall:
    """Single requests of every window of `width_s`, from the run's zero to the last due instant."""

    width_s: float
    windows: tuple[Window, ...]
    paired: bool
