"""The verb `replay`: a trace or a schedule in, a run out, watched by a person."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import replay.cli.transforming as flags

if TYPE_CHECKING:
    from capture.trace_reader import Trace
    from replay.engine.run_format import RunMetadata
    from replay.engine.supervisor import ReplayOrder
    from replay.engine.target import Target
    from replay.transform.plan import Plan
    from replay.transform.schedule_format import Lineage, Schedule

SAFETY = "Target"
BOUNDS = "Validity"


def replay(
    source: Annotated[str, typer.Argument(help="A trace (file, folder, quoted glob) or a schedule.")],
    target: Annotated[
        str, typer.Option(help="Where to fire, e.g. http://127.0.0.1:9000.", rich_help_panel=SAFETY)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run to write.")],
    label: Annotated[
        str | None, typer.Option(help="The build's name in reports; default: the target.")
    ] = None,
    speed: flags.Speed = 1.0,
    amplify: flags.Amplify = 1.0,
    thin: flags.Thin = "100%",
    slice_: flags.Slice = None,
    spike: flags.Spikes = None,
    ramp: flags.Ramps = None,
    jitter: flags.Jitter = "1s",
    seed: flags.Seed = 0,
    trace: Annotated[
        str | None, typer.Option(help="The trace a schedule was made from, if it has moved.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Worker processes; default by peak rate and cores.")
    ] = None,
    timeout: Annotated[
        str, typer.Option(help="A response must be whole this long after its due time.")
    ] = "300s",
    connect_timeout: Annotated[str, typer.Option(help="A connection must be open within this time.")] = "10s",
    auth_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the credential for the target.", rich_help_panel=SAFETY
        ),
    ] = None,
    auth_header: Annotated[
        str, typer.Option(help="Header for it; authorization gets a Bearer prefix.", rich_help_panel=SAFETY)
    ] = "authorization",
    header: Annotated[
        list[str] | None,
        typer.Option(help="'name: value' set on every request; may be repeated.", rich_help_panel=SAFETY),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A public host that may be fired at; may be repeated.", rich_help_panel=SAFETY),
    ] = None,
    allow_captured_host: Annotated[
        bool,
        typer.Option(
            "--allow-captured-host", help="Fire even at the host of the capture.", rich_help_panel=SAFETY
        ),
    ] = False,
    max_lateness_p99: Annotated[
        str | None,
        typer.Option(
            help="Valid up to this p99 lateness; default 1ms or 1% of latency.", rich_help_panel=BOUNDS
        ),
    ] = None,
    max_lateness: Annotated[
        str | None,
        typer.Option(help="Valid up to this largest lateness; default 50ms.", rich_help_panel=BOUNDS),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
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
    """
    from capture.trace_writer import refuse_existing
    from replay.engine.requests import Rewrite
    from replay.engine.target import parse_target

    chosen = parse_target(target)
    plan = flags.plan_of(speed, amplify, thin, slice_, spike, ramp, jitter, seed)
    rewrite = Rewrite(headers=_headers(header, auth_env, auth_header))
    bounds = _bounds(max_lateness_p99, max_lateness)
    seconds = {
        "timeout_s": _seconds(timeout, "--timeout"),
        "connect_timeout_s": _seconds(connect_timeout, "--connect-timeout"),
    }
    refuse_existing(output, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="peaktape-") as folder:
        path, schedule, lineage, opened = _scheduled(source, trace, plan, Path(folder))
        chosen = _guarded(chosen, opened, allow_host or [], allow_captured_host=allow_captured_host)
        order = _order(path, schedule, lineage, opened, chosen, rewrite, label, workers, seconds, bounds)
        fire(order, output)
    finish(output)


def _scheduled(
    source: str, moved: str | None, plan: Plan, folder: Path
) -> tuple[Path, Schedule, Lineage, Trace]:
    from rich.console import Console

    from capture.failures import BadInput
    from capture.trace_reader import open_trace
    from replay.transform.plan import Plan as Untouched
    from replay.transform.schedule_format import is_schedule, read_schedule, write_schedule

    path = Path(source)
    with Console(stderr=True).status(f"reading {source}"):
        if not (path.is_file() and is_schedule(path)):
            opened = open_trace(source)
            schedule, lineage = flags.planned(opened, plan)
            path = folder / "inline.schedule.parquet"
            write_schedule(path, schedule, lineage)
            return path, schedule, lineage, opened
        if plan != Untouched(seed=plan.seed):
            raise BadInput(f"{source}: is a schedule already; transform flags go with `peaktape transform`")
        schedule, lineage = read_schedule(path)
        opened = open_trace(moved or lineage.trace_path)
        if opened.fingerprint != lineage.trace_fingerprint:
            raise BadInput(
                f"{opened.name}: not the trace that {source} was made from; "
                "name the right one with --trace, or transform again"
            )
    return path, schedule, lineage, opened


def _guarded(target: Target, trace: Trace, allowed: list[str], *, allow_captured_host: bool) -> Target:
    from replay.engine.preflight import captured_places
    from replay.engine.target import check_target, resolve

    captured = captured_places(trace)
    addresses = resolve(target.host, target.port)
    check_target(
        target,
        addresses,
        captured,
        {(address, port) for host, port in captured for address in resolve(host, port)},
        allowed_hosts=allowed,
        allow_captured_host=allow_captured_host,
    )
    return dataclasses.replace(target, addresses=tuple(sorted(addresses)))


def _order(
    path: Path,
    schedule: Schedule,
    lineage: Lineage,
    trace: Trace,
    target: Target,
    rewrite: Any,
    label: str | None,
    workers: int | None,
    seconds: dict[str, float],
    bounds: dict[str, float],
) -> ReplayOrder:
    from replay.engine.preflight import connect_time_ns, lead_ns, processors, workers_for
    from replay.engine.supervisor import ReplayOrder
    from replay.transform.schedule_format import schedule_fingerprint

    return ReplayOrder(
        schedule_path=path,
        schedule=schedule,
        lineage=lineage,
        schedule_fingerprint=schedule_fingerprint(schedule, lineage),
        trace=trace,
        target=target,
        rewrite=rewrite,
        label=label or target.authority,
        workers=workers or workers_for(schedule, processors()),
        lead_ns=lead_ns(connect_time_ns(target, seconds["connect_timeout_s"])),
        bounds=bounds,
        command=without_header_values(sys.argv[1:]),
        **seconds,
    )


def fire(order: ReplayOrder, output: Path) -> RunMetadata:
    """Run the replay with a live line on stderr; SIGINT and SIGTERM end it early, the run then is partial."""
    from rich.console import Console

    from replay.engine.run_writer import RunWriter
    from replay.engine.supervisor import Supervisor
    from replay.report.live import LiveLine

    writer = RunWriter(output)
    try:
        with LiveLine(Console(stderr=True, highlight=False), order.label) as line:
            supervisor = Supervisor(order, writer, line.show)
            with _signals(supervisor.stop):
                return supervisor.run()
    finally:
        writer.abandon()


@contextlib.contextmanager
def _signals(stop: Any) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(output: Path) -> None:
    """Print what a fresh run says; raise `RunInvalid` or end with 130 when it can't carry a verdict."""
    from rich.console import Console

    from capture.failures import RunInvalid
    from replay.analysis.run_table import RunTable
    from replay.analysis.summary import summarise
    from replay.engine.run_format import read_run
    from replay.report.terminal import run_report

    summary = summarise(RunTable.of(*read_run(output)))
    Console(highlight=False).print(run_report(summary))
    typer.echo(f"run: {output}")
    if summary.partial:
        raise typer.Exit(130)
    if summary.sent and not any(group.statuses for group in summary.groups):
        raise RunInvalid(
            f"{summary.target}: accepted connections but answered none of {summary.sent} requests; "
            "is this the right port, and is the model loaded?"
        )
    if not summary.validity.valid:
        failed = ", ".join(check.name for check in summary.validity.checks if not check.passed)
        raise RunInvalid(f"{output}: run INVALID ({failed}); its figures are no measurement of the target")


def _headers(texts: list[str] | None, auth_env: str | None, auth_header: str) -> tuple[tuple[str, str], ...]:
    from capture.failures import BadInput

    headers: list[tuple[str, str]] = []
    for text in texts or []:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise BadInput(f"--header: {text!r} found, 'name: value' wanted")
        headers.append((name.strip(), value.strip()))
    if auth_env is not None:
        secret = os.environ.get(auth_env, "")
        if not secret:
            raise BadInput(f"--auth-env {auth_env}: this environment variable is not set; export it first")
        bearer = auth_header.lower() == "authorization" and " " not in secret
        headers.append((auth_header, f"Bearer {secret}" if bearer else secret))
    return tuple(headers)


def without_header_values(arguments: list[str]) -> tuple[str, ...]:
    """The command line as it may be written down: names of headers, no values."""
    shown: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, _ = argument.partition("=")
        if before == "--header":
            shown.append(f"{argument.partition(':')[0]}: REDACTED")
        elif option == "--header" and equals:
            shown.append(f"--header={argument[9:].partition(':')[0]}: REDACTED")
        else:
            shown.append(argument)
    return tuple(shown)


def _bounds(lateness_p99: str | None, lateness_max: str | None) -> dict[str, float]:
    from capture.quantities import parse_duration_ns

    bounds: dict[str, float] = {}
    if lateness_p99 is not None:
        bounds["lateness_p99_ns"] = parse_duration_ns(lateness_p99, "--max-lateness-p99")
    if lateness_max is not None:
        bounds["lateness_max_ns"] = parse_duration_ns(lateness_max, "--max-lateness")
    return bounds


def _seconds(text: str, place: str) -> float:
    from capture.failures import BadInput
    from capture.quantities import parse_duration_ns

    duration_ns = parse_duration_ns(text, place)
    if duration_ns <= 0:
        raise BadInput(f"{place}: {text} found, more than 0 wanted")
    return duration_ns / 1e9
