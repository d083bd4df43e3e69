"""The verb `verify-amplification`: is amplified traffic what so many users would have made?"""

from __future__ import annotations

from typing import Annotated

import typer


def verify_amplification(
    trace: Annotated[str, typer.Argument(help="A trace: a file, a folder of segments, or a quoted glob.")],
    amplify: Annotated[
        float, typer.Option(help="Keep 1 of so many sessions, and amplify back by that.")
    ] = 4.0,
    method: Annotated[str, typer.Option(help="As in transform.")] = "auto",
    thinnings: Annotated[int, typer.Option(min=2, max=1000, help="How many times that is tried.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")] = False,
) -> None:
    """Verify amplification on your own traffic: thin a trace by sessions, amplify back, compare.

    Compared are burstiness (index of dispersion) and the largest number of arrivals in 0.1, 1, 10 and 60 s,
    within 10 %, and the 99th percentile of the wait in a simulated queue at 75 % load, within a factor of 2.
    A small sample of a bursty trace says little: what may be chance is told apart. No users are steadier than
    their sessions alone: where a trace is so by chance, these are the truth. Exit codes: 0 fine,
    1 something is off by more than chance.

    \b
    Examples:
      peaktape verify-amplification prod.parquet
      peaktape verify-amplification prod.parquet --amplify 10 --thinnings 20
      peaktape verify-amplification prod.parquet --method tied --json | jq .holds
    """
    import dataclasses
    import json

    from rich.console import Console

    from capture.failures import EXIT_REGRESSION
    from capture.trace_reader import open_trace
    from replay.cli.printing import show
    from replay.report.holdout_text import holdout_report
    from replay.transform.amplification.holdout import hold_out
    from replay.transform.clock_doubts import clock_warnings
    from replay.transform.plan import rows_of_trace

    notes = Console(stderr=True, highlight=False)
    with notes.status(f"reading {trace}"):
        opened = open_trace(trace)
        rows, _ = rows_of_trace(opened)
    tick_ns = opened.metadata.clock_tick_ns
    for warning in clock_warnings(rows.due_ns, tick_ns):
        notes.print(f"WARNING {warning}; import with --unround", markup=False)
    with notes.status(f"thinning and amplifying {thinnings} times"):
        found = hold_out(rows, amplify, method, thinnings, seed, tick_ns)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(found), "holds": found.holds}, indent=2))
    else:
        show(holdout_report(found))
    if not found.holds:
        raise typer.Exit(EXIT_REGRESSION)
