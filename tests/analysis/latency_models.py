"""Two builds under the same schedule, with noise that hangs together in time: ground truth for the diff.

`autoregressive`: a log-latency that wanders (AR(1) over time), each arm on its own path. `queueing`: a
first-come-first-served server with slots, so that chance delays pile up and decay as in a real one.
"""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
from made_runs import CHAT, EMBED, MS, PREDICT, MadeRun, S

from replay.analysis.run_table import RunTable


@dataclasses.dataclass(frozen=True)
class Workload:
    """What both arms are asked to do: due instants, endpoint of each, prompt's prefill time, tokens."""

    due_ns: np.ndarray
    kind: np.ndarray
    prefill_ns: np.ndarray
    tokens: np.ndarray

    @property
    def endpoint(self) -> list[str]:
        """The endpoint of each request."""
        return [(CHAT, EMBED, PREDICT)[kind] for kind in self.kind]


def workload(rng: np.random.Generator, seconds: float = 13.0, per_s: float = 60.0) -> Workload:
    """Poisson arrivals: 60 % streamed chats, 25 % embeddings, 15 % predict; log-normal prompt lengths."""
    n = int(rng.poisson(seconds * per_s))
    kind = rng.choice(3, size=n, p=(0.6, 0.25, 0.15))
    prefill = np.choose(kind, (60 * MS, 12 * MS, 6 * MS)) * rng.lognormal(0, 0.6, n)
    tokens = rng.integers(8, 60, n)
    return Workload(np.sort(rng.uniform(0, seconds * S, n)), kind, prefill, tokens)


def autoregressive(
    load: Workload,
    rng: np.random.Generator,
    *,
    prefill_factor: float = 1.0,
    time_constant_s: float = 0.3,
    wander: float = 0.15,
    jitter: float = 0.08,
) -> RunTable:
    """An arm whose log-latency is an Ornstein–Uhlenbeck path of this spread and correlation time."""
    n = len(load.due_ns)
    keep = np.exp(-np.diff(load.due_ns, prepend=load.due_ns[0]) / (time_constant_s * S))
    noise = rng.normal(0, 1, n) * np.sqrt(1 - keep**2)
    path = np.empty(n)
    level = rng.normal()
    for i in range(n):
        level = keep[i] * level + noise[i]
        path[i] = level
    speed = np.exp(wander * path)
    ttft = load.prefill_ns * speed * rng.lognormal(0, jitter, n) * np.where(load.kind == 0, prefill_factor, 1)
    return _run(load, ttft, 10 * MS * speed * rng.lognormal(0, jitter, n))


def queueing(
    load: Workload,
    rng: np.random.Generator,
    *,
    prefill_factor: float = 1.0,
    slots: int = 4,
    jitter: float = 0.1,
) -> RunTable:
    """An arm whose prefills wait for one of `slots`; the wait is what earlier chance left behind."""
    service = load.prefill_ns * rng.lognormal(0, jitter, len(load.due_ns))
    service = service * np.where(load.kind == 0, prefill_factor, 1)
    free = [0.0] * slots
    done = np.empty(len(service))
    for i, (due, takes) in enumerate(zip(load.due_ns, service, strict=True)):
        done[i] = max(heapq.heappop(free), due) + takes
        heapq.heappush(free, done[i])
    return _run(load, done - load.due_ns, 10 * MS * rng.lognormal(0, jitter, len(service)))


def _run(load: Workload, first_ns: np.ndarray, tpot_ns: np.ndarray) -> RunTable:
    chat = load.kind == 0
    made = MadeRun(
        due_ns=load.due_ns,
        ttft_ns=np.where(chat, first_ns, np.nan),
        e2e_ns=np.where(chat, first_ns + tpot_ns * (load.tokens - 1), first_ns),
        tokens=load.tokens,
        endpoint=load.endpoint,
    )
    return made.run()
