"""A run as CSV: a line per scheduled request, raw instants first, then the latencies derived from them.

Every time says its unit in its name; instants are ns from the run's zero, and `due_epoch_ns` is the wall
clock. Left out are lists (chunks) and bodies: those are read from the run itself, see `samples/queries`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from replay.analysis.metrics import Latencies
from replay.analysis.run_table import Floats
from replay.engine.run_format import RUN_SCHEMA

_WIDE: Final = frozenset({"chunk_ns", "chunk_bytes", "chunk_tokens", "body_sha256", "body"})
COLUMNS: Final = tuple(name for name in RUN_SCHEMA.names if name not in _WIDE)
"""Those of the run that a CSV holds as they are."""

DERIVED: Final = (
    *("due_epoch_ns", "ok", "lateness_ns", "ttft_ns", "ttft_from_sent_ns", "e2e_ns", "e2e_from_sent_ns"),
    *("tpot_ns", "reads", "token_reads"),
)
"""Latencies are from due unless the name says otherwise, and empty where the request has none (see
`analysis.metrics`); `reads` are pieces in which the body came, `token_reads` those with generated content."""


def csv_table(table: pa.Table, latencies: Latencies) -> pa.Table:
    """`COLUMNS` of a run's table and `DERIVED` of the same run, a row per scheduled request."""
    run = latencies.run
    derived = {
        "due_epoch_ns": pc.add(table.column("due_ns"), run.metadata.zero_wall_ns),
        "ok": pa.array(latencies.ok),
        "lateness_ns": _whole(run.lateness_ns),
        "ttft_ns": _whole(latencies.ttft_ns("due")),
        "ttft_from_sent_ns": _whole(latencies.ttft_ns("sent")),
        "e2e_ns": _whole(latencies.e2e_ns("due")),
        "e2e_from_sent_ns": _whole(latencies.e2e_ns("sent")),
        "tpot_ns": _whole(latencies.tpot_ns()),
        "reads": pa.array(np.diff(run.chunk_at)),
        "token_reads": pa.array(_token_reads(latencies)),
    }
    columns = [table.column(name) for name in COLUMNS] + [derived[name] for name in DERIVED]
    return pa.table(columns, names=[*COLUMNS, *DERIVED])


def _whole(values: Floats) -> pa.Array:
    missing = np.isnan(values)
    return pa.array(np.rint(np.where(missing, 0.0, values)).astype(np.int64), mask=missing)


def _token_reads(latencies: Latencies) -> np.ndarray:
    run = latencies.run
    before = np.concatenate([[0], np.cumsum(run.chunk_tokens > 0)])
    return np.asarray(before[run.chunk_at[1:]] - before[run.chunk_at[:-1]], dtype=np.int64)
