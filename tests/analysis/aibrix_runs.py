"""Real per-request results of vLLM behind AIBrix gateways, as runs: paired by user and question."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
from made_runs import MadeRun, S, metadata

from replay.analysis.run_table import RunTable
from replay.engine.run_format import RUN_SCHEMA


def read_results(path: Path, label: str) -> RunTable:
    """A run from a result file of AIBrix's regression benchmark; raises `KeyError` for another kind of CSV.

    The files hold no due instants, so launches stand for them: coordinated omission can't be excluded.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    column = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    launch = column["launch_time"] - column["launch_time"].min()
    made = MadeRun(
        due_ns=launch * S,
        ttft_ns=column["ttft"] * S,
        e2e_ns=(column["finish_time"] - column["launch_time"]) * S,
        tokens=np.maximum(column["generation_tokens"], 1).astype(np.int64),
    ).table()
    keys = [f"user {int(float(row['user_id']))}, question {int(float(row['question_id']))}" for row in rows]
    named = made.set_column(0, RUN_SCHEMA.field("request_id"), pa.array(keys))
    return RunTable.of(named, metadata(scheduled=len(rows), label=label))
