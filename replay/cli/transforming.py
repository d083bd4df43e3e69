"""The transform flags, shared by `transform` and `replay`, and the verb `transform`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_file_of, keys_of

if TYPE_CHECKING:
    from capture.trace_reader import Trace
    from replay.transform.plan import Plan
    from replay.transform.schedule_format import Lineage, Schedule

PANEL = "Transformation"

Speed = Annotated[
    float, typer.Option(help="Time compression: 5 replays an hour in 12 minutes.", rich_help_panel=PANEL)
]
Amplify = Annotated[
    float,
    typer.Option(help="That many times the sessions, each cloned whole; 1.5 works.", rich_help_panel=PANEL),
]
Thin = Annotated[str, typer.Option(help="Keep this share of the sessions, e.g. 25%.", rich_help_panel=PANEL)]
Slice = Annotated[
    str | None,
    typer.Option("--slice", help="Only this part of the trace, e.g. 10m..15m.", rich_help_panel=PANEL),
]
Spikes = Annotated[
    list[str] | None,
    typer.Option(
        "--spike", help="at=60s,for=30s,x=4 (times after --speed); may be repeated.", rich_help_panel=PANEL
    ),
]
Ramps = Annotated[
    list[str] | None,
    typer.Option("--ramp", help="at=0s,for=60s,from=0.5,to=3; may be repeated.", rich_help_panel=PANEL),
]
Jitter = Annotated[
    str,
    typer.Option(help="Clones are shifted by up to ± this, so that they do not tie.", rich_help_panel=PANEL),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same schedule.", rich_help_panel=PANEL)]


def plan_of(
    speed: float,
    amplify: float,
    thin: str,
    slice_: str | None,
    spikes: list[str] | None,
    ramps: list[str] | None,
    jitter: str,
    seed: int,
) -> Plan:
    """The flags as a `Plan`; raises `BadInput` naming the flag."""
    from capture.failures import BadInput
    from capture.quantities import parse_duration_ns, parse_share
    from replay.transform.plan import Plan
    from replay.transform.shapes import Ramp, Spike

    window = None
    if slice_ is not None:
        start, dots, end = slice_.partition("..")
        if not dots:
            raise BadInput(f"--slice: {slice_!r} found, START..END such as 10m..15m wanted")
        window = (parse_duration_ns(start, "--slice"), parse_duration_ns(end, "--slice"))
    return Plan(
        slice_ns=window,
        speed=speed,
        amplify=amplify,
        thin=parse_share(thin, "--thin"),
        spikes=tuple(Spike.parse(text) for text in spikes or ()),
        ramps=tuple(Ramp.parse(text) for text in ramps or ()),
        jitter_ns=parse_duration_ns(jitter, "--jitter"),
        seed=seed,
    )


def planned(trace: Trace, plan: Plan) -> tuple[Schedule, Lineage]:
    """The schedule that `plan` makes of `trace`, and its lineage."""
    from capture.__about__ import VERSION
    from capture.object_store import is_url
    from replay.transform.plan import apply_plan, rows_of_trace
    from replay.transform.replayable import told
    from replay.transform.schedule_format import Lineage

    base, left_out = rows_of_trace(trace)
    steps = plan.steps
    if left_out:
        steps = (told(left_out), *steps)
    lineage = Lineage(
        trace_path=trace.name if is_url(trace.name) else str(Path(trace.name).absolute()),
        trace_fingerprint=trace.fingerprint,
        trace_rows=trace.rows,
        steps=steps,
        seed=plan.seed,
        tool_version=VERSION,
    )
    return apply_plan(base, plan), lineage


def transform(
    trace: Annotated[str, typer.Argument(help="A trace: a file, a folder of segments, or a quoted glob.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The schedule to write.")],
    speed: Speed = 1.0,
    amplify: Amplify = 1.0,
    thin: Thin = "100%",
    slice_: Slice = None,
    spike: Spikes = None,
    ramp: Ramps = None,
    jitter: Jitter = "1s",
    seed: Seed = 0,
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Make a schedule from a trace: faster, larger, with spikes and ramps laid over the real arrivals.

    The schedule refers to the trace's rows and copies no body; it is not encrypted. Order: slice, speed,
    thin, amplify, ramps, spikes; their times are those of the replay, after --speed.

    \b
    Examples:
      peaktape transform prod.parquet -o peak.schedule.parquet --speed 5
      peaktape transform prod.parquet -o peak.schedule.parquet --speed 5 --amplify 3 --seed 1
      peaktape transform prod.parquet -o spike.schedule.parquet --spike at=60s,for=30s,x=4
      peaktape transform 'segments/*.parquet' -o ramp.schedule.parquet --ramp at=0s,for=2m,from=0.5,to=3
    """
    from rich.console import Console

    from capture.trace_reader import open_trace
    from capture.trace_writer import refuse_existing, refuse_input
    from replay.report.rate_plot import rate_plot
    from replay.report.trace_text import schedule_lines
    from replay.transform.inspection import rate_curve
    from replay.transform.schedule_format import write_schedule

    plan = plan_of(speed, amplify, thin, slice_, spike, ramp, jitter, seed)
    keys = keys_of(key)
    refuse_input(output, [trace, key_file_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    notes = Console(stderr=True, highlight=False)
    with notes.status(f"reading {trace}"):
        opened = open_trace(trace, keys)
        schedule, lineage = planned(opened, plan)
        write_schedule(output, schedule, lineage, overwrite=overwrite)
    out = Console(highlight=False, soft_wrap=True)
    for line in schedule_lines(str(output), schedule, lineage):
        out.print(line, markup=False)
    curve = rate_curve(schedule.due_ns)
    plot = rate_plot(
        curve.start_s.tolist(),
        curve.per_s.tolist(),
        width=min(100, out.width),
        height=10,
        title="requests/s over the replay",
        colour=out.color_system is not None,
    )
    out.file.write(plot + "\n")
