"""The verb `audit`: whether a trace holds what it should not, by kind and place, never the secret itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from replay.cli.key_option import Key, keys_of

if TYPE_CHECKING:
    from capture.privacy.audit import Audit
    from capture.trace_reader import Trace

_ROWS_AT_ONCE: Final = 64
_FOUND: Final = 1


def audit(
    trace: Annotated[str, typer.Argument(help="A trace: a file, a folder of segments, or a quoted glob.")],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="The policy that the trace should comply with (YAML). Without one, secrets, personal data "
            "and headers that are not on the default list are searched for.",
        ),
    ] = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")] = False,
) -> None:
    """Search a trace for what should not be in it: secrets, cards, e-mail addresses, unlisted headers.

    Bodies are decoded, JSON in strings is read, and events of a stream are joined.
    Counts are shown by kind and place, never what was found.

    \b
    Exit codes: 0 nothing found · 1 something found · 2 bad input

    \b
    Examples:
      peaktape audit prod.parquet
      peaktape audit segments/ --policy samples/redaction.yml
      peaktape audit prod.parquet --json | jq '.findings[].kind'
    """
    import dataclasses
    import json

    from capture.privacy.audit import Audit
    from capture.privacy.policy_file import policy_of
    from capture.privacy.secret_patterns import DEFAULT_KINDS, OPTIONAL_KINDS
    from capture.redaction import RedactionPolicy
    from capture.trace_reader import open_trace

    everything = RedactionPolicy(kinds=(*DEFAULT_KINDS, *OPTIONAL_KINDS))
    chosen = everything if policy is None else policy_of(policy)
    opened = open_trace(trace, keys_of(key))
    auditing = Audit(chosen)
    _search(opened, auditing)
    findings = auditing.findings()
    if as_json:
        facts = {
            "trace": trace,
            "rows": auditing.rows,
            "policy": chosen.describe(),
            "recorded_with": dict(opened.metadata.redaction),
            "clean": not findings,
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(trace, auditing, findings)
        typer.echo(contents_line(opened.metadata.redaction))
    if findings:
        raise typer.Exit(_FOUND)


def _search(trace: Trace, auditing: Audit) -> None:
    """Every row once, with progress on stderr, in flat memory."""
    from capture.trace_writer import rows_of
    from replay.cli.progress_bar import rows_done

    with rows_done(f"auditing {trace.name}", trace.rows) as on_rows:
        for batch in trace.iter_batches():
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                for row in rows_of(batch.slice(start, _ROWS_AT_ONCE)):
                    auditing.row(row)
                on_rows(auditing.rows)


def contents_line(recorded_with: Mapping[str, Any]) -> str:
    """What a trace's own policy did with prompts and completions, which a search can't tell from others."""
    name = recorded_with.get("policy")
    if name is None:
        return "it names no policy: prompts and completions, if any, may stand in it as they were"
    kept = [what for what in ("prompts", "completions") if recorded_with.get(what, "keep") == "keep"]
    done = [f"{what}: {recorded_with[what]}" for what in ("prompts", "completions") if what not in kept]
    told = [*done, *([f"{' and '.join(kept)}, if any, stand in it as they were"] if kept else [])]
    earlier = [one.get("policy") for one in recorded_with.get("earlier", ())]
    recorded = f"recorded with policy {', '.join(dict.fromkeys(filter(None, earlier)))}, redacted with {name}"
    return f"{recorded if any(earlier) else f'recorded with policy {name}'}: {', '.join(told)}"


def _show(trace: str, auditing: Audit, findings: list[Any]) -> None:
    from rich.table import Table

    from replay.cli.printing import show

    if not findings:
        typer.echo(f"{trace}: {auditing.rows:,} rows, nothing found that should not be there")
        return
    table = Table(title=f"{trace}: {auditing.rows:,} rows", title_justify="left", box=None, pad_edge=False)
    table.add_column("count", justify="right")
    table.add_column("kind")
    table.add_column("where")
    for finding in findings:
        table.add_row(f"{finding.count:,}", finding.kind, finding.place)
    show(table)
    total = sum(finding.count for finding in findings)
    way_out = "take it out with `peaktape redact`, and delete this trace"
    typer.echo(f"found: {total:,}; {way_out}")
