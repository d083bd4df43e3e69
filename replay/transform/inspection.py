"""What a trace or a schedule holds, in numbers: counts, rate over time, sessions, sizes. Pure functions."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from capture.trace_format import COMPLETE
from capture.trace_reader import Trace
from replay.transform.burst_curve import WINDOWS_S, dispersion

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

MOST_BUCKETS: Final = 120
COARSE_TICK_NS: Final = 1_000_000_000
YEAR_S: Final = 365.25 * 86400
LONGEST_SPAN_S: Final = 10 * YEAR_S
NEVER_SEEN: Final = "never seen"
"""Stands among outcomes for answers of which the source knows nothing but their length."""
_BUCKETS_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 300, 900, 3600, 21600, 86400)


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """Requests per second over time: bucket starts in s, float64[k], and the rate in each, float64[k]."""

    width_s: float
    start_s: Float64
    per_s: Float64


@dataclasses.dataclass(frozen=True)
class TraceFacts:
    """What `peaktape inspect` says of a trace. Rates per second, spans in s, sizes in bytes."""

    name: str
    fingerprint: str
    source: str
    upstreams: tuple[str, ...]
    rows: int
    span_s: float
    mean_per_s: float
    peak_1s_per_s: float
    sessions: int
    multi_turn_sessions: int
    longest_session_turns: int
    endpoints: Mapping[str, int]
    models: Mapping[str, int]
    outcomes: Mapping[str, int]
    statuses: Mapping[str, int]
    streams: int
    request_body_bytes: int
    input_tokens: int
    output_tokens: int
    rows_with_usage: int
    counts: Mapping[str, Any]
    sampling: str
    choice: Mapping[str, Any]
    redaction: Mapping[str, Any]
    dispersion: Mapping[str, float]
    """Index of dispersion for counts (variance/mean) by window, where at least 10 windows fit."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    rate: RateCurve


def rate_curve(at_ns: Int64) -> RateCurve:
    """Rate of events at `at_ns` (int64 ns, ascending from about 0), in at most `MOST_BUCKETS` buckets."""
    width_s = bucket_width_s((int(at_ns[-1]) if len(at_ns) else 0) / 1e9)
    counts = np.bincount((at_ns // round(width_s * 1e9)).astype(np.int64))
    return RateCurve(
        width_s, np.arange(len(counts), dtype=np.float64) * width_s, counts.astype(np.float64) / width_s
    )


def bucket_width_s(span_s: float) -> float:
    """The width in s of a rate curve's buckets, so that at most `MOST_BUCKETS` cover the span."""
    days = math.ceil(span_s / MOST_BUCKETS / 86400)
    return next((width for width in _BUCKETS_S if span_s / width <= MOST_BUCKETS), 86400.0 * days)


def span_warnings(arrival_ns: Int64) -> tuple[str, ...]:
    """A doubt about a trace that spans more than `LONGEST_SPAN_S`: its instants are hardly offsets."""
    span_s = int(arrival_ns[-1] - arrival_ns[0]) / 1e9
    if span_s <= LONGEST_SPAN_S:
        return ()
    return (
        f"arrivals span {span_s / YEAR_S:,.0f} years: arrival_ns must be ns from the trace's zero; "
        "was it made with another unit, or with a wall clock?",
    )


def gap_warnings(recorded_ns: Sequence[tuple[int, int | None]]) -> tuple[str, ...]:
    """A doubt where recording was off between spans (start, end; None where unknown) in which it was on."""
    gaps_ns: list[int] = []
    until_ns: int | None = None
    for start_ns, end_ns in sorted(recorded_ns, key=lambda span: span[0]):
        if until_ns is not None and start_ns > until_ns:
            gaps_ns.append(start_ns - until_ns)
        if end_ns is None:
            break
        until_ns = end_ns if until_ns is None else max(until_ns, end_ns)
    if not gaps_ns:
        return ()
    times = "once" if len(gaps_ns) == 1 else f"{len(gaps_ns):,} times"
    return (f"recording was off {times}, {sum(gaps_ns) / 1e9:.3g} s in all: no arrivals there is no quiet",)


def clock_warnings(arrival_ns: Int64, stated_tick_ns: int = 1) -> tuple[str, ...]:
    """Doubts about a trace's clock: a coarse tick (as its source states, or as seen), or no time passing."""
    if len(arrival_ns) < 20:
        return ()
    if arrival_ns[-1] == arrival_ns[0]:
        return ("all requests have the same arrival instant: the source's clock was lost",)
    gaps = np.diff(arrival_ns)
    gaps = gaps[gaps > 0]
    ties = 1 - len(gaps) / (len(arrival_ns) - 1)
    typical_ns = int(np.median(gaps))
    tick_ns = max(stated_tick_ns, int(np.gcd.reduce(gaps)))
    if tick_ns < COARSE_TICK_NS and ties > 0.5 and typical_ns >= COARSE_TICK_NS / 2:
        tick_ns = typical_ns
    if tick_ns < COARSE_TICK_NS / 2:
        return ()
    rounded = f"the clock ticks every {tick_ns / 1e9:.3g} s"
    return (f"{rounded} ({ties:.0%} of arrivals tie): bursts shorter than some ticks are not real",)


def inspect_trace(trace: Trace) -> TraceFacts:
    """All facts of a trace, from its light columns and, batch by batch, the sizes of its bodies."""
    arrival_ns = trace.arrival_ns - trace.arrival_ns[0]
    span_s = float(arrival_ns[-1]) / 1e9
    tally: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    sessions: collections.Counter[str] = collections.Counter()
    totals: collections.Counter[str] = collections.Counter()
    columns = ["session_id", "method", "path", "model", "outcome", "status", "stream"]
    columns += ["input_tokens", "output_tokens"]
    for batch in trace.iter_batches([*columns, "request_body"]):
        totals["body_bytes"] += pc.sum(pc.binary_length(batch.column("request_body"))).as_py() or 0
        for row in batch.select(columns).to_pylist():
            _tally(row, tally, sessions, totals)
    windows = {f"{window:g}s": dispersion(arrival_ns, window) for window in WINDOWS_S}
    return TraceFacts(
        name=trace.name,
        fingerprint=trace.fingerprint,
        source=trace.metadata.source,
        upstreams=trace.metadata.upstreams,
        rows=trace.rows,
        span_s=span_s,
        mean_per_s=trace.rows / span_s if span_s > 0 else float("nan"),
        peak_1s_per_s=float(np.unique(arrival_ns // 1_000_000_000, return_counts=True)[1].max()),
        sessions=len(sessions) + totals["without_session"],
        multi_turn_sessions=sum(1 for turns in sessions.values() if turns > 1),
        longest_session_turns=max(sessions.values(), default=1),
        endpoints=dict(tally["endpoint"].most_common()),
        models=dict(tally["model"].most_common()),
        outcomes=dict(tally["outcome"].most_common()),
        statuses=dict(sorted(tally["status"].items())),
        streams=totals["streams"],
        request_body_bytes=totals["body_bytes"],
        input_tokens=totals["input_tokens"],
        output_tokens=totals["output_tokens"],
        rows_with_usage=totals["with_usage"],
        counts=trace.metadata.counts,
        sampling=trace.metadata.sampling,
        choice=trace.metadata.choice,
        redaction=trace.metadata.redaction,
        dispersion={name: value for name, value in windows.items() if value is not None},
        notes=trace.metadata.notes,
        warnings=(
            *span_warnings(arrival_ns),
            *clock_warnings(arrival_ns, trace.metadata.clock_tick_ns),
            *gap_warnings(trace.metadata.recorded_ns),
        ),
        rate=rate_curve(arrival_ns),
    )


def _tally(
    row: Mapping[str, Any],
    tally: Mapping[str, collections.Counter[str]],
    sessions: collections.Counter[str],
    totals: collections.Counter[str],
) -> None:
    tally["endpoint"][f"{row['method']} {row['path'].partition('?')[0]}"] += 1
    tally["model"][row["model"] or "(none)"] += 1
    # Importers of lengths call requests complete that their source lists as served; no answer was seen.
    unseen = row["outcome"] == COMPLETE and row["status"] is None
    tally["outcome"][NEVER_SEEN if unseen else row["outcome"]] += 1
    tally["status"]["none" if row["status"] is None else str(row["status"])] += 1
    if row["session_id"] is None:
        totals["without_session"] += 1
    else:
        sessions[row["session_id"]] += 1
    totals["streams"] += bool(row["stream"])
    if row["output_tokens"] is not None or row["input_tokens"] is not None:
        totals["with_usage"] += 1
    totals["input_tokens"] += row["input_tokens"] or 0
    totals["output_tokens"] += row["output_tokens"] or 0
