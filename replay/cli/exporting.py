"""`peaktape export`: traces → other tools' inputs. One command per format, each with its options.

Those of runs are in `exporting_runs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.exporting_runs import Output, Overwrite, hdr_log, hgrm, otlp_metrics, run_csv
from replay.cli.key_option import Key, key_files_of, keys_of, tell_in_the_clear
from replay.cli.printing import tell, tell_left_out
from replay.cli.progress_bar import rows_done

if TYPE_CHECKING:
    from capture.exporters.export_file import ExportFormat
    from capture.trace_reader import Trace

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Turn a trace into other tools' inputs, or a run into their figures.",
    epilog="Examples: peaktape export har prod.parquet -o prod.har · "
    "peaktape export hgrm runs/a.parquet -o a.hgrm",
)
OF_A_TRACE = "Of a trace"
OF_A_RUN = "Of a run"
OF_EITHER = "Of either"

app.command("hgrm", rich_help_panel=OF_A_RUN)(hgrm)
app.command("hdr-log", rich_help_panel=OF_A_RUN)(hdr_log)
app.command("otlp-metrics", rich_help_panel=OF_A_RUN)(otlp_metrics)

TraceArgument = Annotated[
    str,
    typer.Argument(metavar="TRACE", help="A trace: file, folder of segments, or glob.", show_default=False),
]


@app.command("har", rich_help_panel=OF_A_TRACE)
def har(trace: TraceArgument, output: Output, key: Key = None, overwrite: Overwrite = False) -> None:
    """Export to HAR, for browsers' tools and mitmproxy; `peaktape import har` makes the same rows of it.

    Bodies are decoded, as in every HAR; what else HAR has no place for stands in
    a member of our own. Messages of gRPC and WebSocket and trailers are lost.

    \b
    Examples:
      peaktape export har prod.parquet -o prod.har
      peaktape export har prod.parquet -o prod.har.gz
    """
    from capture.exporters.har import HAR

    _export(trace, output, key, overwrite, lambda _: HAR)


@app.command("mooncake", rich_help_panel=OF_A_TRACE)
def mooncake(trace: TraceArgument, output: Output, key: Key = None, overwrite: Overwrite = False) -> None:
    """Export to a Mooncake trace: JSON lines of instants, lengths and prefix-block ids, without any text.

    Requests whose token counts are unknown are left out and counted.

    \b
    Examples:
      peaktape export mooncake prod.parquet -o prod.jsonl
      peaktape export mooncake prod.parquet -o prod.jsonl.gz
    """
    from capture.exporters.lengths import mooncake as format_of
    from capture.exporters.prefix_blocks import tokens_a_word

    _export(trace, output, key, overwrite, lambda opened: format_of(tokens_a_word(opened)))


@app.command("vegeta", rich_help_panel=OF_A_TRACE)
def vegeta(
    trace: TraceArgument,
    output: Output,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="URL", help="Where targets lie; default: the captured hosts."),
    ] = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Export to vegeta's JSON targets (vegeta attack -format=json -lazy). Arrivals are lost: vegeta paces.

    \b
    Examples:
      peaktape export vegeta prod.parquet -o targets.jsonl --target http://staging:8000
    """
    from capture.exporters.vegeta import checked_base
    from capture.exporters.vegeta import vegeta as format_of

    base_url = None if target is None else checked_base(target)
    _export(trace, output, key, overwrite, lambda _: format_of(base_url))


@app.command("aiperf", rich_help_panel=OF_A_TRACE)
def aiperf(
    trace: TraceArgument,
    output: Output,
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Which requests: AIPerf sends to one path.")
    ] = "/v1/chat/completions",
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Export to AIPerf's trace input: each request's own body at its own instant.

    Run it with aiperf profile --input-file FILE --custom-dataset-type
    mooncake_trace --fixed-schedule.

    \b
    Examples:
      peaktape export aiperf prod.parquet -o prod.aiperf.jsonl
      peaktape export aiperf prod.parquet -o embed.jsonl --path /v1/embeddings
    """
    from capture.exporters.aiperf import aiperf as format_of

    _export(trace, output, key, overwrite, lambda _: format_of(path))


@app.command("guidellm", rich_help_panel=OF_A_TRACE)
def guidellm(trace: TraceArgument, output: Output, key: Key = None, overwrite: Overwrite = False) -> None:
    """Export to GuideLLM's trace input (data kind mooncake, profile replay): lengths and prefix blocks.

    Requests whose token counts are unknown are left out and counted.

    \b
    Examples:
      peaktape export guidellm prod.parquet -o prod.guidellm.jsonl
    """
    from capture.exporters.lengths import guidellm as format_of
    from capture.exporters.prefix_blocks import tokens_a_word

    _export(trace, output, key, overwrite, lambda opened: format_of(tokens_a_word(opened)))


@app.command("csv", rich_help_panel=OF_EITHER)
def csv(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TRACE|RUN",
            help="A trace: file, folder of segments, or glob; or a run.",
            show_default=False,
        ),
    ],
    output: Output,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Export to CSV, a line per request: everything but headers, bodies and chunks.

    Instants are ns from the zero of the trace or run; arrival_epoch_ns and
    due_epoch_ns are the wall clock. Of a run, latencies are given too: from
    due, unless the column's name says from_sent.

    \b
    Examples:
      peaktape export csv prod.parquet -o prod.csv
      peaktape export csv runs/a.parquet -o a.csv.gz
    """
    from capture.exporters.csv_table import CSV
    from replay.engine.run_format import is_run

    if is_run(Path(source), keys_of(key)):
        run_csv(Path(source), output, key, overwrite=overwrite)
    else:
        _export(source, output, key, overwrite, lambda _: CSV)


def _export(
    name: str, output: Path, key: str | None, overwrite: bool, format_of: Callable[[Trace], ExportFormat]
) -> None:
    """Export with progress on stderr; what came of it goes to stdout, what is lost to stderr."""
    from rich.console import Console

    from capture.counts import counted, readable_bytes
    from capture.exporters.export_file import export_trace
    from capture.trace_reader import open_trace
    from capture.trace_writer import refuse_existing, refuse_input

    keys = keys_of(key)
    refuse_input(output, [name, *key_files_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    trace = open_trace(name, keys)
    console = Console(stderr=True)
    with rows_done(f"writing {output.name}", trace.rows) as on_rows:
        into = format_of(trace)
        done = export_trace(trace, output, into, overwrite=overwrite, on_rows=on_rows)
    tell_in_the_clear((segment.path for segment in trace.segments), [output], into.content, keys)
    tell(console, "lost", done.lost)
    tell_left_out(console, done.left_out)
    size = readable_bytes(done.file_bytes)
    typer.echo(f"{output}: {counted(done.rows, 'request')} as {into.name}, {size}")
