"""TTFT, TPOT, ITL and E2E of every request, with their formulas; what becomes of them is decided elsewhere.

The field's tools disagree about these names, so each formula stands in its function's docstring. Only a
request that was answered whole, without error and with a status of 2xx has latencies: the time to an
error says nothing about the service.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from replay.analysis.run_table import Bools, Floats, Ints, RunTable


@dataclasses.dataclass(frozen=True)
class Sample:
    """Values of one metric in ns (float64, none missing), and the row of the run that each belongs to."""

    values_ns: Floats
    row: Ints


@dataclasses.dataclass(frozen=True)
class Latencies:
    """The latencies of one run, computed when asked for: float64 ns per row, NaN where undefined."""

    run: RunTable

    @cached_property
    def ok(self) -> Bools:
        """Which requests have latencies at all, bool per row."""
        return self.run.ok

    def ttft_ns(self, clock: str) -> Floats:
        """TTFT = the read with the first generated content − start, for requests that asked for a stream.

        As vLLM's `benchmark_serving` and OpenTelemetry's `gen_ai.server.time_to_first_token`: a role chunk
        or an empty delta is no token. A response that is not streamed shows no first token, so it has none.
        """
        shown = self.ok & self.run.stream
        return np.where(shown, self.run.first_token_ns - self._start_ns(clock), np.nan)

    def e2e_ns(self, clock: str) -> Floats:
        """E2E = the last byte of the response − start; start is the due or the sent instant."""
        return np.where(self.ok, self.run.end_ns - self._start_ns(clock), np.nan)

    def tpot_ns(self) -> Floats:
        """TPOT = (E2E − TTFT)/(n − 1) = (end − first token)/(n − 1), n output tokens by the server's count.

        As vLLM and OpenTelemetry's `gen_ai.server.time_per_output_token`. Undefined when n < 2, or when the
        server gave no usage: events are not passed off as tokens.
        """
        n = self.run.output_tokens
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = (self.run.end_ns - self.run.first_token_ns) / (n - 1)
        return np.where(self.ok & self.run.stream & (n >= 2), tpot, np.nan)

    @cached_property
    def itl(self) -> Sample:
        """ITL = gaps between successive token-bearing reads of a streamed response.

        Events that arrived in one read share one instant and count as one, so that coalesced reads don't
        pass for a fast model.
        """
        run = self.run
        owner = np.repeat(np.arange(len(run)), np.diff(run.chunk_at))
        bearing = (run.chunk_tokens > 0) & (self.ok & run.stream)[owner]
        owner, instants = owner[bearing], run.chunk_ns[bearing]
        within = owner[1:] == owner[:-1]
        return Sample(np.diff(instants)[within].astype(np.float64), owner[1:][within])

    def sample(self, metric: str, clock: str) -> Sample:
        """The defined values of a metric of `values.METRICS` on a clock of `values.CLOCKS`, in row order.

        Raises `ValueError` for another metric.
        """
        if metric == "itl":
            return self.itl
        row = np.flatnonzero(~np.isnan(values := self.per_request_ns(metric, clock)))
        return Sample(values[row], row)

    def per_request_ns(self, metric: str, clock: str) -> Floats:
        """A metric that has one value a request; raises `ValueError` for any other."""
        if metric == "ttft":
            return self.ttft_ns(clock)
        if metric == "e2e":
            return self.e2e_ns(clock)
        if metric == "tpot":
            return self.tpot_ns()
        raise ValueError(f"{metric!r} is no metric with one value a request")

    def _start_ns(self, clock: str) -> Floats:
        if clock not in ("due", "sent"):
            raise ValueError(f"{clock!r} is no clock")
        return self.run.due_ns if clock == "due" else self.run.sent_ns


def clocks_of(metric: str) -> tuple[str, ...]:
    """The clocks a metric is given on: ITL and TPOT know no start, so they appear once, under `due`."""
    return ("due", "sent") if metric in ("ttft", "e2e") else ("due",)
