"""The verb `inspect`: what a trace holds, as text with a plot of its rate, or as JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from replay.cli.key_option import Key, keys_of


def inspect(
    trace: Annotated[str, typer.Argument(help="A trace: a file, a folder of segments, or a quoted glob.")],
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")] = False,
) -> None:
    """Show what a trace holds: rate over time, sessions, endpoints, outcomes, tokens, doubts.

    \b
    Examples:
      peaktape inspect prod.parquet
      peaktape inspect segments/ --json | jq .endpoints
      peaktape inspect secret.parquet --key file:trace.key
    """
    import json

    from rich.console import Console

    from capture.trace_reader import open_trace
    from replay.report.rate_plot import rate_plot
    from replay.report.trace_text import trace_json, trace_lines
    from replay.transform.inspection import inspect_trace

    with Console(stderr=True).status(f"reading {trace}"):
        facts = inspect_trace(open_trace(trace, keys_of(key)))
    if as_json:
        typer.echo(json.dumps(trace_json(facts), indent=2))
        return
    out = Console(highlight=False, soft_wrap=True)
    for line in trace_lines(facts):
        out.print(line, markup=False)
    plot = rate_plot(
        facts.rate.start_s.tolist(),
        facts.rate.per_s.tolist(),
        width=min(100, out.width),
        height=10,
        title="requests/s as captured",
        colour=out.color_system is not None,
    )
    out.file.write(plot + "\n")
