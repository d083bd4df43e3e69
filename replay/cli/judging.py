"""The verbs `report` and `diff`: runs in; figures, a verdict, a page and an exit code out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of
from replay.cli.option_groups import grouped
from replay.cli.outputs import Outputs, command_line

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from replay.analysis.change_values import BodyChange
    from replay.analysis.run_table import RunTable
    from replay.analysis.values import DiffResult, Objective, RunSummary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a run is held against, and what it costs."""

    slo: Annotated[
        str | None,
        typer.Option(help="Objectives, e.g. ttft:p99=500ms,e2e:p95=4s,error_rate=1%,recovery=30s."),
    ] = None
    slo_file: Annotated[
        Path | None,
        typer.Option(help="Objectives per endpoint, model and phase, as YAML: see samples/slo.yml."),
    ] = None
    price_per_hour: Annotated[
        str | None,
        typer.Option(
            help="What all that served a run costs an hour; gives cost per 1,000 answers and per million "
            "tokens."
        ),
    ] = None

    def objectives(self) -> tuple[Objective, ...]:
        """What --slo and --slo-file state, together; raises `BadInput`."""
        from capture.yaml_file import load_yaml
        from replay.analysis.slo import parse_objectives
        from replay.analysis.slo_file import objectives_of

        stated = parse_objectives(self.slo) if self.slo else ()
        if self.slo_file is None:
            return stated
        return (*stated, *objectives_of(load_yaml(self.slo_file, "an SLO file"), str(self.slo_file)))

    def price(self) -> float | None:
        """--price-per-hour, None without it; raises `BadInput`."""
        from capture.quantities import parse_factor

        given = self.price_per_hour
        return None if given is None else parse_factor(given, "--price-per-hour")


@grouped
def report(
    run: Annotated[Path, typer.Argument(help="A run that `peaktape replay` wrote.")],
    *,
    wanted: Wanted,
    outputs: Outputs,
    key: Key = None,
) -> None:
    """Show what one run measured, whether it is valid, and whether it met its objectives.

    Objectives hold over all scheduled requests: an unanswered one misses. Exit codes: 0 fine, 1 an
    objective missed, 2 bad input, 3 run INVALID.

    \b
    Examples:
      peaktape report runs/a.parquet
      peaktape report runs/a.parquet --slo ttft:p99=500ms,error_rate=1% --html a.html
      peaktape report runs/a.parquet --slo-file slo.yml --junit slo.xml --markdown - >> $GITHUB_STEP_SUMMARY
      peaktape report runs/a.parquet --price-per-hour 12.50
      peaktape report runs/a.parquet --json | jq .validity
    """
    from capture.failures import EXIT_REGRESSION, RunInvalid
    from replay.analysis.costs import with_cost
    from replay.analysis.summary import summarise
    from replay.analysis.validity import failed_checks
    from replay.analysis.waterfall import run_waterfall
    from replay.cli.run_reading import run_table
    from replay.report.as_json import run_json
    from replay.report.html import run_page
    from replay.report.junit import run_junit
    from replay.report.markdown import run_markdown
    from replay.report.terminal import run_report

    objectives, keys = wanted.objectives(), keys_of(key)
    outputs.check([run, wanted.slo_file, *key_files_of(keys)])
    table = run_table(run, keys)
    summary = summarise(table, objectives, distributed=outputs.tell_distributions)
    summary = with_cost(summary, wanted.price())
    if outputs.html is not None:
        summary = dataclasses.replace(summary, waterfall=run_waterfall(table, summary.timeline.width_s))
    command = command_line()
    outputs.show(
        lambda: run_report(summary), lambda: run_json(summary), lambda: run_markdown(summary, command)
    )
    outputs.write(
        lambda: run_page(summary, command), lambda: run_junit(summary), lambda: run_markdown(summary, command)
    )
    outputs.tell_in_the_clear([run], keys)
    if not summary.validity.valid:
        failed = failed_checks(summary.validity)
        raise RunInvalid(f"{run}: run INVALID ({failed}); its figures are no measurement of the target")
    if not all(result.met for result in summary.objectives):
        raise typer.Exit(EXIT_REGRESSION)


@grouped
def diff(
    baseline: Annotated[Path | None, typer.Argument(help="The run of the build in use.")] = None,
    candidate: Annotated[Path | None, typer.Argument(help="The run of the build to judge.")] = None,
    tolerance: Annotated[str, typer.Option(help="Changes up to this share do not matter.")] = "2%",
    same_build: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two runs of one build: the noise floor is then measured, not assumed."),
    ] = None,
    *,
    wanted: Wanted,
    outputs: Outputs,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    key: Key = None,
    resamples: Annotated[int, typer.Option(min=200, max=100_000, help="Bootstrap resamples.")] = 2000,
) -> None:
    """Compare two runs of one schedule request by request, and say what has changed, with its doubt.

    With --same-build alone: the smallest change that such a comparison could see, before a candidate is.
    Runs of `replay --bodies keep` are compared by what was answered, too.
    Exit codes: 0 no regression, 1 regression or an objective that the candidate missed, 2 bad input, 3 no
    verdict: a run is INVALID, or no request was answered in both.

    \b
    Examples:
      peaktape diff --same-build runs/a.parquet runs/a-again.parquet
      peaktape diff runs/a.parquet runs/b.parquet
      peaktape diff runs/a.parquet runs/b.parquet --tolerance 5% --html diff.html
      peaktape diff runs/a.parquet runs/b.parquet --same-build runs/a.parquet runs/a-again.parquet
      peaktape diff runs/a.parquet runs/b.parquet --junit diff.xml --markdown diff.md
      peaktape diff runs/a.parquet runs/b.parquet --json | jq -r .verdict
    """
    # Before numpy is loaded. Threads that share its small matrices wait for each other by spinning: beside
    # other load one thread alone is faster (tests/benchmarks/diff/RESULTS.md).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from capture.failures import EXIT_REGRESSION
    from capture.quantities import parse_share
    from replay.analysis.costs import with_cost
    from replay.analysis.values import Verdict
    from replay.report.as_json import diff_json
    from replay.report.html import diff_page
    from replay.report.junit import diff_junit
    from replay.report.markdown import diff_markdown
    from replay.report.terminal import diff_report
    from replay.report.terminal_power import power_report

    pair = _pair(baseline, candidate, same_build)
    share = parse_share(tolerance, "--tolerance")
    objectives, keys = wanted.objectives(), keys_of(key)
    outputs.check([*pair, *(same_build or ()), wanted.slo_file, *key_files_of(keys)])
    result = _compared(pair, same_build, share, objectives, (seed, resamples), keys, outputs)
    price, command = wanted.price(), command_line()
    result = dataclasses.replace(
        result,
        baseline=with_cost(result.baseline, price),
        candidate=with_cost(result.candidate, price),
    )
    in_words = diff_report if baseline is not None else power_report
    outputs.show(lambda: in_words(result), lambda: diff_json(result), lambda: diff_markdown(result, command))
    outputs.write(
        lambda: diff_page(result, command), lambda: diff_junit(result), lambda: diff_markdown(result, command)
    )
    outputs.tell_in_the_clear(pair, keys)
    missed = not all(objective.met for objective in result.candidate.objectives)
    if missed or result.verdict is Verdict.REGRESSION:
        raise typer.Exit(EXIT_REGRESSION)


def _pair(
    baseline: Path | None, candidate: Path | None, same_build: tuple[Path, Path] | None
) -> tuple[Path, Path]:
    """The runs to compare: as given, or the two of one build where there are no others."""
    from capture.failures import BadInput

    if baseline is not None and candidate is not None:
        return baseline, candidate
    if baseline is None and same_build is not None:
        return same_build
    raise BadInput(
        f"diff: {'no run' if baseline is None else 'one run'} found, two wanted: BASELINE CANDIDATE, or "
        "--same-build A A-AGAIN alone for what a diff could see"
    )


def _compared(
    pair: tuple[Path, Path],
    same_build: tuple[Path, Path] | None,
    tolerance: float,
    objectives: tuple[Objective, ...],
    chance: tuple[int, int],
    keys: Keys | None,
    outputs: Outputs,
) -> DiffResult:
    """The comparison; a run that is INVALID is told to machines before it is refused."""
    import numpy as np

    from capture.failures import RunInvalid
    from replay.analysis.diff import compare
    from replay.analysis.summary import summarise
    from replay.cli.run_reading import run_table

    tables = {path: run_table(path, keys) for path in dict.fromkeys([*pair, *(same_build or ())])}
    before, after = tables[pair[0]], tables[pair[1]]
    same = (tables[same_build[0]], tables[same_build[1]]) if same_build else None
    seed, resamples = chance
    try:
        return compare(
            before,
            after,
            tolerance=tolerance,
            objectives=objectives,
            resamples=resamples,
            same_build=same,
            rng=np.random.default_rng(seed),
            bodies=_bodies((pair[0], before), (pair[1], after), same_build, same, keys),
            distributed=outputs.tell_distributions,
        )
    except RunInvalid as refusal:
        runs = summarise(before, objectives), summarise(after, objectives)
        _tell_refused(outputs, runs, str(refusal))
        raise


def _bodies(
    baseline: tuple[Path, RunTable],
    candidate: tuple[Path, RunTable],
    paths: tuple[Path, Path] | None,
    runs: tuple[RunTable, RunTable] | None,
    keys: Keys | None,
) -> tuple[BodyChange, ...]:
    from replay.cli.diff_bodies import changed_bodies

    same = ((paths[0], runs[0]), (paths[1], runs[1])) if paths and runs else None
    return changed_bodies(baseline, candidate, same, keys)


def _tell_refused(outputs: Outputs, runs: tuple[RunSummary, RunSummary], why: str) -> None:
    """What machines read of a comparison that carries no verdict; people get the one line on stderr."""
    from replay.report.as_json import invalid_diff_json
    from replay.report.junit import invalid_diff_junit
    from replay.report.markdown import invalid_diff_markdown

    command = command_line()
    outputs.show(
        None, lambda: invalid_diff_json(*runs, why), lambda: invalid_diff_markdown(*runs, why, command)
    )
    outputs.write(
        None, lambda: invalid_diff_junit(*runs, why), lambda: invalid_diff_markdown(*runs, why, command)
    )
