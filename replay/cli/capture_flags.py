"""The flags of `capture`: what each is called and says, and what those that choose come to."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from capture.choice import Choice
    from capture.time_window import TimeWindow

_choosing = functools.partial(typer.Option, rich_help_panel="What is recorded")
_watching = functools.partial(typer.Option, rich_help_panel="Watching it")
_keeping = functools.partial(typer.Option, rich_help_panel="What is kept where")

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
Metrics = Annotated[
    str | None,
    _watching(
        metavar="HOST:PORT",
        help="Serve /metrics (Prometheus), /healthz and /readyz there, such as 127.0.0.1:9464.",
    ),
]
LogFormat = Annotated[
    Literal["text", "json"], _watching(help="json: everything on stderr is one JSON object a line.")
]
Outbox = Annotated[
    Path,
    _keeping(
        envvar="PEAKTAPE_OUTBOX",
        help="Folder for what s3:// has not got yet; it must outlive the capture.",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choosing:
    """Of which requests rows are made, and when."""

    filter_text: Annotated[
        str | None,
        _choosing(
            "--filter",
            help="Record only what this filter of mitmproxy takes, such as "
            "'~u /v1/ & ~m POST & !~d internal'.",
        ),
    ] = None
    sample: Annotated[
        str | None,
        _choosing(
            help="Record this share of sessions, such as 1%; a conversation is in with all its turns or out."
        ),
    ] = None
    sample_seed: Annotated[
        str | None,
        _choosing(help="Draw the sample by this text: captures with the same one take the same sessions."),
    ] = None
    max_body: Annotated[
        str | None,
        _choosing(
            help="Keep no body longer than this, only its size (and no tokens that it states), such as 1MB."
        ),
    ] = None
    paused: Annotated[
        bool,
        _choosing(
            "--paused",
            help="Begin without recording. SIGUSR1 begins or resumes, SIGUSR2 pauses, clients are "
            "served always.",
        ),
    ] = False
    start: Annotated[
        str | None, _choosing("--from", help="Record from then on: 2026-11-25T09:00 or 09:00, local time.")
    ] = None
    end: Annotated[
        str | None, _choosing("--to", help="Record until then; clients are served on until Ctrl-C.")
    ] = None
    lasts: Annotated[
        str | None, _choosing("--for", help="Record for so long, such as 10m, and end by itself then.")
    ] = None

    def choice(self) -> Choice:
        """What the flags choose; raises `BadInput` naming the flag."""
        import secrets

        from capture.choice import Choice, parse_body_limit, parse_sample
        from capture.failures import BadInput

        if self.filter_text is not None:
            from capture.filter_stages import parse_filter

            parse_filter(self.filter_text)
        if self.sample_seed is not None and self.sample is None:
            raise BadInput("--sample-seed: there is no sample to draw; add --sample 1%, for example")
        share = 1.0 if self.sample is None else parse_sample(self.sample, "--sample")
        limit = self.max_body
        return Choice(
            filter=self.filter_text or "",
            sample=share,
            sample_seed=self.sample_seed or (secrets.token_hex(4) if share < 1 else ""),
            max_body_bytes=Choice.max_body_bytes if limit is None else parse_body_limit(limit, "--max-body"),
            paused=self.paused,
        )

    def window(self) -> TimeWindow:
        """The time window that the flags name, as of now; raises `BadInput`."""
        import datetime

        from capture.time_window import window_of

        return window_of(self.start, self.end, self.lasts, datetime.datetime.now().astimezone())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeping:
    """How much may lie where; `capture_output.destination_of` says what it comes to."""

    max_size: Annotated[
        str | None,
        _keeping(help="Delete the oldest segments beyond so much, such as 50GB, while the capture runs."),
    ] = None
    max_age: Annotated[
        str | None, _keeping(help="Delete segments older than this, such as 7d, while the capture runs.")
    ] = None
    outbox: Outbox = Path("peaktape-outbox")
    outbox_size: Annotated[
        str,
        _keeping(help="So much may wait there; requests beyond are served, lost to the trace, and counted."),
    ] = "10GB"
