"""A whole replay for tests: a trace on disk, a schedule, real worker processes, a run read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace
from replay.engine.connecting import Connecting
from replay.engine.requests import Rewrite
from replay.engine.run_format import DROP, OPEN, RunMetadata, read_run
from replay.engine.run_writer import RunWriter
from replay.engine.scraping import ScrapeJob
from replay.engine.supervisor import Progress, ReplayOrder, Supervisor
from replay.engine.target import parse_target, resolve
from replay.transform.plan import Plan, apply_plan, rows_of_trace
from replay.transform.schedule_format import Lineage, write_schedule
from tests.trace_rows import trace_row

MS = 1_000_000


def request(number: int, arrival_ns: int, path: str = "/v1/embeddings", **body: Any) -> dict[str, Any]:
    """A trace row: a POST of a JSON body."""
    content = {"model": "demo-embed", "input": "a word or two"} | body
    return trace_row(
        number,
        arrival_ns,
        path=path,
        request_headers=[("content-type", "application/json"), ("authorization", "REDACTED")],
        request_body=json.dumps(content).encode(),
        stream=bool(content.get("stream")),
    )


def chat(number: int, arrival_ns: int, tokens: int = 5) -> dict[str, Any]:
    """A streamed chat that is answered with so many tokens."""
    return request(
        number,
        arrival_ns,
        "/v1/chat/completions",
        model="demo-chat",
        messages=[{"role": "user", "content": f"say number {number}"}],
        max_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
    )


@dataclasses.dataclass
class Replayed:
    """A finished replay."""

    rows: dict[tuple[str, int], dict[str, Any]]
    table: pa.Table
    metadata: RunMetadata
    supervisor: Supervisor


def replay_rows(
    folder: Path,
    rows: list[dict[str, Any]],
    target_url: str,
    *,
    plan: Plan | None = None,
    workers: int = 1,
    timeout_s: float = 20.0,
    rewrite: Rewrite | None = None,
    sender: str = "session",
    connecting: Mapping[str, Any] | None = None,
    mode: str = OPEN,
    weaving: bool = False,
    bodies: str = DROP,
    scrape: ScrapeJob | None = None,
    on_progress: Callable[[Supervisor, Progress], None] = lambda supervisor, progress: None,
) -> Replayed:
    """Replay `rows` at `target_url` with real workers; every row of the run by (request_id, copy)."""
    write_trace(folder / "trace.parquet", [batch_of(rows)], TraceMetadata(0, "test"), overwrite=True)
    trace = open_trace(folder / "trace.parquet")
    schedule = apply_plan(rows_of_trace(trace)[0], plan or Plan())
    lineage = Lineage(trace.name, trace.fingerprint, trace.rows, (), 0)
    write_schedule(folder / "schedule.parquet", schedule, lineage, overwrite=True)
    target = parse_target(target_url)
    target = dataclasses.replace(target, addresses=tuple(sorted(resolve(target.host, target.port))))
    order = ReplayOrder(
        schedule_path=folder / "schedule.parquet",
        schedule=schedule,
        lineage=lineage,
        schedule_fingerprint="of the test",
        trace=trace,
        connecting=Connecting(
            **{"target": target, "timeout_s": timeout_s, "connect_timeout_s": 5.0} | dict(connecting or {})
        ),
        sender=sender,
        sender_reason="the test's choice",
        rewrite=rewrite or Rewrite(),
        label="test",
        workers=workers,
        lead_ns=20 * MS,
        mode=mode,
        weaving=weaving,
        bounds={},
        command=(),
        scrape=scrape,
    )
    supervisor = Supervisor(
        order, RunWriter(folder / "run.parquet", bodies), lambda progress: on_progress(supervisor, progress)
    )
    supervisor.run()
    table, metadata = read_run(folder / "run.parquet")
    found = {(row["request_id"], row["copy"]): row for row in table.to_pylist()}
    assert len(found) == table.num_rows == len(schedule), "every scheduled request is exactly one row"
    return Replayed(found, table, metadata, supervisor)
