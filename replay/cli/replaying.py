"""The verb `replay`: a trace or a schedule in, a run out, watched by a person."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import replay.cli.replay_flags as asked
from replay.cli.key_option import Key, key_files_of, keys_of
from replay.cli.option_groups import grouped
from replay.cli.transform_flags import Transformation
from replay.cli.transforming import plan_of, tell_sampling

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from capture.trace_reader import Trace
    from replay.analysis.values import RunSummary
    from replay.engine.run_format import RunMetadata
    from replay.engine.supervisor import ReplayOrder


@grouped
def replay(
    source: asked.Source,
    target: asked.TargetUrl,
    output: asked.Output,
    *,
    label: asked.Label = None,
    transformation: Transformation,
    trace: asked.MovedTrace = None,
    workers: asked.Workers = None,
    sender: asked.SenderName = "auto",
    mode: asked.Mode = "open",
    weave: asked.Weave = False,
    aborts: asked.Aborts = True,
    bodies: asked.Bodies = "drop",
    connection: asked.Connection,
    allowed: asked.Target,
    bounds: asked.Bounds,
    attempts: asked.Attempts = 1,
    key: Key = None,
    scraping: asked.Scraping,
    overwrite: asked.Overwrite = False,
) -> None:
    """Fire a trace or a schedule at a target, open loop: every request leaves when it is due.

    Prints what was measured and whether the run is VALID: whether what was scheduled left on time. Ctrl-C
    leaves a readable run marked partial. Exit codes: 0 fine, 2 bad input, 3 run INVALID, 4 target refused.

    \b
    Examples:
      peaktape replay prod.parquet --speed 5 --target http://127.0.0.1:9000 -o runs/a.parquet --label build-a
      peaktape replay peak.schedule.parquet --target http://127.0.0.1:9000 -o runs/peak.parquet
      peaktape replay prod.parquet --target https://staging.example.com --allow-host staging.example.com \\
        --auth-env STAGING_KEY -o runs/staging.parquet
      peaktape replay prod.parquet --target https://staging.internal --ca ca.pem --client-cert me.pem \\
        -o runs/mtls.parquet
      peaktape replay prod.parquet --target http://10.0.0.7:8000 -o runs/a.parquet \\
        --scrape vllm=http://10.0.0.7:8000/metrics --scrape gpu=http://10.0.0.7:9400/metrics
    """
    from capture.trace_writer import refuse_existing, refuse_input
    from replay.cli.ordering import (
        bounds_of,
        connecting_to,
        guarded,
        headers_of,
        mode_of,
        order_of,
        scheduled,
    )
    from replay.cli.run_reading import scrape_job
    from replay.engine.requests import Rewrite
    from replay.engine.run_format import partial_of
    from replay.engine.scrape_format import scrape_of

    connecting = connecting_to(target, connection)
    connecting.check(sender)
    plan = plan_of(transformation)
    rewrite = Rewrite(headers=headers_of(allowed), aborts=aborts, connections=connection.connections)
    stated_bounds, watched, keys = bounds_of(bounds), scrape_job(output, scraping), keys_of(key)
    read = (
        source,
        trace,
        transformation.recipe,
        connection.ca,
        connection.client_cert,
        connection.client_key,
    )
    for path in (output, partial_of(output), *([scrape_of(output)] if watched else [])):
        refuse_input(path, [*read, *key_files_of(keys)])
        refuse_existing(path, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="peaktape-") as folder:
        found = scheduled(source, trace, plan, Path(folder), keys)
        refuse_input(output, [found.trace.name])
        tell_sampling(found.trace, found.lineage)
        _tell_bodyless(found.trace)
        order = order_of(
            found,
            guarded(connecting, found.trace, connection.resolve or [], allowed),
            rewrite,
            label=label,
            workers=workers,
            sender=sender,
            mode=mode_of(mode, weave=weave),
            weaving=weave,
            bounds=stated_bounds,
            scrape=watched,
        )
        summary = fire_until_valid(order, output, bodies, keys, attempts)
    if allowed.auth_env is None:
        _tell_refused(summary)
    conclude(summary, output)


def _tell_bodyless(trace: Trace) -> None:
    """Say on stderr that requests go out without their bodies: a server does less for them, or refuses."""
    from replay.engine.survey import without_body

    lacking, looked_at = without_body(trace)
    if lacking:
        typer.echo(
            f"note: {trace.name}: of the first {looked_at:,} requests {lacking:,} had a body that is not in "
            "the trace; they go out without one, so their answers and latencies are not production's",
            err=True,
        )


def _tell_refused(summary: RunSummary) -> None:
    """Say why most answers were 401 or 403, where they were: a trace holds no credentials."""
    every = next((group for group in summary.groups if group.group.kind == "all"), None)
    refused = 0 if every is None else every.statuses.get(401, 0) + every.statuses.get(403, 0)
    if refused > summary.sent / 2:
        typer.echo(
            f"note: {refused:,} of {summary.sent:,} requests were answered 401 or 403; a trace holds no "
            "credentials: give the target's with --auth-env NAME (and --auth-header)",
            err=True,
        )


def fire_until_valid(
    order: ReplayOrder, output: Path, bodies: str, keys: Keys | None, attempts: int
) -> RunSummary:
    """Replay, print what the run says, and replay again while that may help; the last attempt's summary.

    Each attempt replaces the run of the one before: an invalid run is no measurement.
    """
    from replay.analysis.summary import summarise
    from replay.analysis.validity import failed_checks, may_pass_next_time
    from replay.cli.printing import show
    from replay.cli.run_reading import run_table
    from replay.report.terminal import run_report

    for attempt in range(1, attempts + 1):
        fire(order, output, bodies, keys)
        summary = summarise(run_table(output, keys))
        show(run_report(summary))
        if summary.partial or attempt == attempts or not may_pass_next_time(summary.validity):
            break
        failed = failed_checks(summary.validity)
        typer.echo(f"INVALID ({failed}): replaying again, attempt {attempt + 1} of {attempts}", err=True)
    return summary


def fire(order: ReplayOrder, output: Path, bodies: str = "drop", keys: Keys | None = None) -> RunMetadata:
    """Run the replay with a live line on stderr; SIGINT and SIGTERM end it early, the run then is partial.

    `bodies` is what the run keeps of the answers' bodies (`run_format.BODIES`); with `keys` it is encrypted.
    """
    from rich.console import Console

    from replay.engine.run_writer import RunWriter
    from replay.engine.supervisor import Supervisor
    from replay.report.live import LiveLine

    writer = RunWriter(output, bodies, keys)
    try:
        with LiveLine(Console(stderr=True, highlight=False), order.label) as line:
            supervisor = Supervisor(order, writer, line.show)
            with _signals(supervisor.stop):
                return supervisor.run()
    finally:
        left = writer.abandon()
        if left is not None:
            typer.echo(f"what was measured stays in {left}", err=True)


@contextlib.contextmanager
def _signals(stop: Any) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def conclude(summary: RunSummary, output: Path) -> None:
    """Name the run; raise `RunInvalid` or end with 130 when it can't carry a verdict."""
    from capture.failures import RunInvalid
    from replay.analysis.validity import failed_checks

    typer.echo(f"run: {output}")
    if summary.partial:
        raise typer.Exit(130)
    if summary.sent and not any(group.statuses for group in summary.groups):
        raise RunInvalid(
            f"{summary.target}: accepted connections but answered none of {summary.sent} requests; "
            "is this the right port, and is the model loaded?"
        )
    if not summary.validity.valid:
        raise RunInvalid(
            f"{output}: run INVALID ({failed_checks(summary.validity)}); its figures are no measurement of "
            "the target"
        )
