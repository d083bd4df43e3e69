"""The command `peaktape` within the tests' own process: no second of imports for each call."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest


def peaktape_here(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command printed and its exit code, from `cwd`.

    For verbs that end by themselves. One that serves or is killed gets a process of its own.
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
