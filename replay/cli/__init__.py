"""The command `peaktape`: one typer application, a verb per function, failures as one line each.

Nothing but option parsing and showing happens in this package. Heavy imports stand inside the verbs, so
that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from capture.__about__ import VERSION
from capture.failures import EXIT_BAD_INPUT, PeaktapeError
from replay.cli.auditing import audit
from replay.cli.capture import capture
from replay.cli.demo import demo
from replay.cli.exporting import app as exporting
from replay.cli.fitting import fit, generate
from replay.cli.history import history
from replay.cli.importing import app as importing
from replay.cli.inspecting import inspect
from replay.cli.interleaving import ab
from replay.cli.judging import diff, report
from replay.cli.recovering import recover
from replay.cli.rekeying import rekey
from replay.cli.replaying import replay
from replay.cli.selftest import selftest
from replay.cli.serve import serve_demo
from replay.cli.transforming import transform
from replay.cli.verifying import verify_amplification

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="peaktape",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(capture)
app.command()(recover)
app.add_typer(importing, name="import")
app.add_typer(exporting, name="export")
app.command()(inspect)
app.command()(audit)
app.command()(rekey)
app.command()(transform)
app.command("verify-amplification")(verify_amplification)
app.command()(fit)
app.command()(generate)
app.command()(replay)
app.command()(report)
app.command()(diff)
app.command(context_settings={"allow_extra_args": True})(ab)
app.command()(history)
app.command()(selftest)
app.command("demo-server")(serve_demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"peaktape {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Record production inference traffic, replay its peaks open loop, diff two builds.

    \b
    Exit codes: 0 fine · 1 regression, SLO missed, audit found something · 2 usage or bad input ·
    3 run INVALID · 4 target refused · 130 interrupted
    """


def main() -> None:
    """Entry of the console script."""
    try:
        app()
    except PeaktapeError as failure:
        _end(f"peaktape: {failure}", failure.exit_code)
    except KeyboardInterrupt:
        _end("peaktape: interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as failure:
        if failure.filename is None:
            raise
        way_out = "choose another place, or get access to it"
        _end(f"peaktape: {failure.filename}: {failure.strerror}; {way_out}", EXIT_BAD_INPUT)


def _end(line: str, code: int) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)
    raise SystemExit(code)
