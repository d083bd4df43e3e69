"""A run over time: rates, errors, requests in flight and latencies per bucket."""

from __future__ import annotations

import itertools

import numpy as np

from replay.analysis.metrics import Latencies, Sample
from replay.analysis.phases import BASE, stretches
from replay.analysis.quantiles import harrell_davis_of_ordered
from replay.analysis.run_table import Floats, Ints, RunTable
from replay.analysis.values import Timeline

MOST_BUCKETS = 200
FEWEST_BUCKETS = 20
REQUESTS_A_BUCKET = 20
_STEPS = (1.0, 2.0, 5.0)
_FEWEST_FOR_TAIL = 5


def bucket_width_s(duration_s: float, requests: int) -> float:
    """The smallest width of 1, 2 or 5 × 10^k s, from 1 ms up, for few and full enough buckets.

    At most 200 of them, and some 20 requests in each on average, as far as that leaves 20 buckets: with
    fewer requests a bucket's p99 is its largest value, and a line of them scraps.
    """
    most = max(FEWEST_BUCKETS, min(MOST_BUCKETS, requests // REQUESTS_A_BUCKET))
    power = 1e-3
    while True:
        for step in _STEPS:
            if duration_s <= most * step * power:
                return step * power
        power *= 10.0


def duration_s(run: RunTable) -> float:
    """From the run's zero to the last instant of any request, in s; 0 for an empty run."""
    if len(run) == 0:
        return 0.0
    last = np.fmax(np.fmax(run.due_ns, run.sent_ns), run.end_ns)
    return float(max(last.max(), 0.0)) / 1e9


def timeline(latencies: Latencies, width_s: float | None = None) -> Timeline:
    """Buckets from the run's zero; requests fall into the bucket of their due instant, except `sent_per_s`.

    `in_flight` is the mean number over the bucket, of all workers. A latency quantile of a bucket is NaN
    without values, and p99 is the bucket's largest value for want of more when there are fewer than 100.
    The buckets are `width_s` wide, or as wide as `bucket_width_s` finds good.
    """
    run = latencies.run
    length_s = duration_s(run)
    width = width_s or bucket_width_s(length_s, len(run))
    buckets = max(1, int(np.ceil(length_s / width)))
    due = _bucket(run.due_ns, width, buckets)
    failed = latencies.run.failed
    sent = _bucket(run.sent_ns[run.sent], width, buckets)
    e2e = _quantiles(due, latencies.ordered("e2e", "due"), buckets)
    ttft = _quantiles(due, latencies.ordered("ttft", "due"), buckets)
    return Timeline(
        width_s=width,
        scheduled_per_s=_rate(due, width, buckets),
        sent_per_s=_rate(sent, width, buckets),
        errors_per_s=_rate(due[failed], width, buckets),
        in_flight=_in_flight(run, width, buckets),
        e2e_p50_ns=e2e[0],
        e2e_p90_ns=e2e[1],
        e2e_p99_ns=e2e[2],
        ttft_p50_ns=ttft[0],
        ttft_p90_ns=ttft[1],
        ttft_p99_ns=ttft[2],
        phases=tuple(
            (piece.phase, piece.start_s, piece.end_s) for piece in stretches(run) if piece.phase != BASE
        ),
    )


def _bucket(instant_ns: Floats, width_s: float, buckets: int) -> Ints:
    return np.clip((instant_ns / (width_s * 1e9)).astype(np.int64), 0, buckets - 1)


def _rate(bucket: Ints, width_s: float, buckets: int) -> tuple[float, ...]:
    return tuple((np.bincount(bucket, minlength=buckets) / width_s).tolist())


def _quantiles(bucket: Ints, sample: Sample, buckets: int) -> tuple[tuple[float, ...], ...]:
    """p50, p90 and p99 per bucket, of an ascending sample.

    Below 100 values p99 is the largest; it and p90 need at least 5 to be shown.
    """
    kept = bucket[sample.row].astype(np.int16)
    order = np.argsort(kept, kind="stable")
    kept, ordered = kept[order], sample.values_ns[order]
    edges = np.searchsorted(kept, np.arange(buckets + 1))
    found = []
    for first, last in itertools.pairwise(edges):
        inside = ordered[first:last]
        p50, p90, p99 = harrell_davis_of_ordered(inside, (0.5, 0.9, 0.99)) if len(inside) else (np.nan,) * 3
        if len(inside) < 100:
            p99 = inside[-1] if len(inside) >= _FEWEST_FOR_TAIL else np.nan
        found.append((p50, p90 if len(inside) >= _FEWEST_FOR_TAIL else np.nan, p99))
    return tuple(tuple(map(float, values)) for values in zip(*found, strict=True))


def _in_flight(run: RunTable, width_s: float, buckets: int) -> tuple[float, ...]:
    """Time in flight that falls into each bucket, over its width; a request without an end counts nothing."""
    known = run.sent & ~np.isnan(run.end_ns)
    edges = np.arange(buckets + 1, dtype=np.float64) * (width_s * 1e9)
    busy = _busy_until(edges, run.sent_ns[known]) - _busy_until(edges, run.end_ns[known])
    return tuple((np.diff(busy) / (width_s * 1e9)).tolist())


def _busy_until(edges_ns: Floats, start_ns: Floats) -> Floats:
    """Σ max(edge − start, 0) per edge."""
    ordered = np.sort(start_ns)
    before = np.searchsorted(ordered, edges_ns)
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    return np.asarray(before * edges_ns - total[before])
