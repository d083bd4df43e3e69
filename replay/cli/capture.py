"""The verb `capture`: options in, a capture proxy running, notes and counters on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from capture.counts import Counts
    from capture.proxy import ProxyOptions
    from capture.recorder import Recorder, RecorderOptions


OutputName = Annotated[
    Path,
    typer.Option("--output", "-o", help="NAME.parquet for one file, any other name for a segment folder."),
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


def capture(
    output: OutputName,
    upstream: Upstream = None,
    listen: Listen = "127.0.0.1:8080",
    mode: Mode = None,
    overwrite: Overwrite = False,
    response_bodies: ResponseBodies = "keep",
    redact: Redact = None,
    policy: Policy = None,
    segment_mb: SegmentMb = 64,
    segment_s: SegmentS = 10.0,
    rewrite_host: RewriteHost = False,
    upstream_ca: UpstreamCa = None,
    certificates: Certificates = None,
    processes: Processes = 1,
    parent_pid: ParentPid = None,
) -> None:
    """Record inference traffic through a proxy, byte for byte, into a trace.

    Streams pass chunk by chunk and each chunk is stamped. Credentials and
    secrets are never written, also not those in bodies: names of headers and
    parameters stay, their values don't. --policy leaves out more: JSON paths,
    personal data, prompts and completions.

    Ctrl-C or SIGTERM ends the capture. Everything that was seen is on disk
    then, requests under way as such.

    \b
    Examples:
      peaktape capture --upstream http://127.0.0.1:8000 --listen 127.0.0.1:8080 -o prod.parquet
      peaktape capture --upstream https://api.example.com --rewrite-host -o prod.parquet
      peaktape capture --upstream http://127.0.0.1:8000 -o segments/ --segment-s 60
      peaktape capture --upstream http://127.0.0.1:8000 -o prod.parquet --policy samples/redaction.yml
      peaktape capture --upstream http://127.0.0.1:8000 -o prod.parquet --processes 4
      peaktape capture --mode regular --listen 127.0.0.1:8080 -o prod.parquet
    """
    from capture.privacy.policy_file import policy_of
    from capture.proxy import ProxyOptions, parse_listen, parse_upstream
    from capture.recorder import RecorderOptions

    _check_mode(mode, upstream)
    host, port = parse_listen(listen)
    url, authority = parse_upstream(upstream) if upstream else (None, None)
    chosen = ProxyOptions(
        listen_host=host,
        listen_port=port,
        upstream=url,
        keep_host_header=not rewrite_host,
        upstream_ca=upstream_ca,
        certificates=certificates,
        parent_pid=parent_pid,
        shared_port=processes > 1,
    )
    options = RecorderOptions(
        segment_bytes=segment_mb << 20,
        segment_s=segment_s,
        response_bodies=response_bodies == "keep",
        redaction=policy_of(policy, redact or ()),
    )
    upstreams = (authority,) if authority else ()
    _run(chosen, options, output, upstreams, overwrite=overwrite, processes=processes)


def _check_mode(mode: str | None, upstream: str | None) -> None:
    from capture.failures import BadInput

    if mode == "regular" and upstream:
        raise BadInput("--mode regular: takes no --upstream; leave one of them out")
    if mode != "regular" and not upstream:
        raise BadInput("--upstream: missing; name the server behind the proxy, or choose --mode regular")


def _run(
    chosen: ProxyOptions,
    options: RecorderOptions,
    name: Path,
    upstreams: tuple[str, ...],
    *,
    overwrite: bool,
    processes: int,
) -> None:
    from rich.console import Console

    from capture.failures import BadInput
    from capture.proxy import run_proxy
    from capture.recording import Output, record
    from capture.shards import Shards

    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    output = Output.named(name)
    recovered = output.prepare(overwrite=overwrite)
    if recovered is not None:
        notes.print(f"recovered {recovered.rows:,} rows of a capture that was cut off", markup=False)
    goes_to = f"→ {chosen.upstream}" if chosen.upstream else "as a regular proxy"

    def serve(recorder: Recorder) -> None:
        shards = Shards(processes - 1, recorder.facts, chosen)

        def ready(address: str) -> None:
            if recovered is None:
                output.clear()
            recorder.start()
            if processes > 1:
                shards.start(int(address.rpartition(":")[2]))
            tell(address)

        try:
            run_proxy(chosen, recorder, ready)
        finally:
            shards.stop()

    def tell(address: str) -> None:
        notes.print(f"capturing {goes_to} into {name}; Ctrl-C ends", markup=False)
        notes.print(f"listening on {address}", markup=False)

    recorded = record(
        serve,
        output,
        options,
        source=f"capture {chosen.upstream or 'regular proxy'}",
        upstreams=upstreams,
        show=lambda counts: _show(notes, counts),
        show_every_s=1.0 if notes.is_terminal else 10.0,
    )
    if notes.is_terminal:
        notes.file.write("\r\x1b[K")
    notes.print(recorded.counts.line(), markup=False)
    if recorded.trouble:
        raise BadInput(recorded.trouble)
    notes.print(f"trace: {recorded.trace}", markup=False)


def _show(notes: Console, counts: Counts) -> None:
    if notes.is_terminal:
        notes.file.write(f"\r\x1b[K{counts.line()[: notes.width - 1]}")
        notes.file.flush()
    else:
        notes.print(counts.line(), markup=False)
