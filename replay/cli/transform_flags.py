"""The transformation's options, for `transform` and `replay`: the words of `--help`. No meaning here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Transformation"
CONTENT = "Content"

Recipe = Annotated[
    Path | None,
    typer.Option(
        help="A transformation as a YAML file; flags replace its values and add steps.", rich_help_panel=PANEL
    ),
]
Speed = Annotated[
    float | None,
    typer.Option(help="Time compression: 5 replays an hour in 12 minutes.", rich_help_panel=PANEL),
]
Amplify = Annotated[
    float | None,
    typer.Option(help="That many times the sessions, each cloned whole; 1.5 works.", rich_help_panel=PANEL),
]
Unsample = Annotated[
    bool,
    typer.Option(
        "--unsample",
        help="Make up for --sample of the capture: of a trace with 1% of sessions, 100 times as many.",
        rich_help_panel=PANEL,
    ),
]
Thin = Annotated[
    str | None, typer.Option(help="Keep this share of the sessions, e.g. 25%.", rich_help_panel=PANEL)
]
Slice = Annotated[
    str | None,
    typer.Option("--slice", help="Only this part of the trace, e.g. 10m..15m.", rich_help_panel=PANEL),
]
Spikes = Annotated[
    list[str] | None,
    typer.Option(
        "--spike",
        help="at=60s,for=30s,x=4 (times after --speed); also form=step|triangle|decay|gaussian, name=…, and "
        "endpoint=…, model=… or tenant=HEADER:VALUE for a crowd on these alone; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
Ramps = Annotated[
    list[str] | None,
    typer.Option("--ramp", help="at=0s,for=60s,from=0.5,to=3; may be repeated.", rich_help_panel=PANEL),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        help="'wave period=24m,low=0.3,high=2', 'stairs from=1,to=4,steps=6', 'line points=0s:1/5m:3/9m:1', "
        "'random-spikes every=60s,x=uniform:2:6,length=exponential:5s', 'bursts cv=3,each=1s', "
        "'quiet at=50%,for=10%,x=0.1'; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
Mixes = Annotated[
    list[str] | None,
    typer.Option(
        "--mix",
        help="x=2,min_input_tokens=4000: twice as many of the sessions with such a request; keep_total=yes "
        "makes room for them; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="tenant=x-tenant,per_s=5,burst=10: no tenant (by that header) above this; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How --amplify does it. auto: clones shifted so that the burst curve is that of as many"
        " users; jitter, tied, speed; superposition, traceupscaler and resample hold all requests at once,"
        " up to 4 million due.",
        rich_help_panel=PANEL,
    ),
]
Jitter = Annotated[
    str | None,
    typer.Option(
        help="Clones in shapes, and of --method jitter, are shifted by up to ± this; default 1s.",
        rich_help_panel=PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="The same seed gives the same schedule; default 0.", rich_help_panel=PANEL),
]
UniquePrompts = Annotated[
    bool,
    typer.Option(
        "--unique-prompts",
        help="Every prompt begins with words of its own: no prefix cache hits.",
        rich_help_panel=CONTENT,
    ),
]
KeepPrompts = Annotated[
    bool,
    typer.Option(
        "--keep-prompts",
        help="Clones say what the original said; by default they get six words of their own.",
        rich_help_panel=CONTENT,
    ),
]
PrefixHits = Annotated[
    str | None,
    typer.Option(
        help="Rewrite prompts so that an unlimited prefix cache serves this share of their tokens, e.g. 60%.",
        rich_help_panel=CONTENT,
    ),
]
PromptLength = Annotated[
    float | None,
    typer.Option(
        help="Every text of a prompt repeated or cut to so many times its words.", rich_help_panel=CONTENT
    ),
]
MapModel = Annotated[
    list[str] | None,
    typer.Option(
        "--map-model", help="OLD=NEW, or '*=NEW' for all others; may be repeated.", rich_help_panel=CONTENT
    ),
]
MapEndpoint = Annotated[
    list[str] | None,
    typer.Option(
        "--map-endpoint",
        help="/old=/new, or '/old/*=/new/*' for a whole branch; may be repeated.",
        rich_help_panel=CONTENT,
    ),
]
