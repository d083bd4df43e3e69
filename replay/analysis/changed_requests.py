"""The requests whose answers changed most between two runs, each with its instants in both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from replay.analysis.change_values import ChangedRequest, RequestTimeline
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import Pairs
from replay.analysis.run_table import Ints, Labels, RunTable

MOST_REQUESTS = 10
MOST_FAILED = 5
MOST_READS = 120


def changed_requests(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> tuple[ChangedRequest, ...]:
    """At most ten: first up to five that the candidate alone fails, then the largest changes of E2E from due.

    Changes count in ns, whichever way they go. Failures come in the order of the instants they were due.
    """
    ok = baseline.ok[pairs.baseline], candidate.ok[pairs.candidate]
    failed = np.flatnonzero(ok[0] & candidate.run.failed[pairs.candidate])[:MOST_FAILED]
    change_ns = candidate.e2e_ns("due")[pairs.candidate] - baseline.e2e_ns("due")[pairs.baseline]
    size = np.where(ok[0] & ok[1], np.abs(change_ns), -1.0)
    few = min(MOST_REQUESTS, len(size))
    largest = np.argpartition(-size, few - 1)[:few] if few else np.empty(0, dtype=np.int64)
    largest = largest[np.lexsort((largest, -size[largest]))]
    moved = largest[size[largest] > 0]
    return tuple(_requests(pairs, baseline.run, candidate.run, np.concatenate([failed, moved]), change_ns))


def _requests(
    pairs: Pairs, baseline: RunTable, candidate: RunTable, chosen: Ints, change_ns: np.ndarray
) -> Iterator[ChangedRequest]:
    for pair in chosen[:MOST_REQUESTS]:
        before, after = int(pairs.baseline[pair]), int(pairs.candidate[pair])
        yield ChangedRequest(
            request_id=str(baseline.request_key[before].as_py()).rpartition("\x1f")[0],
            copy=int(baseline.copy[before]),
            endpoint=label_of(baseline.endpoint, before),
            model=label_of(baseline.model, before),
            phase=label_of(baseline.phase, before),
            input_tokens=float(np.fmax(baseline.input_tokens[before], candidate.input_tokens[after])),
            change_ns=float(change_ns[pair]),
            baseline=request_timeline(baseline, before),
            candidate=request_timeline(candidate, after),
        )


def request_timeline(run: RunTable, row: int) -> RequestTimeline:
    """The instants of one row of a run, its reads thinned evenly to at most 120."""
    reads = run.chunk_ns[run.chunk_at[row] : run.chunk_at[row + 1]]
    shown = reads
    if len(reads) > MOST_READS:
        shown = reads[np.linspace(0, len(reads) - 1, MOST_READS).round().astype(np.int64)]
    return RequestTimeline(
        due_ns=float(run.due_ns[row]) if run.due_stated else float("nan"),
        sent_ns=float(run.sent_ns[row]),
        first_byte_ns=float(run.first_byte_ns[row]),
        first_token_ns=float(run.first_token_ns[row]),
        read_ns=tuple(float(instant) for instant in shown),
        reads=len(reads),
        end_ns=float(run.end_ns[row]),
        status=int(run.status[row]),
        error=label_of(run.error, row),
        output_tokens=float(run.output_tokens[row]),
        connection_reused=bool(run.connection_reused[row]),
    )


def label_of(labels: Labels, row: int) -> str:
    """The text of a row, "" where there is none."""
    code = int(labels.codes[row])
    return labels.names[code] if code >= 0 else ""
