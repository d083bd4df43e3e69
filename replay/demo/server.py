"""The demo server as a process: bind, say where, stop on a signal, and never outlive whoever started it.

`python -m replay.demo.server --port 0` prints one line, `listening on http://127.0.0.1:PORT`, when it is
ready. What it answers is in `service`; starting it from Python is in `launch`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from capture.failures import BadInput, PeaktapeError
from replay.demo.arrivals import ArrivalLog, StampingServer
from replay.demo.build import Build, option_name
from replay.demo.launch import LISTENING
from replay.demo.service import DemoService

_MOST_BODY_BYTES: Final = 64 << 20
_PARENT_CHECK_S: Final = 0.25
_GRACE_S: Final = 0.2


def serve(
    build: Build,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    arrivals: Path | None = None,
    parent_pid: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, or until the process `parent_pid` is no longer the parent.

    Prints where it listens (port 0 takes a free one). Arrival stamps go to `arrivals` (Parquet) at the end.
    Raises `BadInput` when the address can't be had or `arrivals` exists already.
    """
    if arrivals is not None:
        from capture.trace_writer import refuse_existing  # heavy, and few ask for arrivals

        refuse_existing(arrivals, overwrite=False)
    log = ArrivalLog() if arrivals is not None else None
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_stopped(build, host, port, log, parent_pid))
    if log is not None and arrivals is not None:
        log.write(arrivals)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's loop where there is one: it halves the cost of a streamed token."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def _serve_until_stopped(
    build: Build, host: str, port: int, log: ArrivalLog | None, parent_pid: int | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.ServerRunner(_http_server(DemoService(build, log)), shutdown_timeout=_GRACE_S)
    await runner.setup()
    try:
        await _bind(runner, host, port)
        bound_host, bound_port = runner.addresses[0][:2]
        _spare_the_collector()
        print(f"{LISTENING}http://{bound_host}:{bound_port}", flush=True)
        await _stopped(stop, parent_pid)
    finally:
        await runner.cleanup()


async def _bind(runner: web.ServerRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except (OSError, OverflowError) as error:
        raise BadInput(f"{host}:{port}: can't listen there ({error}); choose another --port") from error


def _http_server(service: DemoService) -> StampingServer:
    loop = asyncio.get_running_loop()

    def request_of(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=_MOST_BODY_BYTES
        )

    return StampingServer(
        service.handle, request_factory=request_of, handler_cancellation=True, access_log=None
    )


async def _stopped(stop: asyncio.Event, parent_pid: int | None) -> None:
    """Return when `stop` is set, or when the parent is gone: a polled parent id works on every system, and
    unlike Linux's PR_SET_PDEATHSIG does not fire when merely the parent's *thread* ends."""
    if parent_pid is None:
        await stop.wait()
    while not stop.is_set() and os.getppid() == parent_pid:
        try:
            await asyncio.wait_for(stop.wait(), _PARENT_CHECK_S)
        except TimeoutError:
            continue


def _spare_the_collector() -> None:
    """What is loaded now stays: a full collection would stop every stream for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 10, 1_000_000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m replay.demo.server",
        description="An embedded inference server with a known queueing model. It dies with its parent.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=0, help="Port to listen on; 0 takes a free one.")
    parser.add_argument("--arrivals", type=Path, help="Write arrival stamps (Parquet) here at the end.")
    parser.add_argument("--parent-pid", type=int, help="Whose child it is; the starting process by default.")
    for field in dataclasses.fields(Build):
        parser.add_argument(
            option_name(field.name),
            type=type(field.default),
            default=field.default,
            help=field.metadata["help"],
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server as a child process; the exit code."""
    parent_pid = os.getppid()
    options = vars(_parser().parse_args(arguments))
    place = {name: options.pop(name) for name in ("host", "port", "arrivals")}
    parent_pid = options.pop("parent_pid") or parent_pid
    try:
        serve(Build(**options), **place, parent_pid=parent_pid)
    except PeaktapeError as error:
        print(f"peaktape: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
