"""The verb `inspect`: what a trace or a schedule holds, and whether B's bursts are A's amplified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of, tell_in_the_clear

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from capture.encryption_keys import Keys
    from capture.object_store import StoredFile
    from capture.trace_reader import Trace
    from replay.transform.burst_target import BurstTarget
    from replay.transform.inspection import Facts
    from replay.transform.prompt_blocks import Rewrite
    from replay.transform.schedule_columns import ScheduleColumns
    from replay.transform.schedule_format import Lineage
    from replay.transform.traffic_columns import TrafficColumns

_MOST_WIDTH = 100


def inspect(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A trace (a file, a folder of segments, a quoted glob) or a schedule."
        ),
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="A schedule or a trace made from A.", show_default=False),
    ] = None,
    factor: Annotated[
        float | None,
        typer.Option(help="B has that many times A's users; default: as many as it has requests."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="B is A compressed in time by this; default: what B's lineage says.")
    ] = None,
    key: Key = None,
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained HTML page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")] = False,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw plots in the terminal.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
) -> None:
    """Show what a trace or a schedule holds: rate, bursts, gaps, sessions, lengths, prefixes, doubts.

    With B, made from A by an amplification, its burst curve is set against that of f times as many users:
    index of dispersion 1 + f·(IDC − 1) by window, where sessions have one request. A clock that is too coarse
    or corrupt, a recording with gaps, and a trace too short to judge are told, with what to do.

    \b
    Examples:
      peaktape inspect prod.parquet
      peaktape inspect prod.parquet tenfold.schedule.parquet --html proof.html
      peaktape inspect 'segments/*.parquet' --json | jq .endpoints
      peaktape inspect secret.parquet --key file:trace.key
    """
    import json
    import sys

    from capture.trace_writer import refuse_existing, refuse_input
    from replay.report.inspect_page import inspect_page
    from replay.report.trace_json import inspection_json
    from replay.transform.inspection import reuse_warnings

    _check_flags(second, factor, speed)
    keys = keys_of(key)
    if html is not None:
        refuse_input(html, [first, second, *key_files_of(keys)])
        refuse_existing(html, overwrite=overwrite)
    sides = _Sides(keys, [name for name in (first, second) if name is not None])
    one = sides.facts(first)
    other = target = None
    doubts: tuple[str, ...] = ()
    if second is not None:
        other = sides.facts(second)
        target, doubts = sides.target(factor, speed), reuse_warnings(one, other)
    if html is not None:
        _write_page(
            html, inspect_page(one, other, target, doubts, ("peaktape", *sys.argv[1:])), overwrite=overwrite
        )
        holds = "figures, and names of hosts, endpoints and models; no bodies"
        tell_in_the_clear(sides.read_from, [html], holds, keys)
    if as_json:
        typer.echo(json.dumps(inspection_json(one, other, target, doubts), indent=2))
    else:
        _show(one, other, target, doubts, plots=plots)


def _check_flags(second: str | None, factor: float | None, speed: float | None) -> None:
    from capture.failures import BadInput
    from capture.quantities import check_factor

    for value, flag in ((factor, "--factor"), (speed, "--speed")):
        if value is None:
            continue
        if second is None:
            raise BadInput(f"{flag}: compares two, and B is missing; name a schedule or a trace made from A")
        check_factor(value, flag)


def _show(
    one: Facts, other: Facts | None, target: BurstTarget | None, doubts: tuple[str, ...], *, plots: bool
) -> None:
    from rich.console import Console

    from replay.report.inspect_plots import plots as drawn
    from replay.report.trace_text import facts_lines, target_lines

    out = Console(highlight=False, soft_wrap=True)
    lines = list(facts_lines(one))
    if other is not None:
        lines += facts_lines(other)
    if target is not None:
        lines += target_lines(target)
    for line in (*lines, *(f"  WARNING    {doubt}" for doubt in doubts)):
        out.print(line, markup=False)
    if plots:
        width, colour = min(_MOST_WIDTH, out.width), out.color_system is not None
        for plot in drawn(one, other, target, width=width, colour=colour):
            out.file.write(plot + "\n")


class _Sides:
    """Reads A, and B; a trace that both need is read once."""

    def __init__(self, keys: Keys | None, names: Sequence[str]) -> None:
        from replay.transform.schedule_format import is_schedule

        self._keys = keys
        # A trace by itself is told from samples: nothing is looked up by row, and no row compared.
        self._schedules = {name for name in names if Path(name).is_file() and is_schedule(Path(name))}
        self._compared = len(names) > 1
        self._by_row = self._compared or bool(self._schedules)
        self._shaped = False
        self._traces: dict[str, Trace] = {}
        self._columns: dict[str, TrafficColumns] = {}
        self._instants: list[TrafficColumns | ScheduleColumns] = []
        self._lineages: list[Lineage | None] = []

    @property
    def read_from(self) -> list[Path | StoredFile]:
        """The files of the traces that were read."""
        return [segment.path for trace in self._traces.values() for segment in trace.segments]

    def facts(self, name: str) -> Facts:
        """The facts of a trace or a schedule; raises `BadInput`."""
        from capture.trace_reader import open_trace
        from replay.transform.inspection import inspect_schedule, inspect_trace, trace_of
        from replay.transform.schedule_columns import read_schedule_columns
        from replay.transform.schedule_format import read_lineage

        if name in self._schedules:
            lineage = read_lineage(Path(name))
            trace = trace_of(lineage, self._traces, self._keys)
            by_row = {} if trace is None else self._read(trace).by_row
            schedule = read_schedule_columns(Path(name), by_row, sessions_by_row=self._compared)
            self._instants.append(schedule)
            self._lineages.append(lineage)
            rewrite = _rewrite_of(lineage)
            found = inspect_schedule(name, schedule, lineage, trace, rewrite)
            self._shaped = len(found.phases) > 1
            return found
        trace = open_trace(name, self._keys)
        columns = self._read(trace)
        self._instants.append(columns)
        self._lineages.append(None)
        return inspect_trace(trace, columns)

    def target(self, factor: float | None, speed: float | None) -> BurstTarget:
        """The burst curve of B against that of A amplified."""
        import dataclasses

        from replay.transform.burst_target import Change, burst_target, change_of

        lineage = self._lineages[1]
        change = Change() if lineage is None else change_of(lineage)
        change = dataclasses.replace(change, shaped=self._shaped)
        if speed is not None:
            change = dataclasses.replace(change, speed=speed)
        source, made = self._instants
        instants = _instants_of(source), source.session
        return burst_target(instants, _instants_of(made), change, factor, equal_span=lineage is not None)

    def _read(self, trace: Trace) -> TrafficColumns:
        from rich.console import Console

        from replay.cli.progress_bar import progress_bar
        from replay.transform.traffic_columns import read_columns

        self._traces[trace.fingerprint] = trace
        if trace.fingerprint not in self._columns:
            with progress_bar(Console(stderr=True)) as progress:
                task = progress.add_task(f"reading {trace.name}", total=trace.rows, rows="")

                def on_rows(rows: int) -> None:
                    progress.update(task, completed=rows, rows=f"· {rows:,} rows")

                self._columns[trace.fingerprint] = read_columns(trace, on_rows, by_row=self._by_row)
        return self._columns[trace.fingerprint]


def _instants_of(side: TrafficColumns | ScheduleColumns) -> npt.NDArray[np.int64]:
    from replay.transform.schedule_columns import ScheduleColumns

    return side.due_ns if isinstance(side, ScheduleColumns) else side.arrival_ns


def _rewrite_of(lineage: Lineage) -> Rewrite | None:
    """What a replay does to a schedule's requests, None where it sends them as they were."""
    from replay.cli.ordering import content_of
    from replay.engine.rewriting import rewritten

    rules = content_of(lineage, weaving=False)
    if rules is None or not rules.changes_bodies:
        return None
    return lambda row, place: rewritten(row, place, rules)


def _write_page(path: Path, page: str, *, overwrite: bool) -> None:
    from capture.trace_writer import replace_when_whole

    with replace_when_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, "utf-8")
    typer.echo(f"page: {path}", err=True)
