"""What a queue makes of arrivals: waiting times in a first-come-first-served G/G/k queue. Pure.

Two streams of arrivals may have the same counts and yet differ in what a server suffers; so amplified traffic
is judged by the waits it causes, too. The real servers are not simulated here; see `demo` for such a model.
"""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LOAD: Final = 0.75
SERVERS: Final = 8


def waits_ns(at_ns: Int64, service_ns: Int64, servers: int) -> Int64:
    """How long each request waits for one of `servers` (1 or more) in order of arrival, int64[n] ns.

    `at_ns` int64[n] ascending, `service_ns` int64[n]. The Kiefer–Wolfowitz recursion (J. Kiefer,
    J. Wolfowitz: On the theory of queues with many servers. Trans. AMS 78, 1955): a request takes the server
    that is free first. The servers' free instants are a heap.
    """
    free = [0] * servers
    begins = []
    for at, service in zip(at_ns.tolist(), service_ns.tolist(), strict=True):
        begin = max(at, free[0])
        begins.append(begin)
        heapq.heapreplace(free, begin + service)
    return np.array(begins, np.int64) - at_ns


def service_times_ns(
    requests: int, span_ns: int, rng: np.random.Generator, servers: int, load: float
) -> Int64:
    """Exponential service times that give `servers` the mean `load` over the span, int64[requests] ns."""
    mean_ns = load * servers * span_ns / max(requests, 1)
    return np.rint(rng.exponential(mean_ns, requests)).astype(np.int64)


def p99_wait_s(at_ns: Int64, span_ns: int, rng: np.random.Generator) -> float:
    """The 99th percentile of the wait in s, with exponential service times, at mean `LOAD` over `span_ns`.

    `at_ns` int64[n] ascending, at least one.
    """
    service_ns = service_times_ns(len(at_ns), span_ns, rng, SERVERS, LOAD)
    return float(np.quantile(waits_ns(at_ns, service_ns, SERVERS), 0.99)) / 1e9
