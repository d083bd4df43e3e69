"""The flags of `capture`: what each is called and says, and what those that choose come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from replay.cli.key_option import Key as Key

if TYPE_CHECKING:
    from capture.choice import Choice
    from capture.time_window import TimeWindow

_CHOOSING = "What is recorded"
_WATCHED = "Watching it"
_KEPT = "What is kept where"

OutputName = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        help="NAME.parquet for one file, s3://BUCKET/PREFIX/, or any other name for a segment folder.",
    ),
]
Upstream = Annotated[
    str | None, typer.Option(help="The server behind the proxy, for example http://127.0.0.1:8000.")
]
Listen = Annotated[str, typer.Option(help="Where clients connect; port 0 takes a free one.")]
Mode = Annotated[
    Literal["reverse", "regular"] | None,
    typer.Option(help="reverse (default with --upstream), or regular for clients that set a proxy."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Append = Annotated[
    bool,
    typer.Option(
        "--append", help="Go on in a folder that holds segments of an earlier capture; for services."
    ),
]
ResponseBodies = Annotated[
    Literal["keep", "drop"], typer.Option(help="Whether response bodies stand in the trace.")
]
Redact = Annotated[
    list[str] | None,
    typer.Option(help="A further header or query parameter that is never written; may be repeated."),
]
Policy = Annotated[
    Path | None,
    typer.Option(help="What else is left out, as a YAML file; samples/redaction.yml shows what it can say."),
]
SegmentMb = Annotated[int, typer.Option(min=1, max=1024, help="Close a segment at this size in memory.")]
SegmentS = Annotated[float, typer.Option(min=0.1, help="Close a segment at this age in seconds.")]
RewriteHost = Annotated[
    bool, typer.Option("--rewrite-host", help="Send the upstream's name as Host, not the client's.")
]
UpstreamCa = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="PEM file to trust for an https upstream.")
]
Processes = Annotated[
    int, typer.Option(min=1, max=64, help="Proxies on the same address, one process each, into one trace.")
]
ParentPid = Annotated[
    int | None, typer.Option(hidden=True, help="End as on SIGTERM when this process is the parent no more.")
]
Certificates = Annotated[Path | None, typer.Option(help="Folder of the proxy's own certificate authority.")]

Filter = Annotated[
    str | None,
    typer.Option(
        "--filter",
        help="Record only what this filter of mitmproxy takes, such as '~u /v1/ & ~m POST & !~d internal'.",
        rich_help_panel=_CHOOSING,
    ),
]
Sample = Annotated[
    str | None,
    typer.Option(
        help="Record this share of sessions, such as 1%; a conversation is in with all its turns or out.",
        rich_help_panel=_CHOOSING,
    ),
]
SampleSeed = Annotated[
    str | None,
    typer.Option(
        help="Draw the sample by this text: captures with the same one take the same sessions.",
        rich_help_panel=_CHOOSING,
    ),
]
MaxBody = Annotated[
    str | None,
    typer.Option(
        help="Keep no body longer than this, only its size (and no tokens that it states), such as 1MB.",
        rich_help_panel=_CHOOSING,
    ),
]
Paused = Annotated[
    bool,
    typer.Option(
        "--paused",
        help="Begin without recording. SIGUSR1 begins or resumes, SIGUSR2 pauses, clients are served always.",
        rich_help_panel=_CHOOSING,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Record from then on: 2026-11-25T09:00 or 09:00, local time.",
        rich_help_panel=_CHOOSING,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", help="Record until then; clients are served on until Ctrl-C.", rich_help_panel=_CHOOSING
    ),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for", help="Record for so long, such as 10m, and end by itself then.", rich_help_panel=_CHOOSING
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Serve /metrics (Prometheus), /healthz and /readyz there, such as 127.0.0.1:9464.",
        rich_help_panel=_WATCHED,
    ),
]
MaxSize = Annotated[
    str | None,
    typer.Option(
        help="Delete the oldest segments beyond so much, such as 50GB, while the capture runs.",
        rich_help_panel=_KEPT,
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option(
        help="Delete segments older than this, such as 7d, while the capture runs.", rich_help_panel=_KEPT
    ),
]
Outbox = Annotated[
    Path,
    typer.Option(
        envvar="PEAKTAPE_OUTBOX",
        help="Folder for what s3:// has not got yet; it must outlive the capture.",
        rich_help_panel=_KEPT,
    ),
]
OutboxSize = Annotated[
    str,
    typer.Option(
        help="So much may wait there; requests beyond are served, lost to the trace, and counted.",
        rich_help_panel=_KEPT,
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(help="json: everything on stderr is one JSON object a line.", rich_help_panel=_WATCHED),
]


def choice_of(
    filter_text: str | None, sample: str | None, seed: str | None, max_body: str | None, *, paused: bool
) -> Choice:
    """What the flags choose; raises `BadInput` naming the flag."""
    import secrets

    from capture.choice import Choice, parse_body_limit, parse_sample
    from capture.failures import BadInput
    from capture.flow_choice import parse_filter

    if filter_text is not None:
        parse_filter(filter_text)
    if seed is not None and sample is None:
        raise BadInput("--sample-seed: there is no sample to draw; add --sample 1%, for example")
    share = 1.0 if sample is None else parse_sample(sample, "--sample")
    return Choice(
        filter=filter_text or "",
        sample=share,
        sample_seed=seed or (secrets.token_hex(4) if share < 1 else ""),
        max_body_bytes=Choice.max_body_bytes
        if max_body is None
        else parse_body_limit(max_body, "--max-body"),
        paused=paused,
    )


def window_of_flags(start: str | None, end: str | None, lasts: str | None) -> TimeWindow:
    """The time window that the flags name, as of now; raises `BadInput`."""
    import datetime

    from capture.time_window import window_of

    return window_of(start, end, lasts, datetime.datetime.now().astimezone())
