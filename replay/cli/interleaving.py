"""The verb `ab`: runs of two builds in ABBA order, or both at once, until the verdict is clear."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from capture.child_processes import wait_or_kill
from replay.cli.key_option import Key, keys_of

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from replay.analysis.interleaved import InterleavedResult
    from replay.analysis.values import RunSummary

CHILD_STOP_S: Final = 30.0
RESTART_S: Final = 600.0
TRIES: Final = 2
"""A run that is INVALID is made once more: the machine may have been busy for its own reasons."""
SPOILED_IN_A_ROW: Final = 2
"""After so many pairs in a row with a run that stayed INVALID, the machine can't do it as it is."""


def ab(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A trace or a schedule, as `replay` takes it.")],
    target_a: Annotated[str, typer.Option(help="Base URL of the build in use.")],
    target_b: Annotated[str, typer.Option(help="Base URL of the build to judge; may be the same as A's.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for the runs.")],
    label_a: Annotated[str, typer.Option(help="What build A is called.")] = "build-a",
    label_b: Annotated[str, typer.Option(help="What build B is called.")] = "build-b",
    tolerance: Annotated[str, typer.Option(help="Changes up to this share do not matter.")] = "2%",
    pairs: Annotated[int, typer.Option(min=2, max=500, help="At most so many pairs of runs.")] = 12,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Fire at both at the same time, each request at each.")
    ] = False,
    before_run: Annotated[
        str | None,
        typer.Option(help="A command before each run, e.g. a restart; PEAKTAPE_ARM says a or b."),
    ] = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")] = False,
) -> None:
    """Replay against two builds in turn (A B, B A, B A, A B …) until it is clear which is slower, if any.

    A run is the unit: what differs from run to run of one build is measured, not assumed. The intervals hold
    at every look, so it stops as soon as the verdict is clear, or says how many more minutes it needs. A run
    that is INVALID is made again; if it stays so, its pair is left out. All that stands after -- goes to
    `replay` as it is. Exit codes: 0 no regression, 1 regression, 2 bad input, 3 two pairs in a row had runs
    that stayed INVALID, or A answered nothing.

    \b
    Examples:
      peaktape ab prod.parquet --target-a http://127.0.0.1:9000 --target-b http://127.0.0.1:9001 -o ab/ \\
        -- --speed 5
      peaktape ab peak.schedule.parquet --target-a http://127.0.0.1:9000 --target-b http://127.0.0.1:9000 \\
        -o ab/ --before-run './deploy.sh $PEAKTAPE_ARM && ./wait-until-ready.sh'
    """
    from capture.failures import EXIT_REGRESSION
    from capture.quantities import parse_share
    from replay.report.ab_text import is_regression

    share = parse_share(tolerance, "--tolerance")
    _refuse(output, context.args, at_once=at_once, before_run=before_run)
    arms = _Arms(
        source,
        {"a": (label_a, target_a), "b": (label_b, target_b)},
        before_run,
        [*context.args, *(("--key", key) if key else ())],
        keys_of(key),
    )
    compared = _Comparison(share, pairs)
    try:
        for block in range(pairs):
            if compared.is_over(arms.pair(output, block, at_once=at_once)):
                break
    finally:
        if compared.result is not None:
            _show(compared, compared.result, (label_a, label_b), as_json=as_json)
    if compared.result is not None and is_regression(compared.result):
        raise typer.Exit(EXIT_REGRESSION)


class _Run(NamedTuple):
    path: Path
    summary: RunSummary


class _Comparison:
    """The pairs so far, what they say, and whether to go on."""

    def __init__(self, tolerance: float, pairs: int) -> None:
        self._tolerance, self._most = tolerance, pairs
        self.whole: list[tuple[_Run, _Run]] = []
        self._began_s = time.monotonic()
        self._spoiled_in_a_row = 0
        self.left_out = 0
        self.result: InterleavedResult | None = None
        self.pair_s = 0.0

    def is_over(self, pair: tuple[_Run, _Run]) -> bool:
        """Whether no more pairs are wanted after this one; raises `RunInvalid` when too many are spoiled."""
        tried = len(self.whole) + self.left_out + 1
        self.pair_s = (time.monotonic() - self._began_s) / tried
        if all(run.summary.validity.valid for run in pair):
            self._spoiled_in_a_row = 0
            return self._judge(pair, tried)
        self.left_out += 1
        self._spoiled_in_a_row += 1
        self._say(tried, "left out, for a run of it was INVALID twice.")
        if self._spoiled_in_a_row == SPOILED_IN_A_ROW:
            from capture.failures import RunInvalid

            raise RunInvalid(
                f"ab: runs of {self._spoiled_in_a_row} pairs in a row were INVALID twice, valid ones wanted; "
                "leave this machine to the replay, or pass a lower --speed or more --workers on after --"
            )
        return False

    def _judge(self, pair: tuple[_Run, _Run], tried: int) -> bool:
        from replay.analysis.interleaved import judge_pairs
        from replay.report.ab_text import what_next

        self.whole.append(pair)
        baseline, candidate = ([run.summary for run in runs] for runs in zip(*self.whole, strict=True))
        self.result = judge_pairs(baseline, candidate, tolerance=self._tolerance)
        self._say(tried, f"{self.result.verdict.value}. {what_next(self.result, self.pair_s)}")
        return self.result.decided

    def _say(self, tried: int, what: str) -> None:
        typer.echo(f"pair {tried} of at most {self._most}: {what}", err=True)


def _show(
    compared: _Comparison, result: InterleavedResult, labels: tuple[str, str], *, as_json: bool
) -> None:
    import json

    from replay.cli.printing import show
    from replay.report.ab_text import ab_json, ab_report

    told = (result, labels, compared.pair_s, compared.left_out)
    if as_json:
        typer.echo(json.dumps(ab_json(*told), indent=2, allow_nan=False))
        return
    show(ab_report(*told))
    first, second = (run.path for run in compared.whole[-1])
    typer.echo(f"runs: {first.parent}; to look into the last pair: peaktape diff {first} {second}")


def _refuse(output: Path, passed_on: Sequence[str], *, at_once: bool, before_run: str | None) -> None:
    from capture.failures import BadInput

    if output.exists():
        raise BadInput(f"{output}: is there already; name a new folder for the runs of this comparison")
    for own in ("--target", "--output", "-o", "--label", "--overwrite", "--key"):
        if any(word == own or word.startswith(f"{own}=") for word in passed_on):
            raise BadInput(f"{own}: set by `ab` for each run; leave it out after --")
    if at_once and before_run is not None:
        raise BadInput(
            "--before-run: goes not with --at-once, where both builds are up; leave one of them out"
        )


class _Arms:
    """What a run of each arm is: its target and label, what comes before it, what `replay` is told."""

    def __init__(
        self,
        source: str,
        arms: dict[str, tuple[str, str]],
        before_run: str | None,
        passed_on: Sequence[str],
        keys: Keys | None,
    ) -> None:
        self._source, self._arms, self._keys = source, arms, keys
        self._before_run, self._passed_on = before_run, list(passed_on)

    def pair(self, folder: Path, block: int, *, at_once: bool) -> tuple[_Run, _Run]:
        """Both runs of a block, made in its order; one may have stayed INVALID."""
        from replay.analysis.interleaved import order_of_runs

        order = order_of_runs(block)
        found: dict[str, _Run] = {}
        for groups in [order] if at_once else [(arm,) for arm in order]:
            for again in range(TRIES):
                paths = {arm: folder / f"{block + 1:02}-{arm}{'-again' * again}.parquet" for arm in groups}
                found |= self._runs(paths)
                if all(found[arm].summary.validity.valid for arm in groups):
                    break
        return found["a"], found["b"]

    def _runs(self, paths: dict[str, Path]) -> dict[str, _Run]:
        from capture.failures import BadInput, TargetRefused
        from replay.analysis.run_table import RunTable
        from replay.analysis.summary import summarise
        from replay.engine.run_format import read_run

        for arm in paths:
            self._prepare(arm)
        codes = _run_side_by_side([self._command(arm, path) for arm, path in paths.items()])
        for arm, code in zip(paths, codes, strict=True):
            failed = f"ab: replay against {self._arms[arm][1]} ended with {code}, see above"
            if code == 4:
                raise TargetRefused(failed)
            if code not in (0, 3):
                raise BadInput(failed)
        return {
            arm: _Run(path, summarise(RunTable.of(*read_run(path, self._keys, bodies=False))))
            for arm, path in paths.items()
        }

    def _prepare(self, arm: str) -> None:
        from capture.failures import BadInput

        if self._before_run is None:
            return
        # The command is the user's own, meant for a shell, as in a CI job.
        try:
            ended = subprocess.run(
                ["/bin/sh", "-c", self._before_run],
                env=os.environ | {"PEAKTAPE_ARM": arm},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                timeout=RESTART_S,
            )
        except subprocess.TimeoutExpired as error:
            raise BadInput(f"--before-run: took over {RESTART_S:g} s for arm {arm}; have it end") from error
        if ended.returncode:
            raise BadInput(
                f"--before-run: ended with {ended.returncode} for arm {arm}; see what it said above"
            )

    def _command(self, arm: str, path: Path) -> list[str]:
        label, target = self._arms[arm]
        own = ["--target", target, "-o", str(path), "--label", label]
        return ["replay", self._source, *self._passed_on, *own]


def _run_side_by_side(commands: Sequence[list[str]]) -> list[int]:
    """Run peaktape commands at once, their figures on stderr; their exit codes."""
    with contextlib.ExitStack() as stack:
        children = []
        for command in commands:
            typer.echo(f"$ peaktape {shlex.join(command)}", err=True)
            line = [sys.executable, "-m", "replay.cli", *command]
            child = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stack.enter_context(_ended(child))
            children.append(child)
        codes = [child.wait() for child in children]
    if any(code in (130, -signal.SIGINT) for code in codes):
        raise KeyboardInterrupt
    return codes


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, `child` is not left running."""
    try:
        yield
    finally:
        if child.poll() is None:
            child.terminate()
            wait_or_kill(child, CHILD_STOP_S)
