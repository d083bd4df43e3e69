"""`peaktape import`: other tools' records → traces. One command per source, each with its options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from capture.importers.pending_trace import PendingTrace, WrittenTrace
    from capture.redaction import RedactionPolicy

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Turn other tools' records into a trace.",
    epilog="Example: peaktape import har session.har -o session.parquet",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file to import.", show_default=False)]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="TRACE", help="The trace to write.", show_default=False)
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Import the first N requests only.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the trace if it exists.")]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Model that the requests ask for.")]
Stream = Annotated[bool, typer.Option("--stream/--no-stream", help="Ask for streamed answers.")]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Ask for exactly the recorded number of output tokens (ignore_eos, min_tokens: vLLM, SGLang; "
        "OpenAI's API rejects them). Without it max_tokens is an upper bound.",
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the prompts' words: same seed, same trace."),
]
Redact = Annotated[
    list[str] | None,
    typer.Option("--redact", metavar="NAME", help="A further header or parameter to redact; repeatable."),
]


@app.command("azure-llm")
def azure_llm(
    file: File,
    output: Output,
    model: Model = "default",
    stream: Stream = True,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    limit: Limit = None,
    overwrite: Overwrite = False,
) -> None:
    """Import an Azure LLM inference trace: CSV with TIMESTAMP, ContextTokens, GeneratedTokens.

    It holds no text, so each prompt is made of exactly ContextTokens words;
    max_tokens is GeneratedTokens.

    \b
    Examples:
      peaktape import azure-llm conv.csv -o azure.parquet
      peaktape import azure-llm conv.csv -o vllm.parquet --model llama --ignore-eos
    """
    from capture.importers.azure_llm import open_azure_llm
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests

    requests = ChatRequests(model=model, stream=stream, ignore_eos=ignore_eos)
    _import(lambda: open_azure_llm(file, SyntheticPrompts(seed), requests), file, output, limit, overwrite)


@app.command("mooncake")
def mooncake(
    file: File,
    output: Output,
    unround: Annotated[
        bool,
        typer.Option(
            "--unround", help="Spread the requests of one clock tick (3 s) evenly at random over it."
        ),
    ] = False,
    model: Model = "default",
    stream: Stream = True,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    limit: Limit = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a Mooncake trace: JSON lines with timestamp, input_length, output_length, hash_ids.

    Prompts hold exactly input_length words; equal hash_ids give equal blocks
    of 512 words, so requests share prompt prefixes as in production.

    \b
    Examples:
      peaktape import mooncake trace.jsonl -o mooncake.parquet --unround
      peaktape import mooncake trace.jsonl -o first.parquet --limit 1000
    """
    from capture.importers.mooncake import open_mooncake
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests

    requests = ChatRequests(model=model, stream=stream, ignore_eos=ignore_eos)
    _import(
        lambda: open_mooncake(file, SyntheticPrompts(seed), requests, unround=unround),
        file,
        output,
        limit,
        overwrite,
    )


@app.command("har")
def har(
    file: File,
    output: Output,
    redact: Redact = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a HAR as browsers and proxies export it, also gzipped or mitmproxy's .zhar.

    Credential headers and query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import har session.har -o session.parquet
      peaktape import har session.har -o session.parquet --redact X-Customer
    """
    from capture.importers.har import open_har

    _import(lambda: open_har(file, _policy(redact)), file, output, limit, overwrite)


@app.command("mitm")
def mitm(
    file: File,
    output: Output,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Keep the flows before a damaged one instead of refusing.")
    ] = False,
    redact: Redact = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a mitmproxy flow file (.mitm, .flow), as written by mitmdump -w or mitmproxy's save.

    HTTP flows become rows; others are counted and left out. Credential headers
    and query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import mitm prod.mitm -o prod.parquet
      peaktape import mitm crashed.mitm -o whole.parquet --salvage
    """
    from capture.importers.mitm_flows import open_mitm

    _import(lambda: open_mitm(file, _policy(redact), salvage=salvage), file, output, limit, overwrite)


def _policy(names: list[str] | None) -> RedactionPolicy:
    from capture.redaction import RedactionPolicy

    return RedactionPolicy(tuple(names or ()))


def _import(
    begin: Callable[[], PendingTrace], file: Path, output: Path, limit: int | None, overwrite: bool
) -> None:
    """Import with progress on stderr; what came of it goes to stdout, what to know about it to stderr."""
    from rich.console import Console

    from capture.importers.pending_trace import write_pending
    from capture.trace_writer import refuse_existing, refuse_input

    refuse_input(output, [file])
    refuse_existing(output, overwrite=overwrite)
    console = Console(stderr=True)
    with _progress(console) as progress:
        task = progress.add_task(f"{output.name}", total=1.0, rows=0)
        pending = begin()

        def on_rows(rows: int) -> None:
            share = max(pending.fraction_read(), rows / limit if limit else 0.0)
            progress.update(task, completed=min(1.0, share), rows=rows)

        written = write_pending(pending, output, limit=limit, overwrite=overwrite, on_rows=on_rows)
    for note in pending.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for cause, count in written.dropped.items():
        console.print(f"left out: {count:,} {cause}", markup=False, highlight=False, soft_wrap=True)
    typer.echo(told(output, written))


def _progress(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("importing {task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} % · {task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def told(output: Path, written: WrittenTrace) -> str:
    """The closing line: rows, span, mean rate, file size."""
    from capture.counts import readable_bytes

    span_s = written.span_ns / 1e9
    rate = f", {(written.rows - 1) / span_s:,.2f} requests/s" if span_s > 0 else ""
    size = readable_bytes(written.file_bytes)
    plural = "s" if written.rows != 1 else ""
    return f"{output}: {written.rows:,} row{plural} over {span_s:,.1f} s{rate}, {size}"
