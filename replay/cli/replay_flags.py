"""The options of `replay`, by panel: what is asked, and the words of `--help`. No meaning here."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Literal

import typer

_target = functools.partial(typer.Option, rich_help_panel="Target")
_connection = functools.partial(typer.Option, rich_help_panel="Connections")
_validity = functools.partial(typer.Option, rich_help_panel="Validity")
_server = functools.partial(typer.Option, rich_help_panel="The server's side")

Source = Annotated[str, typer.Argument(help="A trace (file, folder, quoted glob) or a schedule.")]
TargetUrl = Annotated[str, _target("--target", help="Where to fire, e.g. http://127.0.0.1:9000.")]
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
Bodies = Annotated[
    Literal["drop", "hash", "keep"],
    typer.Option(
        help="What the run keeps of each answer's body, as received: nothing, its SHA-256, or that and all "
        "of it."
    ),
]
Attempts = Annotated[
    int,
    _validity(
        min=1,
        max=10,
        help="Replay again, up to so many times in all, while the run is INVALID because the machine was "
        "disturbed. The target then meets requests that it has seen: its caches are warm.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """How the target is connected to, and for how long it is waited."""

    connections: Annotated[
        Literal["pooled", "recorded"],
        _connection(
            help="pooled: any idle connection; recorded: one connection for each recorded client connection, "
            "opened when its first request is staged (wire sender)."
        ),
    ] = "pooled"
    timeout: Annotated[str, _connection(help="A response must be whole this long after its due time.")] = (
        "300s"
    )
    connect_timeout: Annotated[str, _connection(help="A connection must be open within this time.")] = "10s"
    first_byte_timeout: Annotated[
        str | None,
        _connection(help="An answer must begin this long after its request left; default: no limit."),
    ] = None
    ca: Annotated[Path | None, _connection(help="PEM file of the authorities to trust for https.")] = None
    client_cert: Annotated[Path | None, _connection(help="PEM file with the client's certificate.")] = None
    client_key: Annotated[
        Path | None, _connection(help="PEM file with its key, if that is another file.")
    ] = None
    proxy: Annotated[
        str | None,
        _connection(help="HTTP proxy, e.g. http://127.0.0.1:3128; environment variables are not read."),
    ] = None
    resolve: Annotated[
        list[str] | None,
        _connection(help="HOST:PORT:ADDRESS: connect there instead of asking DNS; may be repeated."),
    ] = None
    unix_socket: Annotated[
        str | None, _connection(help="Connect to the target through this Unix socket.")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What every request carries for the target, and which targets may be fired at."""

    auth_env: Annotated[
        str | None, _target(help="Environment variable that holds the credential for the target.")
    ] = None
    auth_header: Annotated[str, _target(help="Header for it; authorization gets a Bearer prefix.")] = (
        "authorization"
    )
    header: Annotated[
        list[str] | None, _target(help="'name: value' set on every request; may be repeated.")
    ] = None
    allow_host: Annotated[
        list[str] | None, _target(help="A public host that may be fired at; may be repeated.")
    ] = None
    allow_captured_host: Annotated[
        bool, _target("--allow-captured-host", help="Fire even at the host of the capture.")
    ] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """How late a valid run may have sent."""

    max_lateness_p99: Annotated[
        str | None, _validity(help="Valid up to this p99 lateness; default 1ms or 1% of latency.")
    ] = None
    max_lateness: Annotated[
        str | None, _validity(help="Valid up to this largest lateness; default 50ms.")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scraping:
    """What the server says of itself meanwhile."""

    scrape: Annotated[
        list[str] | None,
        _server(
            help="[NAME=]URL of a Prometheus endpoint to sample during the replay (vLLM, SGLang, TGI, "
            "Triton, llama.cpp, node and DCGM exporters are understood); may be repeated."
        ),
    ] = None
    scrape_metrics: Annotated[
        list[str] | None,
        _server(help="Keep metrics of this name too, * and ? stand for any text; may be repeated."),
    ] = None
    scrape_every: Annotated[str, _server(help="Time between two samples, 100ms or more.")] = "1s"
