"""The verb `redact`: a trace that was recorded with more, under a stricter policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of

if TYPE_CHECKING:
    from capture.redacted_trace import Redacted

_MOST_NAMED = 8


def redact(
    trace: Annotated[str, typer.Argument(help="A trace: a file, a folder of segments, or a quoted glob.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="TRACE", help="The trace to write, one file.")
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="A redaction policy (YAML), as of `capture`: samples/redaction.yml. Without one, what a "
            "capture leaves out by itself: credentials, secrets, values of unlisted headers.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--redact", metavar="NAME", help="A further header or parameter to redact; repeatable."),
    ] = None,
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Leave out of a finished trace what a policy doesn't keep: a copy, as if captured under that policy.

    Instants, sizes on the wire and the number of chunks stay. Hashes and pseudonyms of the same key (key_env
    in the policy) agree with those of a capture; without one, those of one call agree. What was left out
    before stays out: a policy that keeps prompts brings none back. The original stays as it is.

    \b
    Examples:
      peaktape redact prod.parquet --policy samples/redaction.yml -o shared.parquet
      peaktape redact prod/ --redact X-Customer -o shared.parquet
      peaktape redact s3://traces/prod/ --policy policy.yml -o shared.parquet --key file:trace.key
    """
    from capture.privacy.policy_file import policy_of
    from capture.redacted_trace import write_redacted
    from capture.trace_reader import open_trace
    from capture.trace_writer import refuse_existing, refuse_input
    from replay.cli.progress_bar import rows_done

    keys = keys_of(key)
    chosen = policy_of(policy, names or ())
    refuse_input(output, [trace, policy, *key_files_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    opened = open_trace(trace, keys)
    with rows_done(f"redacting {opened.name}", opened.rows) as on_rows:
        done = write_redacted(opened, chosen, output, overwrite=overwrite, keys=keys, on_rows=on_rows)
    typer.echo(_told(output, done))


def _told(output: Path, done: Redacted) -> str:
    """The closing line: rows, what became of contents, and what was left out by kind."""
    from capture.counts import counted

    kinds = [f"{kind} {count:,}" for kind, count in done.left_out.most_common(_MOST_NAMED)]
    more = len(done.left_out) - len(kinds)
    left_out = ", ".join(kinds) + (f" and {more} more kinds" if more > 0 else "")
    contents = ", ".join(f"{what}: {done.stated[what]}" for what in ("prompts", "completions"))
    rows = f"{output}: {counted(done.rows, 'row')} under policy {done.stated['policy']}, {contents}"
    return f"{rows}; taken out of bodies: {left_out or 'nothing'}"
