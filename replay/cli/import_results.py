"""`peaktape import`, results of other load tools: they become runs, for `report`, `diff` and `history`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of
from replay.cli.option_groups import grouped
from replay.cli.printing import tell, tell_left_out
from replay.cli.progress_bar import progress_bar
from replay.cli.replay_flags import Bounds

if TYPE_CHECKING:
    from replay.importers.foreign_run import ForeignRun
    from replay.importers.result_file import Watch

RESULTS = "Results of other load tools, as runs"


@dataclasses.dataclass(frozen=True)
class Result:
    """The result that is imported, and the run that it becomes."""

    result: Annotated[
        Path,
        typer.Argument(metavar="RESULT", help="The result file, plain or gzipped.", show_default=False),
    ]
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="RUN", help="The run to write.", show_default=False)
    ]
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="BUILD", help="Name of the build; default: the run's file."),
    ] = None
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="URL", help="What was asked, where the result doesn't say."),
    ] = None
    which: Annotated[
        int | None, typer.Option("--which", min=1, metavar="N", help="Run N of a file that holds several.")
    ] = None


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run if it exists.")]


@grouped
def vllm_bench(result: Result, *, key: Key = None, overwrite: Overwrite = False) -> None:
    """Import a result of vllm bench serve --save-result --save-detailed, as a run.

    Requests pair by their place in the data: give both runs the same data and
    seed. It holds no due times: coordinated omission can't be excluded.

    \b
    Examples:
      peaktape import vllm-bench a.json -o runs/a.parquet
      peaktape import vllm-bench b.json -o runs/b.parquet --label v0.33 --target http://gpu1:8000
      peaktape diff runs/a.parquet runs/b.parquet
    """
    from replay.importers.vllm_bench import read_vllm_bench

    _import(read_vllm_bench, result, {}, key, overwrite)


@grouped
def aiperf_results(result: Result, *, key: Key = None, overwrite: Overwrite = False) -> None:
    """Import AIPerf's profile_export.jsonl, as a run; the summary beside it says load and target.

    Requests pair by conversation and turn. It holds no due times, not of a
    fixed schedule either: coordinated omission can't be excluded.

    \b
    Examples:
      peaktape import aiperf-results artifacts/profile_export.jsonl -o runs/a.parquet --label a
    """
    from replay.importers.aiperf import read_aiperf

    _import(read_aiperf, result, {}, key, overwrite)


@grouped
def guidellm_results(
    result: Result,
    *,
    from_sent: Annotated[
        bool,
        typer.Option("--from-sent", help="Leave the due times out: told from sent, validity not judged."),
    ] = False,
    stated: Bounds,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a benchmark of GuideLLM's JSON report, as a run.

    Requests pair by what was asked. Constant, poisson and trace strategies
    state due times: a generator that was late makes the run INVALID. State
    wider bounds, or leave the due times out. Other strategies state none.

    \b
    Examples:
      peaktape import guidellm-results benchmarks.json -o runs/a.parquet
      peaktape import guidellm-results sweep.json --which 3 -o runs/a.parquet
      peaktape import guidellm-results benchmarks.json -o runs/a.parquet \\
        --max-lateness-p99 50ms --max-lateness 200ms
      peaktape import guidellm-results benchmarks.json -o runs/a.parquet --from-sent
    """
    from replay.cli.ordering import bounds_of
    from replay.importers.foreign_run import without_due
    from replay.importers.guidellm import read_guidellm

    def read(path: Path, which: int | None, watch: Watch) -> ForeignRun:
        told = read_guidellm(path, which, watch)
        return without_due(told) if from_sent else told

    bounds = bounds_of(stated)
    _import(read, result, bounds, key, overwrite)


@grouped
def inference_perf(result: Result, *, key: Key = None, overwrite: Overwrite = False) -> None:
    """Import inference-perf's per_request_lifecycle_metrics.json, as a run.

    Have it written with report.request_lifecycle.per_request: true; config.yaml
    beside it says load and target. Requests pair by what was asked. It holds
    no due times: coordinated omission can't be excluded.

    \b
    Examples:
      peaktape import inference-perf reports/per_request_lifecycle_metrics.json -o runs/a.parquet
    """
    from replay.importers.inference_perf import read_inference_perf

    _import(read_inference_perf, result, {}, key, overwrite)


def _import(
    read: Callable[[Path, int | None, Watch], ForeignRun],
    asked: Result,
    bounds: dict[str, float],
    key: str | None,
    overwrite: bool,
) -> None:
    """Import with progress on stderr; what came of it goes to stdout, what to know about it to stderr."""
    from rich.console import Console

    from capture.counts import counted
    from capture.trace_writer import refuse_existing, refuse_input
    from replay.importers.foreign_file import write_foreign_run
    from replay.importers.foreign_run import run_of

    result, output, keys = asked.result, asked.output, keys_of(key)
    refuse_input(output, [result, *key_files_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    console = Console(stderr=True)
    with progress_bar(console) as progress:
        task = progress.add_task(f"reading {result.name}", total=1.0, rows="")
        told = read(result, asked.which, lambda share: progress.update(task, completed=share))
        progress.update(task, completed=1.0)
        table, metadata = run_of(
            told,
            source=result,
            label=asked.label or told.label or output.stem,
            target=asked.target,
            bounds=bounds,
        )
        write_foreign_run(output, table, metadata, keys)
    if not any(one.due_ns is not None for one in told.requests):
        no_due = "no due times: coordinated omission can't be excluded; latencies are from sent"
        tell(console, "missing", [no_due])
    tell(console, "note", told.notes)
    tell_left_out(console, told.left_out)
    span_s = max(one.sent_ns for one in told.requests) - min(one.sent_ns for one in told.requests)
    typer.echo(
        f"{output}: {counted(len(told.requests), 'request')} of {told.made_by} over {span_s / 1e9:,.1f} s, "
        f"{metadata.mode} loop"
    )
