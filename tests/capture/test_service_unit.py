"""The systemd unit in samples/: systemd finds no fault, and its command is one that the verb takes."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from replay.cli import app

UNIT = Path(__file__).parents[2] / "samples" / "peaktape-capture.service"


def service() -> dict[str, str]:
    """The settings of the unit's [Service] section."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    program = shlex.split(service()["ExecStart"])[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program, shutil.which("true") or "/bin/true"))
    found = subprocess.run([verify, "verify", str(copy)], capture_output=True, text=True)
    assert [line for line in found.stderr.splitlines() if UNIT.name in line] == []


def test_its_command_is_understood() -> None:
    """All but the upstream, which is made one that can't be: what comes before it was taken."""
    arguments = shlex.split(service()["ExecStart"])[1:]
    arguments[arguments.index("--upstream") + 1] = "no-server"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--upstream no-server" in result.output


def test_the_spool_is_in_memory_and_outlives_restarts_and_stops() -> None:
    found = service()
    assert found["Environment"] == f"PEAKTAPE_SPOOL=/run/{found['RuntimeDirectory']}"
    assert found["RuntimeDirectoryPreserve"] == "yes"
    assert found["KillMode"] == "mixed"
