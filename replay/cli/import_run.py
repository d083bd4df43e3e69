"""What all import commands share: their options, the progress they show, and what they print at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of
from replay.cli.printing import tell, tell_left_out
from replay.cli.progress_bar import progress_bar

if TYPE_CHECKING:
    from capture.importers.captured_rows import Watch
    from capture.importers.clock import Rounded
    from capture.importers.pending_trace import PendingTrace, WrittenTrace
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests
    from capture.redaction import RedactionPolicy

Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of all that is drawn: same seed, same trace."),
]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Model that the requests ask for.")]
RecordedModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Model that the requests ask for; default: the one recorded."
    ),
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Ask for exactly the recorded number of output tokens (ignore_eos, min_tokens: vLLM, SGLang; "
        "OpenAI's API rejects them). Without it max_tokens is an upper bound.",
    ),
]


@dataclasses.dataclass(frozen=True)
class Files:
    """What is imported, and where to."""

    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to import, plain or gzipped.", show_default=False)
    ]
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="TRACE", help="The trace to write.", show_default=False)
    ]


@dataclasses.dataclass(frozen=True)
class Writing:
    """How much of it is written, and how."""

    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Import the first N requests only.")
    ] = None
    key: Key = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the trace if it exists.")] = False


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What is done about a clock that was rounded."""

    unround: Annotated[
        bool,
        typer.Option(
            "--unround", help="Spread the requests of one tick of a rounded clock evenly at random over it."
        ),
    ] = False
    refuse_rounded: Annotated[
        bool,
        typer.Option("--refuse-rounded", help="Refuse a source whose clock is rounded, instead of telling."),
    ] = False

    def rounded(self) -> Rounded:
        """What the two flags ask for; raises `BadInput` when they ask for both."""
        from capture.failures import BadInput
        from capture.importers.clock import Rounded

        if self.unround and self.refuse_rounded:
            raise BadInput("--unround: found together with --refuse-rounded, one of the two wanted")
        return Rounded.SPREAD if self.unround else Rounded.REFUSE if self.refuse_rounded else Rounded.KEEP


@dataclasses.dataclass(frozen=True)
class Redacting:
    """What of a request may not be written."""

    redact: Annotated[
        list[str] | None,
        typer.Option("--redact", metavar="NAME", help="A further header or parameter to redact; repeatable."),
    ] = None
    policy: Annotated[
        Path | None,
        typer.Option(help="A redaction policy file (YAML), as of `capture`: samples/redaction.yml."),
    ] = None

    def redaction(self) -> RedactionPolicy:
        """The policy of the file (or the default one) with the user's further names; raises `BadInput`."""
        from capture.privacy.policy_file import policy_of

        return policy_of(self.policy, self.redact or ())


@dataclasses.dataclass(frozen=True)
class Asking:
    """What requests that are made of lengths ask for, and the seed of what they say."""

    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Ask for streamed answers.")] = True
    ignore_eos: IgnoreEos = False
    seed: Seed = 0

    def requests(self, **named: str) -> ChatRequests:
        """Requests that ask so, with the model that is `named` if one is."""
        from capture.importers.synthetic_request import ChatRequests

        return ChatRequests(stream=self.stream, ignore_eos=self.ignore_eos, **named)

    def prompts(self) -> SyntheticPrompts:
        """What draws their prompts."""
        from capture.importers.synthetic_prompt import SyntheticPrompts

        return SyntheticPrompts(self.seed)


def run_import(begin: Callable[[Watch], PendingTrace], files: Files, writing: Writing) -> None:
    """Import with progress on stderr; what came of it goes to stdout, what to know about it to stderr."""
    from rich.console import Console

    from capture.importers.pending_trace import write_pending
    from capture.trace_writer import refuse_existing, refuse_input

    file, output, limit = files.file, files.output, writing.limit
    keys = keys_of(writing.key)
    refuse_input(output, [file, *key_files_of(keys)])
    refuse_existing(output, overwrite=writing.overwrite)
    console = Console(stderr=True)
    with progress_bar(console) as progress:
        task = progress.add_task(f"reading {file.name}", total=1.0, rows="")
        pending = begin(lambda share: progress.update(task, completed=share))
        progress.update(task, completed=1.0)
        task = progress.add_task(f"writing {output.name}", total=1.0, rows="")

        def on_rows(rows: int) -> None:
            share = max(pending.fraction_read(), rows / limit if limit else 0.0)
            progress.update(task, completed=min(1.0, share), rows=f"· {rows:,} rows")

        written = write_pending(
            pending, output, limit=limit, overwrite=writing.overwrite, on_rows=on_rows, keys=keys
        )
    tell(console, "note", pending.notes)
    tell_left_out(console, written.dropped)
    typer.echo(told(output, written))


def told(output: Path, written: WrittenTrace) -> str:
    """The closing line: rows, span, mean rate, file size."""
    from capture.counts import counted, readable_bytes

    span_s = written.span_ns / 1e9
    rate = f", {(written.rows - 1) / span_s:,.2f} requests/s" if span_s > 0 else ""
    size = readable_bytes(written.file_bytes)
    return f"{output}: {counted(written.rows, 'row')} over {span_s:,.1f} s{rate}, {size}"
