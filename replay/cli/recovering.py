"""The verb `recover`: a trace from what a capture left that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replay.cli.key_option import Key, keys_of

Place = Annotated[
    Path,
    typer.Argument(metavar="CAPTURE", help="What the capture was given as -o, or its folder of segments."),
]


def recover(capture: Place, key: Key = None) -> None:
    """Turn what a killed capture left into a valid trace.

    Whatever had reached the recorder becomes a row, requests that were in
    flight too. A new capture with the same output does this by itself.
    What an encrypted capture left needs its --key.

    \b
    Examples:
      peaktape recover prod.parquet
      peaktape recover segments/
      peaktape recover secret.parquet --key file:trace.key
    """
    from rich.console import Console

    from capture.recording import recover as recover_capture
    from capture.trace_reader import open_trace

    keys = keys_of(key)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    with notes.status(f"recovering {capture}"):
        recovered, trace = recover_capture(capture, keys)
    for path in recovered.damaged:
        notes.print(f"damaged, set aside: {path}", markup=False)
    rows = open_trace(trace, keys).rows
    typer.echo(
        f"{trace}: {rows:,} row{'s' if rows != 1 else ''}; {recovered.rows:,} had been in no segment, "
        f"{recovered.in_flight:,} of them in flight"
    )
