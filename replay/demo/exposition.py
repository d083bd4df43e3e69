"""The demo server's own metrics, in Prometheus' text format (version 0.0.4), named after vLLM's.

Counting and formatting only: the server says what happened, and reads no clock here.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from typing import Final

PREFIX: Final = "peaktape_demo:"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

TTFT_BOUNDS_S: Final = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
E2E_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0)
QUEUE_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """Counts of observations in seconds up to each bound, cumulative only when read."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation; a value equal to a bound is within it."""
        self._counts[bisect.bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The histogram's samples; `labels` is "key="value"" or empty."""
        total, comma = 0, "," if labels else ""
        for bound, count in zip((*self._bounds_s, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {total}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self._sum_s:.6f}"
        yield f"{name}_count{braces} {total}"


class ServerMetrics:
    """What the server has done since it started."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._ttft = Histogram(TTFT_BOUNDS_S)
        self._queue = Histogram(QUEUE_BOUNDS_S)
        self._e2e: dict[str, Histogram] = {}

    def ended(self, endpoint: str, status: str, seconds: float) -> None:
        """A request to `endpoint` ended; `status` is the HTTP status or "client_gone"."""
        self._requests[endpoint, status] += 1
        self._e2e.setdefault(endpoint, Histogram(E2E_BOUNDS_S)).observe(seconds)

    def queued(self, seconds: float) -> None:
        """A request got a slot after this wait."""
        self._queue.observe(seconds)

    def first_token(self, seconds: float) -> None:
        """A chat's first token was said this long after the request was read."""
        self._ttft.observe(seconds)

    def tokens(self, prompt: int, generated: int) -> None:
        """Tokens of a request that was served."""
        self._prompt_tokens += prompt
        self._generation_tokens += generated

    def text(self, running: dict[str, int], waiting: dict[str, int], slots: dict[str, int]) -> str:
        """All metrics; the three arguments are gauges per station, as they are now."""
        lines: list[str] = []

        def family(name: str, kind: str, samples: Iterator[str] | list[str], about: str) -> None:
            lines.extend((f"# HELP {PREFIX}{name} {about}", f"# TYPE {PREFIX}{name} {kind}", *samples))

        for name, gauge, about in (
            ("num_requests_running", running, "Requests that hold a slot."),
            ("num_requests_waiting", waiting, "Requests in the queue."),
            ("num_slots", slots, "Slots there are."),
        ):
            samples = [f'{PREFIX}{name}{{station="{key}"}} {value}' for key, value in gauge.items()]
            family(name, "gauge", samples, about)
        counted = [
            f'{PREFIX}request_total{{endpoint="{endpoint}",status="{status}"}} {count}'
            for (endpoint, status), count in sorted(self._requests.items())
        ]
        family("request_total", "counter", counted, "Requests that ended.")
        for name, value in (
            ("prompt_tokens_total", self._prompt_tokens),
            ("generation_tokens_total", self._generation_tokens),
        ):
            family(name, "counter", [f"{PREFIX}{name} {value}"], "Tokens of served requests.")
        for name, histogram, about in (
            ("time_to_first_token_seconds", self._ttft, "From the request's body to its first token."),
            ("request_queue_time_seconds", self._queue, "From the request's body to its slot."),
        ):
            family(name, "histogram", histogram.lines(PREFIX + name, ""), about)
        name = "e2e_request_latency_seconds"
        ends = [
            line
            for endpoint, histogram in sorted(self._e2e.items())
            for line in histogram.lines(PREFIX + name, f'endpoint="{endpoint}"')
        ]
        family(name, "histogram", ends, "From the request's body to its end.")
        return "\n".join(lines) + "\n"
