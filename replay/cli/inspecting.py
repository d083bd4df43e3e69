"""The verb `inspect`: what a trace or a schedule holds, and whether B's bursts are A's amplified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of, tell_in_the_clear
from replay.cli.outputs import command_line, write_text
from replay.cli.progress_bar import rows_done

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from capture.encryption_keys import Keys
    from capture.object_store import StoredFile
    from capture.trace_reader import Trace
    from replay.transform.burst_target import BurstTarget, Change, SourceCurve
    from replay.transform.inspection import Facts
    from replay.transform.prompt_blocks import Rewrite
    from replay.transform.schedule_format import Lineage
    from replay.transform.session_sample import SessionSample
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

    from capture.trace_writer import refuse_existing, refuse_input
    from replay.report.inspect_page import inspect_page
    from replay.report.trace_json import inspection_json
    from replay.transform.inspection import reuse_warnings

    _check_flags(second, factor, speed)
    keys = keys_of(key)
    if html is not None:
        refuse_input(html, [first, second, *key_files_of(keys)])
        refuse_existing(html, overwrite=overwrite)
    sides = _Sides(keys, [name for name in (first, second) if name is not None], speed)
    one = sides.facts(first)
    other = target = None
    doubts: tuple[str, ...] = ()
    if second is not None:
        other = sides.facts(second)
        target, doubts = sides.target(other, factor), reuse_warnings(one, other)
    if html is not None:
        page = inspect_page(one, other, target, doubts, command_line())
        write_text("page", html, page, overwrite=overwrite)
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
    """Reads A, and B, and holds the instants of one at a time; a trace that both need is read once."""

    def __init__(self, keys: Keys | None, names: Sequence[str], speed: float | None) -> None:
        from replay.transform.schedule_columns import SentRows, sent_rows
        from replay.transform.schedule_format import is_schedule, read_lineage

        self._keys = keys
        files = [Path(name) for name in names if Path(name).is_file() and is_schedule(Path(name))]
        self._lineages = {str(file): read_lineage(file) for file in files}
        self._sent: dict[str, SentRows] = {str(file): sent_rows(file) for file in files}
        self._later = list(names)
        self._change = self._changed(names[1], speed) if len(names) > 1 else None
        self._source: SourceCurve | None = None
        self._traces: dict[str, Trace] = {}
        self._columns: dict[str, TrafficColumns] = {}

    @property
    def read_from(self) -> list[Path | StoredFile]:
        """The files of the traces that were read."""
        return [segment.path for trace in self._traces.values() for segment in trace.segments]

    def facts(self, name: str) -> Facts:
        """The facts of a trace or a schedule, A's first; raises `BadInput`."""
        self._later.remove(name)
        return self._schedule(name) if name in self._lineages else self._trace(name)

    def target(self, other: Facts, factor: float | None) -> BurstTarget | None:
        """The burst curve of B against that of A amplified; None where there is no B."""
        import dataclasses

        from replay.transform.burst_target import burst_target
        from replay.transform.inspection import InspectedSchedule

        if self._change is None or self._source is None:
            return None
        schedule = other if isinstance(other, InspectedSchedule) else None
        shaped = schedule is not None and len(schedule.phases) > 1
        change = dataclasses.replace(self._change, shaped=shaped)
        equal_span = schedule is not None
        return burst_target(self._source, other.arrivals, change, factor, equal_span=equal_span)

    def _changed(self, made: str, speed: float | None) -> Change:
        import dataclasses

        from replay.transform.burst_target import Change, change_of

        lineage = self._lineages.get(made)
        change = Change() if lineage is None else change_of(lineage)
        return change if speed is None else dataclasses.replace(change, speed=speed)

    def _trace(self, name: str) -> Facts:
        from capture.trace_reader import open_trace
        from replay.transform.inspection import inspect_trace

        trace = open_trace(name, self._keys)
        columns = self._read(trace)
        with rows_done("judging bursts", None):
            found = inspect_trace(trace, columns)
            self._compare(columns.arrival_ns, columns.sessions)
        self._let_go(trace)
        return found

    def _schedule(self, name: str) -> Facts:
        from replay.transform.inspection import inspect_schedule, trace_of
        from replay.transform.schedule_columns import read_schedule_columns
        from replay.transform.schedule_format import read_rows

        lineage = self._lineages[name]
        trace = trace_of(lineage, self._traces, self._keys)
        sent = None
        if trace is not None:
            sent = self._sent[name].lengths(self._wanted(trace), self._read(trace).of_rows)
            self._let_go(trace)
        with rows_done(f"reading {name}", read_rows(Path(name))) as on_rows:
            schedule = read_schedule_columns(Path(name), on_rows)
        with rows_done("judging bursts", None):
            found = inspect_schedule(name, schedule, lineage, trace, sent, _rewrite_of(lineage))
            self._compare(schedule.due_ns, schedule.sessions)
        return found

    def _compare(self, at_ns: npt.NDArray[np.int64], sessions: SessionSample | None) -> None:
        """Of A, keep what B is held against."""
        from replay.transform.burst_target import source_curve

        if self._change is None or self._source is not None:
            return
        requests = None
        if sessions is not None:
            number, began_ns, _ = sessions.requests()
            requests = began_ns, number
        self._source = source_curve(at_ns, requests, self._change)

    def _wanted(self, trace: Trace) -> npt.NDArray[np.int64]:
        """The rows of a trace that schedules send, ascending: those of samples of them."""
        import numpy as np

        mine = (
            self._sent[name].row
            for name, lineage in self._lineages.items()
            if lineage.trace_fingerprint == trace.fingerprint
        )
        return np.unique(np.concatenate([np.empty(0, np.int64), *mine]))

    def _let_go(self, trace: Trace) -> None:
        """Let a trace's instants go, unless they are asked for again."""
        import dataclasses

        if any(name not in self._lineages for name in self._later):
            return
        held = self._columns[trace.fingerprint]
        self._columns[trace.fingerprint] = dataclasses.replace(
            held, arrival_ns=held.arrival_ns[:0].copy(), sessions=None
        )

    def _read(self, trace: Trace) -> TrafficColumns:
        from replay.transform.traffic_columns import read_columns

        self._traces[trace.fingerprint] = trace
        if trace.fingerprint not in self._columns:
            with rows_done(f"reading {trace.name}", trace.rows) as on_rows:
                self._columns[trace.fingerprint] = read_columns(trace, on_rows, self._wanted(trace))
        return self._columns[trace.fingerprint]


def _rewrite_of(lineage: Lineage) -> Rewrite | None:
    """What a replay does to a schedule's requests, None where it sends them as they were."""
    from replay.cli.ordering import content_of
    from replay.engine.rewriting import rewritten

    rules = content_of(lineage, weaving=False)
    if rules is None or not rules.changes_bodies:
        return None
    return lambda row, place: rewritten(row, place, rules)
