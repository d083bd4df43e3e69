"""TTFT, TPOT, ITL and E2E of every request, with their formulas; what becomes of them is decided elsewhere.

The field's tools disagree about these names, so each formula stands in its function's docstring. Only a
request that was answered whole, without error and with a status of 2xx has latencies: the time to an
error says nothing about the service.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import numpy.typing as npt

from replay.analysis.run_table import Bools, Floats, RunTable


@dataclasses.dataclass(frozen=True)
class Sample:
    """Values of one metric in ns (float64, of ITL float32; none missing), and the row of each in the run.

    ITL has by far the most values, and 1 in 10^7 of a gap is nothing: so it is kept in half the bytes, as
    `row` (an integer a value) is.
    """

    values_ns: npt.NDArray[np.floating]
    row: npt.NDArray[np.integer]

    def kept(self, rows: Bools) -> Sample:
        """The values of the `rows` (bool per row of the run), in the same order."""
        if not rows.any():
            return Sample(self.values_ns[:0], self.row[:0])
        chosen = rows[self.row]
        return Sample(self.values_ns[chosen], self.row[chosen])

    def sorted(self) -> Sample:
        """The sample in ascending order of value."""
        values, row = self.values_ns, self.row
        if values.dtype == np.float32 and row.dtype == np.int32 and len(row) and values.min() >= 0:
            # Floats that are not negative sort as their bits do: one sort in place, and no gathering.
            packed = values.view(np.uint32).astype(np.uint64) << 32
            packed |= row.view(np.uint32)
            packed.sort()
            halves = packed.view(np.uint32).reshape(-1, 2)  # little-endian, as all that pyarrow runs on
            return Sample(halves[:, 1].copy().view(np.float32), halves[:, 0].copy().view(np.int32))
        order = np.argsort(values)
        return Sample(values[order], row[order])


@dataclasses.dataclass(frozen=True)
class Latencies:
    """The latencies of one run, computed when asked for: float64 ns per row, NaN where undefined."""

    run: RunTable
    _ordered: dict[tuple[str, str], tuple[Sample, Bools]] = dataclasses.field(
        default_factory=dict, repr=False
    )

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

    @property
    def itl(self) -> Sample:
        """ITL = gaps between successive token-bearing reads of a streamed response.

        Events that arrived in one read share one instant and count as one, so that coalesced reads don't
        pass for a fast model.
        """
        run = self.run
        owner = np.repeat(np.arange(len(run), dtype=np.int32), np.diff(run.chunk_at))
        bearing = (run.chunk_tokens > 0) & (self.ok & run.stream)[owner]
        owner, instants = owner[bearing], run.chunk_ns[bearing]
        within = owner[1:] == owner[:-1]
        return Sample(np.diff(instants)[within].astype(np.float32), owner[1:][within])

    def sample(self, metric: str, clock: str) -> Sample:
        """The defined values of a metric of `values.METRICS` on a clock of `values.CLOCKS`, in row order.

        Raises `ValueError` for another metric.
        """
        if metric == "itl":
            return self.itl
        row = np.flatnonzero(~np.isnan(values := self.per_request_ns(metric, clock)))
        return Sample(values[row], row)

    def ordered(self, metric: str, clock: str, rows: Bools | None = None) -> Sample:
        """As `sample`, in ascending order of value, of all requests or of `rows` (bool per row).

        The order is found once: every group of requests takes its part of it.
        """
        key = (metric, clock)
        if key not in self._ordered:
            sample = self.sample(metric, clock)
            shown = np.zeros(len(self.run), dtype=np.bool_)
            shown[sample.row] = True
            self._ordered[key] = sample.sorted(), shown
        sample, shown = self._ordered[key]
        return sample if rows is None or np.array_equal(rows & shown, shown) else sample.kept(rows & shown)

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


def clocks_of(metric: str, *, due_stated: bool = True) -> tuple[str, ...]:
    """The clocks a metric is given on: ITL and TPOT know no start, so they appear once, under `due`.

    Of a run that states no due instants, TTFT and E2E are known from `sent` alone.
    """
    if metric not in ("ttft", "e2e"):
        return ("due",)
    return ("due", "sent") if due_stated else ("sent",)
