"""Which single requests are shown of a run of any size: of every window of time the same few, always.

Half of a window's are those that took longest. Some that failed come next. The others are spread evenly over
the rest in the order of how long they took, so that they stand for the fast ones as well as for the slow
ones. No chance is involved: a page made again shows the same requests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from replay.analysis.changed_requests import label_of, request_timeline
from replay.analysis.pairing import Pairs
from replay.analysis.run_table import Bools, Floats, Ints, RunTable
from replay.analysis.time_values import FAILED, SAMPLED, SLOWEST, ShownRequest, Waterfall, Window

MOST_TIMELINES: Final = 2000
"""Of all windows and both runs together: what a page can carry."""

MOST_WINDOWS: Final = 50
MOST_LANES: Final = 60
"""Of one window: what an eye can take in."""

_FAILED_SHARE: Final = 5


def run_waterfall(run: RunTable, bucket_s: float) -> Waterfall:
    """Single requests of one run, in windows of one or more whole buckets of `bucket_s`."""
    rows = np.arange(len(run))
    return _waterfall((run,), (rows,), bucket_s)


def paired_waterfall(pairs: Pairs, baseline: RunTable, candidate: RunTable, bucket_s: float) -> Waterfall:
    """The same requests of two runs; one counts by the longer of its two times, and as failed if it did once.

    A pair belongs to the window in which the baseline's request was due.
    """
    return _waterfall((baseline, candidate), (pairs.baseline, pairs.candidate), bucket_s)


def took_ns(run: RunTable) -> Floats:
    """From due to the last known instant of each request, float64 ns per row; 0 if it was not sent."""
    last = np.fmax(np.fmax(run.sent_ns, run.first_byte_ns), run.end_ns)
    return np.nan_to_num(last - run.due_ns, nan=0.0)


def choose(took: Floats, failed: Bools, most: int) -> Iterator[tuple[int, str]]:
    """At most `most` of the requests of a window, as (index, why), each once, in no order that matters.

    `took` is float64 and `failed` bool, one entry a request.
    """
    by_time = np.argsort(-took, kind="stable")
    slow = by_time[: most - most // 2]
    left = by_time[len(slow) :]
    wrong = left[failed[left]][: most // _FAILED_SHARE]
    left = left[~np.isin(left, wrong)]
    room = min(most - len(slow) - len(wrong), len(left))
    spread = left[np.linspace(0, len(left) - 1, room).round().astype(np.int64)] if room else left[:0]
    for chosen, why in ((slow, SLOWEST), (wrong, FAILED), (spread, SAMPLED)):
        yield from ((int(index), why) for index in chosen)


def most_of_each(due: Ints, lanes: int) -> int:
    """How many requests of each window can be shown, `lanes` timelines each; `due` counts them by window."""
    most = MOST_LANES // lanes
    while most > 1 and lanes * int(np.minimum(due, most).sum()) > MOST_TIMELINES:
        most -= 1
    return most


def _waterfall(runs: Sequence[RunTable], rows: Sequence[Ints], bucket_s: float) -> Waterfall:
    due_ns = runs[0].due_ns[rows[0]]
    if not len(due_ns):
        return Waterfall(bucket_s, (), len(runs) == 2)
    buckets = 1 + int(max(due_ns.max(initial=0.0), 0.0) / (bucket_s * 1e9))
    width_s = bucket_s * -(-buckets // MOST_WINDOWS)
    window = np.maximum(due_ns / (width_s * 1e9), 0).astype(np.int64)
    order = np.lexsort((due_ns, window))
    edges = np.searchsorted(window[order], np.arange(int(window.max(initial=0)) + 2))
    most = most_of_each(np.diff(edges), len(runs))
    took = np.maximum.reduce([took_ns(run)[row] for run, row in zip(runs, rows, strict=True)])
    failed = np.logical_or.reduce([run.failed[row] for run, row in zip(runs, rows, strict=True)])
    windows = []
    for first, last in itertools.pairwise(edges):
        inside = order[first:last]
        chosen = sorted(choose(took[inside], failed[inside], most))
        shown = (_shown(runs, [row[inside[at]] for row in rows], why) for at, why in chosen)
        windows.append(Window(len(inside), tuple(shown)))
    return Waterfall(width_s, tuple(windows), len(runs) == 2)


def _shown(runs: Sequence[RunTable], rows: Sequence[int], why: str) -> ShownRequest:
    run, row = runs[0], int(rows[0])
    return ShownRequest(
        request_id=str(run.request_key[row].as_py()).rpartition("\x1f")[0],
        copy=int(run.copy[row]),
        endpoint=label_of(run.endpoint, row),
        model=label_of(run.model, row),
        phase=label_of(run.phase, row),
        input_tokens=float(run.input_tokens[row]),
        why=why,
        lines=tuple(request_timeline(one, int(at)) for one, at in zip(runs, rows, strict=True)),
    )
