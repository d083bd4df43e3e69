"""The verb `demo`: the whole of peaktape on one machine, in some two minutes, by its own commands.

Every step but the traffic is the command a user would type, shown and run as such: what works here works
by hand. The servers are this package's own; nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from capture.child_processes import wait_or_kill

if TYPE_CHECKING:
    from rich.console import Console

TRAFFIC_S: Final = 60.0
REQUESTS_PER_S: Final = 11.0
SPEED: Final = 5
TOLERANCE: Final = "5%"
SLOWER_PREFILL: Final = 1.4
CHILD_STOP_S: Final = 15.0
PATIENCE: Final = ("--max-lateness-p99", "10ms", "--max-lateness", "100ms", "--attempts", "3")
"""More than by default: here the servers and the replayer share one machine with whatever else it does."""


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the trace, the runs and the page.")
    ] = Path("peaktape-demo"),
    seconds: Annotated[
        float, typer.Option(min=10, max=600, help="How long production traffic is captured.")
    ] = TRAFFIC_S,
    prefill_factor: Annotated[
        float, typer.Option(min=1, help="How many times as long build B's prefill takes; 1: B is like A.")
    ] = SLOWER_PREFILL,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the traffic and of the servers' jitter.")] = 0,
) -> None:
    """See the main job done: capture real traffic, replay it at 5x against two builds, judge them.

    Starts an embedded inference server as production, records a minute of mixed traffic through the
    capture proxy, replays it against build A and against build B, whose prefill is slower, and compares.
    Needs no network and no model; leaves no process behind.

    \b
    Examples:
      peaktape demo
      peaktape demo --prefill-factor 1 -o like-for-like
    """
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    folder = _fresh(output)
    with _sigterm_interrupts():
        _capture(out, folder, seconds, seed)
        _run(out, ["inspect", str(folder / "prod.parquet")])
        for label, factor, own_seed in (("a", 1.0, seed + 101), ("b", prefill_factor, seed + 202)):
            _replay(out, folder, label, factor, own_seed)
        page = folder / "diff.html"
        runs = [str(folder / "a.parquet"), str(folder / "b.parquet")]
        code = _run(out, ["diff", *runs, "--tolerance", TOLERANCE, "--html", str(page)], accepted=(0, 1))
    _conclude(out, folder, page, code, prefill_factor)


def _conclude(out: Console, folder: Path, page: Path, code: int, prefill_factor: float) -> None:
    truth = (
        f"Build B's prefill takes {prefill_factor:g} times as long: a regression had to be found"
        if prefill_factor > 1
        else "Build B is like A but for its jitter: no regression may be found"
    )
    out.rule(style="dim")
    out.print(f"{truth}, and {'one' if code else 'none'} was.", markup=False)
    out.print(f"Page:  {page.resolve()}", markup=False, soft_wrap=True)
    out.print(f"Files: {folder.resolve()} (prod.parquet, a.parquet, b.parquet)", markup=False, soft_wrap=True)
    out.print(
        "Next:  put `peaktape capture --upstream URL -o prod.parquet` before a server of yours.", markup=False
    )
    if (code == 1) != (prefill_factor > 1):
        raise typer.Exit(1)


def _fresh(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3 … that does not exist: nothing is ever overwritten."""
    from capture.failures import BadInput

    chosen, number = folder, 1
    while chosen.exists():
        number += 1
        chosen = folder.with_name(f"{folder.name}-{number}")
    try:
        chosen.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"{chosen}: can't be made ({error.strerror}); choose another place with -o") from error
    return chosen


def _capture(out: Console, folder: Path, seconds: float, seed: int) -> None:
    from replay.demo.build import Build
    from replay.demo.launch import RunningServer

    out.print("Production: the embedded inference server as build A, with the capture proxy before it.")
    with RunningServer(Build(seed=seed)) as production:
        arguments = ["capture", "--upstream", production.base_url, "--listen", "127.0.0.1:0"]
        arguments += ["-o", str(folder / "prod.parquet")]
        _show(out, arguments)
        with _proxy(arguments) as address:
            _traffic(out, address, seconds, seed)


@contextlib.contextmanager
def _proxy(arguments: list[str]) -> Iterator[str]:
    """The capture command as a child; yields its address, ends it with SIGTERM and waits for the trace."""
    from capture.failures import BadInput

    # Not shown: killed in a way that can't be passed on, this process takes the capture with it.
    command = [*_command(arguments), "--parent-pid", str(os.getpid())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            address, said = "", []
            for line in child.stderr or ():
                said.append(line.strip())
                if line.startswith("listening on "):
                    address = line.removeprefix("listening on ").strip()
                    break
            if not address:
                raise BadInput(f"demo: the capture did not start: {said[-1] if said else 'it said nothing'}")
            yield address
        finally:
            child.terminate()
            try:
                _, rest = child.communicate(timeout=CHILD_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                rest = ""
    for line in rest.strip().splitlines()[-2:]:
        print(f"  {line}", file=sys.stderr)
    if child.returncode:
        raise BadInput(f"demo: the capture ended with {child.returncode}: {rest.strip().splitlines()[-1:]}")


def _traffic(out: Console, address: str, seconds: float, seed: int) -> None:
    import asyncio

    import numpy as np
    from rich.console import Console as Notes
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from replay.demo.traffic import drive
    from replay.demo.traffic_plan import plan_traffic

    visits = plan_traffic(np.random.default_rng(seed), seconds, REQUESTS_PER_S)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Notes(stderr=True), transient=True) as progress:
        task = progress.add_task("requests through the proxy", total=None)

        def show(done: int, planned: int) -> None:
            progress.update(task, completed=done, total=planned)

        counts = asyncio.run(drive(address, visits, show))
    out.print(f"{counts.requests} requests by {len(visits)} visitors:", markup=False)
    for (kind, outcome), count in sorted(counts.outcomes.items(), key=lambda item: -item[1]):
        out.print(f"  {count:4} {kind} ({outcome})", markup=False)


def _replay(out: Console, folder: Path, label: str, prefill_factor: float, seed: int) -> None:
    from replay.demo.build import Build
    from replay.demo.launch import RunningServer

    slower = f", prefill × {prefill_factor:g}" if prefill_factor != 1 else ""
    out.print(f"Staging: a fresh server as build {label.upper()}{slower}.", markup=False)
    with RunningServer(Build(prefill_factor=prefill_factor, seed=seed)) as staging:
        run = ["replay", str(folder / "prod.parquet"), "--speed", str(SPEED), "--target", staging.base_url]
        run += ["-o", str(folder / f"{label}.parquet"), "--label", f"build-{label}", *PATIENCE]
        _run(out, run)


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "replay.cli", *arguments]


def _show(out: Console, arguments: list[str]) -> None:
    out.print(f"$ peaktape {shlex.join(arguments)}", style="bold", markup=False, soft_wrap=True)


def _run(out: Console, arguments: list[str], accepted: tuple[int, ...] = (0,)) -> int:
    """Show and run one peaktape command in the foreground; its exit code, which must be an accepted one."""
    _show(out, arguments)
    out.file.flush()
    child = subprocess.Popen(_command(arguments))
    try:
        code = child.wait()
    except BaseException:
        # Ctrl-C reaches the child too; a stop that came to us alone is passed on.
        child.terminate()
        wait_or_kill(child, CHILD_STOP_S)
        raise
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code not in accepted:
        raise typer.Exit(code)
    return code


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
