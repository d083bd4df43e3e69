"""The verb `history`: every run's summary in one Parquet table, its course over builds, where it changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import replay.cli.outputs as outputs
from replay.cli.key_option import Key, key_files_of, keys_of

if TYPE_CHECKING:
    import pyarrow as pa

    from capture.encryption_keys import Keys
    from replay.analysis.run_history import BaselineChoice, Series

TABLE_NAME = "history.parquet"


def history(
    runs: Annotated[Path, typer.Argument(help="A folder of runs; those below it count too.")],
    table: Annotated[
        Path | None, typer.Option(help=f"The table to keep, RUNS/{TABLE_NAME} if not given.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A figure to follow, e.g. e2e:p95 or error_rate; may be repeated."),
    ] = None,
    by: Annotated[str, typer.Option(help="all, endpoint, model or phase.")] = "all",
    baseline_for: Annotated[
        Path | None, typer.Option(help="Also name the run that this one should be compared with.")
    ] = None,
    key: Key = None,
    html: outputs.Html = None,
    as_json: outputs.Json = False,
    overwrite: outputs.Overwrite = False,
) -> None:
    """Keep every run's summary in one table, and show how each figure went from build to build.

    Runs are added once and stay on record when their files are gone. Figures are compared within one
    schedule; a change point is where a figure's level changed for good (E-divisive), and INVALID or partial
    runs are in no series. The table opens in DuckDB: one row per run, group and figure; it is not encrypted.

    \b
    Examples:
      peaktape history runs/
      peaktape history runs/ --metric e2e:p99 --by endpoint
      peaktape history runs/ --baseline-for runs/b.parquet
      peaktape history runs/ --html history.html --overwrite
      peaktape history runs/ --json | jq '.series[].change_points'
    """
    import json

    from capture.failures import BadInput
    from capture.trace_writer import refuse_existing, refuse_input
    from replay.analysis.vocabulary import GROUP_KINDS
    from replay.cli.printing import show
    from replay.report.history_page import history_page
    from replay.report.history_text import history_json, history_report

    if by not in GROUP_KINDS:
        raise BadInput(f"--by: {by} found, all, endpoint, model or phase wanted")
    if not runs.is_dir():
        raise BadInput(f"{runs}: no folder of runs; name the one that `peaktape replay -o` writes into")
    keys, place = keys_of(key), table or runs / TABLE_NAME
    refuse_input(place, [*key_files_of(keys)])
    if html is not None:
        refuse_input(html, [place, *key_files_of(keys)])
        refuse_existing(html, overwrite=overwrite)
    kept = _updated(runs, place, keys)
    asked = None if baseline_for is None else _name_of(baseline_for, runs)
    followed = _followed(kept, metric or [], by)
    counts = _counts(kept)
    baseline = None if asked is None else _baseline(kept, asked, f"{baseline_for} is no run in {runs}")
    if as_json:
        typer.echo(json.dumps(history_json(followed, *counts, baseline), indent=2, allow_nan=False))
    else:
        show(history_report(followed, *counts, folder=str(runs), asked=asked, baseline=baseline))
    if html is not None:
        command = outputs.command_line()
        made = history_page(followed, *counts, command, folder=str(runs), asked=asked, baseline=baseline)
        outputs.write_text("page", html, made, overwrite=overwrite)


def _followed(kept: pa.Table, metrics: list[str], by: str) -> tuple[Series, ...]:
    """The series that were asked for, with their change points; raises `BadInput` for an unknown figure."""
    import numpy as np

    from capture.failures import BadInput
    from replay.analysis.run_history import DEFAULT_METRICS, series_of, with_changes

    known = set(kept["metric"].to_pylist())
    for name in metrics:
        if name not in known:
            raise BadInput(f"--metric: {name} found, one of {', '.join(sorted(known))} wanted")
    return with_changes(series_of(kept, metrics or DEFAULT_METRICS, (by,)), np.random.default_rng(0))


def _counts(kept: pa.Table) -> tuple[int, int]:
    """How many runs are on record, and how many of them INVALID or partial."""
    import pyarrow.compute as pc

    counted = kept.group_by(["run", "started", "valid", "partial"]).aggregate([])
    whole = pc.sum(pc.and_(counted["valid"], pc.invert(counted["partial"]))).as_py()
    return counted.num_rows, counted.num_rows - whole


def _baseline(kept: pa.Table, asked: str, unknown: str) -> BaselineChoice | None:
    """The run to compare `asked` with; raises `BadInput` with `unknown` for a run that is not on record."""
    import numpy as np
    import pyarrow.compute as pc

    from capture.failures import BadInput
    from replay.analysis.run_history import DEFAULT_METRICS, baseline_for, series_of, with_changes

    if not pc.any(pc.equal(kept["run"], asked)).as_py():
        raise BadInput(f"--baseline-for: {unknown}; replay with -o into that folder")
    whole = with_changes(series_of(kept, DEFAULT_METRICS), np.random.default_rng(0))
    return baseline_for(kept, asked, whole)


def _name_of(path: Path, folder: Path) -> str:
    try:
        return str(path.resolve().relative_to(folder.resolve()))
    except ValueError:
        return str(path)


def _updated(folder: Path, path: Path, keys: Keys | None) -> pa.Table:
    """The table at `path` with the runs of `folder` that it lacked; it is written when there were any."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from rich.console import Console

    from capture.failures import BadInput
    from capture.trace_writer import replace_when_whole
    from replay.analysis.latency_shapes import quantile_intervals
    from replay.analysis.metrics import Latencies
    from replay.analysis.run_history import HISTORY_SCHEMA, history_rows, known_runs
    from replay.analysis.run_table import RunTable
    from replay.analysis.summary import summarise
    from replay.cli.progress_bar import progress_bar
    from replay.engine.run_format import read_metadata, read_run

    kept = _kept(path)
    known = known_runs(kept)
    fresh = []
    for file in sorted(folder.rglob("*.parquet")):
        metadata = read_metadata(file, keys)
        if metadata is not None and (_name_of(file, folder), metadata.zero_wall_ns) not in known:
            fresh.append(file)
    if not fresh and not kept.num_rows:
        raise BadInput(f"{folder}: no run in it; make some with `peaktape replay -o {folder}/NAME.parquet`")
    added = []
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("summing up runs", total=len(fresh), rows="")
        for file in fresh:
            run = RunTable.of(*read_run(file, keys, bodies=False))
            latencies = Latencies(run)
            summary, intervals = summarise(run, (), latencies), quantile_intervals(latencies)
            added.append(history_rows(_name_of(file, folder), run.metadata, summary, intervals))
            bar.advance(task)
    if added:
        kept = pa.concat_tables([kept, *added]).sort_by([("started", "ascending"), ("run", "ascending")])
        with replace_when_whole(path, overwrite=True) as temporary:
            pq.write_table(kept.cast(HISTORY_SCHEMA), temporary, compression="zstd", compression_level=3)
    return kept


def _kept(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from capture.failures import BadInput, first_line
    from replay.analysis.run_history import HISTORY_SCHEMA, completed

    if not path.exists():
        return HISTORY_SCHEMA.empty_table()
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        found = first_line(error)
        raise BadInput(f"{path}: not a readable table ({found}); move it away to begin anew") from error
    whole = completed(table)
    if whole is None:
        raise BadInput(f"{path}: not a history of runs; name another with --table, or move it away")
    return whole
