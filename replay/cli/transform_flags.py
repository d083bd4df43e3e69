"""The transformation's options, for `transform` and `replay`: the words of `--help`. No meaning here."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import typer

_option = functools.partial(typer.Option, rich_help_panel="Transformation")
_content = functools.partial(typer.Option, rich_help_panel="Content")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformation:
    """What was asked for; `transforming.plan_of` says what it comes to."""

    recipe: Annotated[
        Path | None, _option(help="A transformation as a YAML file; flags replace its values and add steps.")
    ] = None
    speed: Annotated[float | None, _option(help="Time compression: 5 replays an hour in 12 minutes.")] = None
    amplify: Annotated[
        float | None, _option(help="That many times the sessions, each cloned whole; 1.5 works.")
    ] = None
    unsample: Annotated[
        bool,
        _option(
            "--unsample",
            help="Make up for --sample of the capture: of a trace with 1% of sessions, 100 times as many.",
        ),
    ] = False
    thin: Annotated[str | None, _option(help="Keep this share of the sessions, e.g. 25%.")] = None
    slice_: Annotated[
        str | None,
        _option(
            "--slice",
            help="Only this part of the trace: 10m..15m from its start, 2026-11-27T09:55..10:20, or "
            "09:55..10:20 where it has these times once; in UTC unless they end in +01:00 or the like.",
        ),
    ] = None
    spikes: Annotated[
        list[str] | None,
        _option(
            "--spike",
            help="at=60s,for=30s,x=4 (times after --speed; at=10:00 is when the trace's 10:00 is due); "
            "also form=step|triangle|decay|gaussian, name=…, "
            "and endpoint=…, model=… or tenant=HEADER:VALUE for a crowd on these alone; may be repeated.",
        ),
    ] = None
    ramps: Annotated[
        list[str] | None, _option("--ramp", help="at=0s,for=60s,from=0.5,to=3; may be repeated.")
    ] = None
    shapes: Annotated[
        list[str] | None,
        _option(
            "--shape",
            help="'wave period=24m,low=0.3,high=2', 'stairs from=1,to=4,steps=6', "
            "'line points=0s:1/5m:3/9m:1', 'random-spikes every=60s,x=uniform:2:6,length=exponential:5s', "
            "'bursts cv=3,each=1s', 'quiet at=50%,for=10%,x=0.1'; may be repeated.",
        ),
    ] = None
    mix: Annotated[
        list[str] | None,
        _option(
            "--mix",
            help="x=2,min_input_tokens=4000: twice as many of the sessions with such a request; "
            "keep_total=yes makes room for them; may be repeated.",
        ),
    ] = None
    limits: Annotated[
        list[str] | None,
        _option(
            "--limit",
            help="tenant=x-tenant,per_s=5,burst=10: no tenant (by that header) above this; may be repeated.",
        ),
    ] = None
    method: Annotated[
        str | None,
        _option(
            help="How --amplify does it. auto: clones shifted so that the burst curve is that of as "
            "many users; jitter, tied, speed; superposition, traceupscaler and resample hold all requests at "
            "once, up to 4 million due."
        ),
    ] = None
    jitter: Annotated[
        str | None,
        _option(help="Clones in shapes, and of --method jitter, are shifted by up to ± this; default 1s."),
    ] = None
    seed: Annotated[int | None, _option(help="The same seed gives the same schedule; default 0.")] = None
    unique_prompts: Annotated[
        bool,
        _content("--unique-prompts", help="Every prompt begins with words of its own: no prefix cache hits."),
    ] = False
    keep_prompts: Annotated[
        bool,
        _content(
            "--keep-prompts",
            help="Clones say what the original said; by default they get six words of their own.",
        ),
    ] = False
    prefix_hits: Annotated[
        str | None,
        _content(
            help="Rewrite prompts so that an unlimited prefix cache serves this share of their tokens, "
            "e.g. 60%."
        ),
    ] = None
    prompt_length: Annotated[
        float | None, _content(help="Every text of a prompt repeated or cut to so many times its words.")
    ] = None
    map_model: Annotated[
        list[str] | None,
        _content("--map-model", help="OLD=NEW, or '*=NEW' for all others; may be repeated."),
    ] = None
    map_endpoint: Annotated[
        list[str] | None,
        _content("--map-endpoint", help="/old=/new, or '/old/*=/new/*' for a whole branch; may be repeated."),
    ] = None
