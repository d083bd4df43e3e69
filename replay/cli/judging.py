"""The verbs `report` and `diff`: runs in; figures, a verdict, a page and an exit code out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replay.cli.key_option import Key, key_file_of, keys_of

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from replay.analysis.run_table import RunTable
    from replay.analysis.values import DiffResult, RunSummary

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")]
Html = Annotated[Path | None, typer.Option(help="Also write one self-contained HTML page.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")]
Slo = Annotated[str | None, typer.Option(help="Objectives, e.g. ttft:p99=500ms,e2e:p95=4s,error_rate=1%.")]


def report(
    run: Annotated[Path, typer.Argument(help="A run that `peaktape replay` wrote.")],
    slo: Slo = None,
    html: Html = None,
    as_json: Json = False,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Show what one run measured, whether it is valid, and whether it met its objectives.

    Objectives hold over all scheduled requests: an unanswered one misses. Exit codes: 0 fine, 1 an
    objective missed, 2 bad input, 3 run INVALID.

    \b
    Examples:
      peaktape report runs/a.parquet
      peaktape report runs/a.parquet --slo ttft:p99=500ms,error_rate=1% --html a.html
      peaktape report runs/a.parquet --json | jq .validity
    """
    from capture.failures import EXIT_REGRESSION, RunInvalid
    from replay.analysis.slo import parse_objectives
    from replay.analysis.summary import summarise
    from replay.report.as_json import run_json
    from replay.report.html import run_page
    from replay.report.terminal import run_report

    objectives = parse_objectives(slo) if slo else ()
    keys = keys_of(key)
    _refuse(html, [run, key_file_of(keys)], overwrite=overwrite)
    summary = summarise(_table(run, keys), objectives)
    _show(run_json(summary) if as_json else run_report(summary), as_json=as_json)
    if html is not None:
        _write_page(html, run_page(summary, _command()), overwrite=overwrite)
    if not summary.validity.valid:
        raise RunInvalid(
            f"{run}: run INVALID ({_failed(summary)}); its figures are no measurement of the target"
        )
    if not all(result.met for result in summary.objectives):
        raise typer.Exit(EXIT_REGRESSION)


def diff(
    baseline: Annotated[Path, typer.Argument(help="The run of the build in use.")],
    candidate: Annotated[Path, typer.Argument(help="The run of the build to judge.")],
    tolerance: Annotated[str, typer.Option(help="Changes up to this share do not matter.")] = "2%",
    same_build: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two runs of one build: the noise floor is then measured, not assumed."),
    ] = None,
    slo: Slo = None,
    html: Html = None,
    as_json: Json = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    key: Key = None,
    resamples: Annotated[int, typer.Option(min=200, max=100_000, help="Bootstrap resamples.")] = 2000,
    overwrite: Overwrite = False,
) -> None:
    """Compare two runs of one schedule request by request, and say what has changed, with its doubt.

    Exit codes: 0 no regression, 1 regression, 2 bad input, 3 a run is INVALID and carries no verdict.

    \b
    Examples:
      peaktape diff runs/a.parquet runs/b.parquet
      peaktape diff runs/a.parquet runs/b.parquet --tolerance 5% --html diff.html
      peaktape diff runs/a.parquet runs/b.parquet --same-build runs/a.parquet runs/a-again.parquet
      peaktape diff runs/a.parquet runs/b.parquet --json | jq -r .verdict
    """
    import numpy as np

    from capture.failures import EXIT_REGRESSION, RunInvalid
    from capture.quantities import parse_share
    from replay.analysis.diff import compare
    from replay.analysis.slo import parse_objectives
    from replay.analysis.summary import summarise
    from replay.analysis.values import Verdict
    from replay.report.as_json import diff_json, invalid_diff_json
    from replay.report.terminal import diff_report

    share = parse_share(tolerance, "--tolerance")
    objectives = parse_objectives(slo) if slo else ()
    keys = keys_of(key)
    _refuse(html, [baseline, candidate, *(same_build or ()), key_file_of(keys)], overwrite=overwrite)
    before, after = _table(baseline, keys), _table(candidate, keys)
    try:
        result = compare(
            before,
            after,
            tolerance=share,
            objectives=objectives,
            resamples=resamples,
            same_build=(_table(same_build[0], keys), _table(same_build[1], keys)) if same_build else None,
            rng=np.random.default_rng(seed),
        )
    except RunInvalid:
        if as_json:
            _show(invalid_diff_json(summarise(before), summarise(after)), as_json=True)
        raise
    _show(diff_json(result) if as_json else diff_report(result), as_json=as_json)
    if html is not None:
        write_diff_page(html, result, _command(), overwrite=overwrite)
    if result.verdict is Verdict.REGRESSION:
        raise typer.Exit(EXIT_REGRESSION)


def write_diff_page(path: Path, result: DiffResult, command: tuple[str, ...], *, overwrite: bool) -> None:
    """Write the page of a comparison, and say where."""
    from replay.report.html import diff_page

    _write_page(path, diff_page(result, command), overwrite=overwrite)


def _table(path: Path, keys: Keys | None) -> RunTable:
    from replay.analysis.run_table import RunTable
    from replay.engine.run_format import read_run

    return RunTable.of(*read_run(path, keys, bodies=False))


def _show(content: Any, *, as_json: bool) -> None:
    import json

    from replay.cli.printing import show

    if as_json:
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
    else:
        show(content)


def _refuse(page: Path | None, runs: list[Path | None], *, overwrite: bool) -> None:
    from capture.trace_writer import refuse_existing, refuse_input

    if page is not None:
        refuse_input(page, runs)
        refuse_existing(page, overwrite=overwrite)


def _write_page(path: Path, text: str, *, overwrite: bool) -> None:
    from capture.trace_writer import replace_when_whole

    with replace_when_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"page: {path}", err=True)


def _failed(summary: RunSummary) -> str:
    return ", ".join(check.name for check in summary.validity.checks if not check.passed)


def _command() -> tuple[str, ...]:
    return ("peaktape", *sys.argv[1:])
