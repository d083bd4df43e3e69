"""`peaktape demo-server`: the embedded inference server by hand, with every knob of a build as an option.

Only reading the command line belongs here; the server and its knobs are in `replay.demo`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from replay.demo.build import Build


def _with_knobs(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` with an option for each knob of a build in place of `**knobs`: typer reads signatures."""
    own = list(inspect.signature(verb).parameters.values())[:-1]
    hints = get_type_hints(verb, include_extras=True)
    knob_types = get_type_hints(Build)
    options = []
    for field in dataclasses.fields(Build):
        option = typer.Option(help=field.metadata["help"], rich_help_panel=field.metadata["about"])
        hints[field.name] = Annotated[knob_types[field.name], option]
        options.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default))
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in (*own, *options)]
    described: Any = verb
    described.__signature__ = inspect.Signature(parameters)
    described.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return verb


@_with_knobs
def serve_demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    arrivals: Annotated[
        Path | None,
        typer.Option(help="Write each request's arrival stamp (CLOCK_MONOTONIC) to this Parquet at the end."),
    ] = None,
    **knobs: Any,
) -> None:
    """Run the embedded inference server: a demo and a ground truth for tests, not a model.

    It answers OpenAI chat, completions and embeddings, KServe V2 predict, /v1/models, /healthz and
    /metrics, in the time that a small queueing model says: batch slots, a waiting queue, prefill by prompt
    tokens, a step per output token. A token is a whitespace-separated word; max_tokens is the exact length
    of an answer. Models: demo-chat, demo-embed, demo-rank, and demo-flaky, which always fails. Ctrl-C stops.

    \b
    Examples:
      peaktape demo-server --port 8000
      peaktape demo-server --port 9000 --prefill-factor 1.4 --seed 2
      peaktape demo-server --chat-slots 8 --queue-limit 32 --arrivals seen.parquet
    """
    from replay.demo.server import serve

    serve(Build(**knobs), host=host, port=port, arrivals=arrivals)
