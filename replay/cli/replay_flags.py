"""The options of `replay`, by panel: what is asked, and the words of `--help`. No meaning here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from replay.cli.key_option import Key as Key

SAFETY = "Target"
CONNECTIONS = "Connections"
BOUNDS = "Validity"
SERVER = "The server's side"

Source = Annotated[str, typer.Argument(help="A trace (file, folder, quoted glob) or a schedule.")]
TargetUrl = Annotated[
    str, typer.Option("--target", help="Where to fire, e.g. http://127.0.0.1:9000.", rich_help_panel=SAFETY)
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The run to write.")]
Label = Annotated[str | None, typer.Option(help="The build's name in reports; default: the target.")]
MovedTrace = Annotated[str | None, typer.Option(help="The trace a schedule was made from, if it has moved.")]
Workers = Annotated[
    int | None, typer.Option(min=1, max=256, help="Worker processes; default by peak rate and cores.")
]
SenderName = Annotated[
    Literal["auto", "session", "wire"],
    typer.Option(
        help="session: aiohttp's client, everything HTTP; wire: bare HTTP/1.1 for high rates; "
        "auto: by the schedule's peak rate."
    ),
]
Mode = Annotated[
    Literal["open", "partly-open"],
    typer.Option(
        help="open: all by the clock; partly-open: a session's later turns when the one before has ended "
        "and its user has thought."
    ),
]
Weave = Annotated[
    bool,
    typer.Option(
        "--weave", help="partly-open: later turns say back the live answers, not the recorded ones."
    ),
]
Aborts = Annotated[
    bool, typer.Option("--aborts/--no-aborts", help="Hang up where a recorded client did, or wait it out.")
]
Connections = Annotated[
    Literal["pooled", "recorded"],
    typer.Option(
        help="pooled: any idle connection; recorded: one connection for each recorded client connection, "
        "opened when its first request is staged (wire sender).",
        rich_help_panel=CONNECTIONS,
    ),
]
Timeout = Annotated[
    str,
    typer.Option(help="A response must be whole this long after its due time.", rich_help_panel=CONNECTIONS),
]
ConnectTimeout = Annotated[
    str, typer.Option(help="A connection must be open within this time.", rich_help_panel=CONNECTIONS)
]
FirstByteTimeout = Annotated[
    str | None,
    typer.Option(
        help="An answer must begin this long after its request left; default: no limit.",
        rich_help_panel=CONNECTIONS,
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(help="PEM file of the authorities to trust for https.", rich_help_panel=CONNECTIONS),
]
ClientCert = Annotated[
    Path | None, typer.Option(help="PEM file with the client's certificate.", rich_help_panel=CONNECTIONS)
]
ClientKey = Annotated[
    Path | None,
    typer.Option(help="PEM file with its key, if that is another file.", rich_help_panel=CONNECTIONS),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        help="HTTP proxy, e.g. http://127.0.0.1:3128; environment variables are not read.",
        rich_help_panel=CONNECTIONS,
    ),
]
Resolve = Annotated[
    list[str] | None,
    typer.Option(
        help="HOST:PORT:ADDRESS: connect there instead of asking DNS; may be repeated.",
        rich_help_panel=CONNECTIONS,
    ),
]
UnixSocket = Annotated[
    str | None,
    typer.Option(help="Connect to the target through this Unix socket.", rich_help_panel=CONNECTIONS),
]
AuthEnv = Annotated[
    str | None,
    typer.Option(
        help="Environment variable that holds the credential for the target.", rich_help_panel=SAFETY
    ),
]
AuthHeader = Annotated[
    str, typer.Option(help="Header for it; authorization gets a Bearer prefix.", rich_help_panel=SAFETY)
]
Header = Annotated[
    list[str] | None,
    typer.Option(help="'name: value' set on every request; may be repeated.", rich_help_panel=SAFETY),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(help="A public host that may be fired at; may be repeated.", rich_help_panel=SAFETY),
]
AllowCapturedHost = Annotated[
    bool,
    typer.Option(
        "--allow-captured-host", help="Fire even at the host of the capture.", rich_help_panel=SAFETY
    ),
]
Bodies = Annotated[
    Literal["drop", "hash", "keep"],
    typer.Option(
        help="What the run keeps of each answer's body, as received: nothing, its SHA-256, or that and all "
        "of it."
    ),
]
MaxLatenessP99 = Annotated[
    str | None,
    typer.Option(help="Valid up to this p99 lateness; default 1ms or 1% of latency.", rich_help_panel=BOUNDS),
]
MaxLateness = Annotated[
    str | None,
    typer.Option(help="Valid up to this largest lateness; default 50ms.", rich_help_panel=BOUNDS),
]
Attempts = Annotated[
    int,
    typer.Option(
        min=1,
        max=10,
        help="Replay again, up to so many times in all, while the run is INVALID because the machine was "
        "disturbed. The target then meets requests that it has seen: its caches are warm.",
        rich_help_panel=BOUNDS,
    ),
]
Scrape = Annotated[
    list[str] | None,
    typer.Option(
        help="[NAME=]URL of a Prometheus endpoint to sample during the replay (vLLM, SGLang, TGI, Triton, "
        "llama.cpp, node and DCGM exporters are understood); may be repeated.",
        rich_help_panel=SERVER,
    ),
]
ScrapeMetrics = Annotated[
    list[str] | None,
    typer.Option(
        help="Keep metrics of this name too, * and ? stand for any text; may be repeated.",
        rich_help_panel=SERVER,
    ),
]
ScrapeEvery = Annotated[
    str, typer.Option(help="Time between two samples, 100ms or more.", rich_help_panel=SERVER)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
