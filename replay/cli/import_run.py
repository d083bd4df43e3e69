"""What all import commands share: their options, the progress they show, and what they print at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import key_files_of, keys_of
from replay.cli.progress_bar import progress_bar

if TYPE_CHECKING:
    from capture.importers.captured_rows import Watch
    from capture.importers.clock import Rounded
    from capture.importers.pending_trace import PendingTrace, WrittenTrace
    from capture.redaction import RedactionPolicy

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The file to import, plain or gzipped.", show_default=False)
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="TRACE", help="The trace to write.", show_default=False)
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Import the first N requests only.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the trace if it exists.")]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Model that the requests ask for.")]
RecordedModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Model that the requests ask for; default: the one recorded."
    ),
]
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
    typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of all that is drawn: same seed, same trace."),
]
Redact = Annotated[
    list[str] | None,
    typer.Option("--redact", metavar="NAME", help="A further header or parameter to redact; repeatable."),
]
Policy = Annotated[
    Path | None, typer.Option(help="A redaction policy file (YAML), as of `capture`: samples/redaction.yml.")
]
Unround = Annotated[
    bool,
    typer.Option(
        "--unround", help="Spread the requests of one tick of a rounded clock evenly at random over it."
    ),
]
RefuseRounded = Annotated[
    bool, typer.Option("--refuse-rounded", help="Refuse a source whose clock is rounded, instead of telling.")
]


def rounded_as(unround: bool, refuse: bool) -> Rounded:
    """What the two flags ask for; raises `BadInput` when they ask for both."""
    from capture.failures import BadInput
    from capture.importers.clock import Rounded

    if unround and refuse:
        raise BadInput("--unround: found together with --refuse-rounded, one of the two wanted")
    return Rounded.SPREAD if unround else Rounded.REFUSE if refuse else Rounded.KEEP


def run_import(
    begin: Callable[[Watch], PendingTrace],
    file: Path,
    output: Path,
    limit: int | None,
    key: str | None,
    overwrite: bool,
) -> None:
    """Import with progress on stderr; what came of it goes to stdout, what to know about it to stderr."""
    from rich.console import Console

    from capture.importers.pending_trace import write_pending
    from capture.trace_writer import refuse_existing, refuse_input

    keys = keys_of(key)
    refuse_input(output, [file, *key_files_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    console = Console(stderr=True)
    with progress_bar(console) as progress:
        task = progress.add_task(f"reading {file.name}", total=1.0, rows="")
        pending = begin(lambda share: progress.update(task, completed=share))
        progress.update(task, completed=1.0)
        task = progress.add_task(f"writing {output.name}", total=1.0, rows="")

        def on_rows(rows: int) -> None:
            share = max(pending.fraction_read(), rows / limit if limit else 0.0)
            progress.update(task, completed=min(1.0, share), rows=f"· {rows:,} rows")

        written = write_pending(pending, output, limit=limit, overwrite=overwrite, on_rows=on_rows, keys=keys)
    for note in pending.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for cause, count in written.dropped.items():
        console.print(f"left out: {count:,} {cause}", markup=False, highlight=False, soft_wrap=True)
    typer.echo(told(output, written))


def told(output: Path, written: WrittenTrace) -> str:
    """The closing line: rows, span, mean rate, file size."""
    from capture.counts import readable_bytes

    span_s = written.span_ns / 1e9
    rate = f", {(written.rows - 1) / span_s:,.2f} requests/s" if span_s > 0 else ""
    size = readable_bytes(written.file_bytes)
    plural = "s" if written.rows != 1 else ""
    return f"{output}: {written.rows:,} row{plural} over {span_s:,.1f} s{rate}, {size}"


def redaction_of(policy: Path | None, names: list[str] | None) -> RedactionPolicy:
    """The policy of a file (or the default one) with the user's further names; raises `BadInput`."""
    from capture.privacy.policy_file import policy_of

    return policy_of(policy, names or ())
