"""The command `peaktape`: one typer application, a verb per function, failures as one line each.

Nothing but option parsing and showing happens in this package. Heavy imports stand inside the verbs, and only
the verb that is called is imported, so that the command answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from capture.__about__ import VERSION
from capture.failures import EXIT_BAD_INPUT, PeaktapeError
from replay.cli.standard_output import guarded

EXIT_INTERRUPTED = 130

_VERBS: Final = {
    "demo": "demo:demo",
    "capture": "capture:capture",
    "recover": "recovering:recover",
    "import": "importing:app",
    "export": "exporting:app",
    "inspect": "inspecting:inspect",
    "audit": "auditing:audit",
    "redact": "redacting:redact",
    "rekey": "rekeying:rekey",
    "transform": "transforming:transform",
    "verify-amplification": "verifying:verify_amplification",
    "fit": "fitting:fit",
    "generate": "fitting:generate",
    "replay": "replaying:replay",
    "report": "judging:report",
    "diff": "judging:diff",
    "ab": "interleaving:ab",
    "history": "history:history",
    "selftest": "selftest:selftest",
    "demo-server": "serve:serve_demo",
}
"""Verbs in the order of `--help`, each with its module in this package and what it is there."""

_ALLOW_MORE: Final = ("ab",)
"""Verbs that pass arguments on."""


def application(named: Sequence[str] = ()) -> typer.Typer:
    """The command with the verb that `named`, its arguments, begin with; with all where that is none."""
    verbs = named[:1] if named and named[0] in _VERBS else _VERBS
    made = typer.Typer(
        name="peaktape",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(root)
    for verb in verbs:
        module, name = _VERBS[verb].split(":")
        found = getattr(importlib.import_module(f"replay.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=verb)
        else:
            settings = {"allow_extra_args": True} if verb in _ALLOW_MORE else None
            made.command(verb, context_settings=settings)(found)
    return made


def __getattr__(name: str) -> typer.Typer:
    """`app`: the command with all verbs."""
    if name == "app":
        return application()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"peaktape {VERSION}")
        raise typer.Exit


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
    own = sys.stdout is sys.__stdout__
    if own and sys.stdout is not None:
        sys.stdout = guarded(sys.stdout)
    try:
        try:
            application(sys.argv[1:])()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except PeaktapeError as failure:
        _end(f"peaktape: {failure}", failure.exit_code)
    except KeyboardInterrupt:
        _end("peaktape: interrupted", EXIT_INTERRUPTED)
    except OSError as failure:
        if failure.filename is None:
            raise
        way_out = "choose another place, or get access to it"
        _end(f"peaktape: {failure.filename}: {failure.strerror}; {way_out}", EXIT_BAD_INPUT)


def _end(line: str, code: int) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)
    raise SystemExit(code)
