"""`peaktape demo-server`: the embedded inference server by hand, with every knob of a build as an option.

Only reading the command line belongs here; the server and its knobs are in `replay.demo`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replay.cli.option_groups import grouped
from replay.demo.build import Build


@grouped
def serve_demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    arrivals: Annotated[
        Path | None,
        typer.Option(help="Write each request's arrival stamp (CLOCK_MONOTONIC) to this Parquet at the end."),
    ] = None,
    *,
    build: Build,
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

    serve(build, host=host, port=port, arrivals=arrivals)
