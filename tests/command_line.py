"""The command `peaktape`: in the tests' own process, without a second of imports for each call; or apart."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[1]


def invoked(app: typer.Typer, *arguments: object) -> Result:
    """What a part of the command came to, here; what it raises is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def peaktape_here(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command printed and its exit code, from `cwd`.

    For verbs that end by themselves and write to no descriptor of their own accord, nor have a child do so.
    """
    from replay.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"NO_COLOR": "1"} | environment).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["peaktape", *map(str, arguments)])
        patch.chdir(cwd)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def peaktape_apart(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same by a process of its own: its real descriptors, its children's words among its own."""
    return subprocess.run(
        [sys.executable, "-m", "replay.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"}
        | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        | environment,
    )
