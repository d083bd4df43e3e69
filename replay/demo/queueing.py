"""The queueing model of the demo server: when each request starts, and when each of its tokens is due.

Pure: instants are int ns that the caller passes in, chance is a `numpy.random.Generator`. A station has
N identical slots and one first-come-first-served queue (Kendall's G/G/N, bounded on request). A chat holds
one batch slot from admission to its last token: a prefill of a fixed time plus a time per prompt token,
then one decode step per output token after the first. Embeddings and predictions hold a worker slot of
their own stations. Reading requests and sleeping until these instants is not here (see `server`).
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.demo.build import Build

MS_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000

Int64 = npt.NDArray[np.int64]


class QueueFull(Exception):  # noqa: N818 - an answer of the model, not a defect
    """The station's queue holds `queue_limit` requests already."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Ticket `ticket` got a slot at `start_ns`, making `occupancy` (0 < share ≤ 1) of the slots busy."""

    ticket: int
    start_ns: int
    occupancy: float


class Station:
    """N slots and one first-come-first-served queue; tells who starts when, and never looks at a clock.

    `arrive` and `leave` are called in the order of events, but `leave` may be told late: whoever starts then
    starts at the later of the slot's true release and its own arrival, so a late call costs nobody time.
    """

    def __init__(self, slots: int, queue_limit: int = -1) -> None:
        self._slots = slots
        self._queue_limit = queue_limit
        self._running: set[int] = set()
        self._waiting: OrderedDict[int, int] = OrderedDict()

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def arrive(self, ticket: int, now_ns: int) -> Start | None:
        """The start, when a slot is free; None when the ticket must wait; raises `QueueFull`."""
        if len(self._running) < self._slots:
            return self._start(ticket, now_ns)
        if 0 <= self._queue_limit <= len(self._waiting):
            raise QueueFull
        self._waiting[ticket] = now_ns
        return None

    def leave(self, ticket: int, at_ns: int) -> Start | None:
        """Ticket is done or gives up at `at_ns`, running or waiting; the start of whoever takes its slot."""
        if self._waiting.pop(ticket, None) is not None:
            return None
        self._running.discard(ticket)
        if not self._waiting or len(self._running) >= self._slots:
            return None
        following, arrival_ns = self._waiting.popitem(last=False)
        return self._start(following, max(at_ns, arrival_ns))

    def _start(self, ticket: int, at_ns: int) -> Start:
        self._running.add(ticket)
        return Start(ticket, at_ns, len(self._running) / self._slots)


def token_instants(
    build: Build, rng: np.random.Generator, start: Start, prompt_tokens: int, output_tokens: int
) -> Int64:
    """Instants in ns (int64, ascending, length `output_tokens` ≥ 1) at which a chat's tokens are due.

    The first ends the prefill; each later one follows by a decode step. The last one frees the slot.
    """
    prefill_ms = build.prefill_factor * (build.prefill_ms + build.prefill_token_ms * prompt_tokens)
    step_ms = build.decode_factor * build.decode_ms * (1 + build.occupancy_growth * start.occupancy)
    durations = np.full(output_tokens, step_ms * MS_NS)
    durations[0] = prefill_ms * MS_NS
    durations *= _chance(build, rng, output_tokens)
    return through_stall(build, start.start_ns, np.cumsum(durations))


def embed_end_ns(build: Build, rng: np.random.Generator, start: Start, input_tokens: int) -> int:
    """The instant in ns at which an embedding of `input_tokens` tokens is done."""
    service_ms = build.embed_factor * (build.embed_ms + build.embed_token_ms * input_tokens)
    return int(through_stall(build, start.start_ns, service_ms * MS_NS * _chance(build, rng, 1))[0])


def predict_end_ns(build: Build, rng: np.random.Generator, start: Start, rows: int) -> int:
    """The instant in ns at which a prediction of `rows` rows is done."""
    service_ms = build.predict_factor * (build.predict_ms + build.predict_row_ms * rows)
    return int(through_stall(build, start.start_ns, service_ms * MS_NS * _chance(build, rng, 1))[0])


def _chance(build: Build, rng: np.random.Generator, steps: int) -> npt.NDArray[np.float64]:
    """A factor per step: lognormal of mean 1, times the tail's factor for one request in `tail_every`."""
    sigma = build.jitter_sigma
    factors = rng.lognormal(-sigma * sigma / 2, sigma, steps)
    if build.tail_every and rng.random() * build.tail_every < 1:
        factors *= build.tail_factor
    return factors


def through_stall(build: Build, start_ns: int, offsets_ns: npt.NDArray[np.float64]) -> Int64:
    """Work that would be done `offsets_ns` after `start_ns`, as instants in ns: none is done in the stall.

    `start_ns` counts from the server's start, as `stall_at_s` does.
    """
    instants: Int64 = start_ns + np.rint(offsets_ns).astype(np.int64)
    stall_ns, length_ns = round(build.stall_at_s * SECOND_NS), round(build.stall_for_s * SECOND_NS)
    lost_ns = min(length_ns, stall_ns + length_ns - start_ns)
    if lost_ns <= 0:
        return instants
    late: Int64 = np.where(instants > stall_ns, instants + lost_ns, instants)
    return late
