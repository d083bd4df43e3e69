"""The verb `recover`: a trace from what a capture left that was killed, or whose store was away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replay.cli.capture_flags import Outbox
from replay.cli.key_option import Key, keys_of

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from capture.recovery import Recovered

Place = Annotated[
    str,
    typer.Argument(metavar="CAPTURE", help="What the capture was given as -o, or its folder of segments."),
]


def recover(capture: Place, key: Key = None, outbox: Outbox = Path("peaktape-outbox")) -> None:
    """Turn what a killed capture left into a valid trace, and send what a store has not got.

    Whatever had reached the recorder becomes a row, requests that were in
    flight too. A new capture with the same output does this by itself.
    What an encrypted capture left needs its --key.

    \b
    Examples:
      peaktape recover prod.parquet
      peaktape recover segments/
      peaktape recover secret.parquet --key file:trace.key
      peaktape recover s3://traces/prod/ --outbox /var/lib/peaktape
    """
    from rich.console import Console

    from capture.object_store import is_url

    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    if is_url(capture):
        _recover_stored(capture, outbox, keys_of(key), notes)
    else:
        _recover_local(Path(capture), keys_of(key), notes)


def _recover_local(capture: Path, keys: Keys | None, notes: Any) -> None:
    from capture.counts import counted
    from capture.recording import recover as recover_capture
    from capture.trace_reader import open_trace

    with notes.status(f"recovering {capture}"):
        recovered, trace = recover_capture(capture, keys)
    _tell_damaged(recovered, notes)
    rows = open_trace(trace, keys).rows
    typer.echo(f"{trace}: {counted(rows, 'row')}; {_recovered([recovered])}")


def _recover_stored(url: str, outbox: Path, keys: Keys | None, notes: Any) -> None:
    from capture.counts import readable_bytes
    from capture.stored_output import StoredOutput
    from replay.cli.progress_bar import progress_bar, show_upload

    with progress_bar(notes) as progress:
        recovered, counts = StoredOutput.named(url, outbox).recover(show_upload(progress), keys)
    for one in recovered:
        _tell_damaged(one, notes)
    sent = f"sent {counts.sent_segments:,} segments, {readable_bytes(counts.sent_bytes)}"
    typer.echo(f"{url}: {sent}; {_recovered(recovered)}")


def _tell_damaged(recovered: Recovered, notes: Any) -> None:
    for path in recovered.damaged:
        notes.print(f"damaged, set aside: {path}", markup=False)


def _recovered(recovered: list[Recovered]) -> str:
    rows, in_flight = sum(one.rows for one in recovered), sum(one.in_flight for one in recovered)
    return f"{rows:,} had been in no segment, {in_flight:,} of them in flight"
