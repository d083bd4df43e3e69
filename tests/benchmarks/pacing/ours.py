"""The senders under test: `peaktape replay` as a user runs it, one worker, both ways of sending."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from loads import Instants
from processes import Ended
from senders import Job, Lateness, Places, Sender, by_number_us, spoken
from server import BenchmarkError, Stamps

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from capture.trace_format import TraceMetadata  # noqa: E402
from capture.trace_writer import batch_of, write_trace  # noqa: E402
from replay.engine.run_format import read_run  # noqa: E402

SMALL = {"model": "m", "prompt": "a word or two", "max_tokens": 1}


def row(number: int, arrival_ns: int, path: str = "/v1/completions", body: bytes = b"") -> dict[str, Any]:
    """A trace row that posts JSON: a small completion unless told otherwise."""
    return {
        "request_id": f"r{number}",
        "turn": 0,
        "arrival_ns": arrival_ns,
        "method": "POST",
        "scheme": "http",
        "host": "production.test:80",
        "path": path,
        "http_version": "HTTP/1.1",
        "request_headers": [("content-type", "application/json")],
        "request_body": body or json.dumps(SMALL).encode(),
        "request_body_ns": arrival_ns,
        "outcome": "complete",
        "response_bytes": 0,
        "chunk_ns": [],
        "chunk_bytes": [],
        "stream": "stream" in path,
    }


def replay_command(program: str, job: Job, sender: str, rows: list[dict[str, Any]]) -> Sequence[str]:
    """Write the rows as a trace into the job's folder; the command that replays it into run.parquet.

    Nothing is INVALID here whatever its lateness: lateness is what is measured.
    """
    write_trace(job.folder / "trace.parquet", [batch_of(rows)], TraceMetadata(0, "benchmark"), overwrite=True)
    return [
        *(program, "replay", "trace.parquet", "--target", job.url, "-o", "run.parquet"),
        *("--sender", sender, "--workers", "1", "--allow-captured-host"),
        *("--max-lateness-p99", "10s", "--max-lateness", "100s"),
    ]


def dues_ns(job: Job, ended: Ended) -> Instants:
    """The due instants by request number, on the server's clock, as the run tells them."""
    path = job.folder / "run.parquet"
    if not path.exists():
        raise BenchmarkError(f"peaktape said: {spoken(ended)}")
    table, metadata = read_run(path)
    numbers = np.array([int(name[1:]) for name in table["request_id"].to_pylist()])
    found = np.zeros(numbers.max() + 1, dtype=np.int64)
    found[numbers] = table["due_ns"].to_numpy() + metadata.zero_monotonic_ns
    return found


def _command(sender: str, program: str, job: Job) -> Sequence[str]:
    rows = [row(number, int(at_ns)) for number, at_ns in enumerate(job.load.offsets_ns)]
    return replay_command(program, job, sender, rows)


def _read(job: Job, ended: Ended, stamps: Stamps) -> Lateness:
    return by_number_us(dues_ns(job, ended), stamps)


def program(places: Places) -> str | None:
    """The `peaktape` beside the interpreter that runs this, else the one on PATH."""
    beside = Path(sys.executable).parent / "peaktape"
    return str(beside) if beside.exists() else places.find("peaktape", "peaktape")


def ours() -> list[Sender]:
    """Both senders of peaktape."""
    return [
        Sender(
            f"peaktape {sender}",
            "peaktape",
            functools.partial(_command, sender),
            takes_schedule=True,
            read=_read,
            find=program,
        )
        for sender in ("wire", "session")
    ]
