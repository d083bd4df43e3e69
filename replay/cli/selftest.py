"""The verb `selftest`: how punctual is a replay on this machine, and up to which rate?"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from replay.analysis.punctuality import Punctuality

BODY_BYTES: Final = 600
BURST_SHAPE: Final = 0.25
"""Gaps are gamma-distributed with this shape: a coefficient of variation of 2, as bursty traffic has it."""


def selftest(
    rates: Annotated[
        str, typer.Option(help="Requests per second to try, one after the other.")
    ] = "100,500,1000,2000,5000",
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long each rate is held.")] = 4.0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Worker processes; default as in replay.")
    ] = None,
    sender: Annotated[str, typer.Option(help="auto, session or wire, as in replay.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random bursts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")] = False,
) -> None:
    """Measure how punctual a replay is on this machine, before a run is trusted.

    Replays random bursts at each rate against a server in another process that stamps arrivals, and says
    up to which rate 99 of 100 requests arrive within 1 ms of their due instant. The server takes one core for
    itself, if there are two or more; a real run has that one too. Run it on the machine that will replay, and
    as busy as it will be. Exit codes: 0 fine, 1 not even the lowest rate was kept.

    \b
    Examples:
      peaktape selftest
      peaktape selftest --rates 1000,3000 --seconds 10 --workers 2
      peaktape selftest --json | jq .kept_up_to_per_s
    """
    import json

    from rich.console import Console

    from capture.failures import EXIT_REGRESSION
    from replay.analysis.punctuality import kept_up_to
    from replay.cli.printing import show
    from replay.report.selftest_text import selftest_report

    wanted = _rates(rates)
    notes, found = Console(stderr=True, highlight=False), []
    with _a_core_apart() as core:
        for at, rate in enumerate(wanted):
            left_s = (len(wanted) - at) * (seconds + 1.5)
            with notes.status(f"{rate:g} requests/s for {seconds:g} s ({left_s:.0f} s to go)"):
                found.append(_measure(rate, seconds, workers, sender, seed, core))
    best = kept_up_to(found)
    if as_json:
        told = [_told(one) for one in found]
        typer.echo(json.dumps({"kept_up_to_per_s": best, "rates": told}, indent=2, allow_nan=False))
    else:
        show(selftest_report(found, best))
    if best is None:
        raise typer.Exit(EXIT_REGRESSION)


@contextlib.contextmanager
def _a_core_apart() -> Iterator[int | None]:
    """Keep this process and its children off the last core while the block runs: that one, or None."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(cores) < 2:
        yield None
        return
    os.sched_setaffinity(0, cores - {max(cores)})
    try:
        yield max(cores)
    finally:
        os.sched_setaffinity(0, cores)


def _told(one: Punctuality) -> dict[str, Any]:
    import dataclasses
    import math

    values = dataclasses.asdict(one) | {"kept": one.kept}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _rates(text: str) -> list[float]:
    from capture.quantities import parse_factor

    return sorted({parse_factor(piece, "--rates") for piece in text.split(",")})


def bursts_ns(rng: np.random.Generator, rate_per_s: float, seconds: float) -> npt.NDArray[np.int64]:
    """Due instants of `rate_per_s` · `seconds` requests in random bursts, int64 ns from 0, ascending."""
    import numpy as np

    count = max(2, round(rate_per_s * seconds))
    gaps_s = rng.gamma(BURST_SHAPE, 1.0 / (BURST_SHAPE * rate_per_s), count)
    return np.rint(np.cumsum(gaps_s * (seconds / gaps_s.sum())) * 1e9).astype(np.int64)


def _measure(
    rate: float, seconds: float, workers: int | None, sender: str, seed: int, core: int | None
) -> Punctuality:
    import numpy as np

    from replay.analysis.punctuality import Punctuality, lateness_ns
    from replay.demo.stamping import StampingServer

    due_ns = bursts_ns(np.random.default_rng(seed), rate, seconds)
    due_ns -= due_ns[0]
    with tempfile.TemporaryDirectory(prefix="peaktape-") as name:
        folder = Path(name)
        with StampingServer(folder / "stamps.npy", core) as server:
            metadata = _replay(folder, due_ns, server.base_url, workers, sender)
            stamps = server.stop()
    late_ns = lateness_ns(metadata.zero_monotonic_ns + due_ns, stamps[:, 1], stamps[:, 0])
    p50, p99, most = np.quantile(late_ns, [0.5, 0.99, 1.0]) if len(late_ns) else (np.nan,) * 3
    cores = sum(
        worker.get("cpu_s", 0.0) / max(worker.get("wall_s", 0.0), 1e-9) for worker in metadata.workers
    )
    stalls = [stall for worker in metadata.workers for stall in worker.get("stalls", ())]
    longest = max(stalls, key=lambda stall: stall[1], default=None)
    return Punctuality(
        rate_per_s=rate,
        sender=metadata.sender,
        workers=len(metadata.workers),
        scheduled=len(due_ns),
        arrived=len(late_ns),
        p50_ns=float(p50),
        p99_ns=float(p99),
        max_ns=float(most),
        cpu_cores=float(cores),
        stall=f"{longest[1] / 1e6:.0f} ms, {longest[2]}" if longest else "",
    )


def _replay(folder: Path, due_ns: npt.NDArray[np.int64], url: str, workers: int | None, sender: str) -> Any:
    import dataclasses

    from capture.trace_format import TraceMetadata
    from capture.trace_writer import write_trace
    from replay.cli.ordering import order_of, scheduled
    from replay.engine.connecting import Connecting
    from replay.engine.requests import Rewrite
    from replay.engine.run_writer import RunWriter
    from replay.engine.supervisor import Supervisor
    from replay.engine.target import parse_target
    from replay.transform.plan import Plan

    trace = folder / "trace.parquet"
    write_trace(trace, _requests(due_ns), TraceMetadata(0, "selftest"))
    target = dataclasses.replace(parse_target(url), addresses=("127.0.0.1",))
    order = order_of(
        scheduled(str(trace), None, Plan(), folder),
        Connecting(target, timeout_s=60.0, connect_timeout_s=10.0),
        Rewrite(),
        label="selftest",
        workers=workers,
        sender=sender,
        mode="open",
        weaving=False,
        bounds={},
    )
    writer = RunWriter(folder / "run.parquet")
    try:
        return Supervisor(order, writer, lambda progress: None).run()
    finally:
        writer.abandon()


def _requests(due_ns: npt.NDArray[np.int64]) -> Any:
    from capture.trace_writer import ROW_GROUP_ROWS, batch_of

    body = b'{"model": "selftest", "input": "' + b"w " * (BODY_BYTES // 2) + b'"}'
    common: dict[str, Any] = {
        "turn": 0,
        "method": "POST",
        "scheme": "http",
        "host": "selftest.invalid:80",
        "path": "/v1/embeddings",
        "http_version": "HTTP/1.1",
        "request_headers": [("content-type", "application/json"), ("accept", "*/*")],
        "request_body": body,
        "outcome": "complete",
        "response_bytes": 0,
        "chunk_ns": [],
        "chunk_bytes": [],
        "stream": False,
    }
    for start in range(0, len(due_ns), ROW_GROUP_ROWS):
        numbers = range(start, min(start + ROW_GROUP_ROWS, len(due_ns)))
        yield batch_of(
            [
                common
                | {
                    "request_id": f"r{i}",
                    "arrival_ns": int(due_ns[i]),
                    "request_body_ns": int(due_ns[i]),
                }
                for i in numbers
            ]
        )
