"""What `capture` refuses before it does anything: one line that says what was found and the way out."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import replay.cli
from capture.failures import BadInput
from replay.cli import app


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-o", ""], "--output: nothing found"),
        (["-o", "a-file"], "a-file: a file found, a folder or NAME.parquet wanted"),
        (["-o", "t.parquet", "--listen", "8000"], "the proxy itself listens there"),
        (["-o", "t.parquet", "--upstream-ca", "a-file"], "a-file: no certificate in it"),
        (["-o", "t.parquet", "--certificates", "authority"], "its mitmproxy-ca.pem can't be used"),
        (["-o", "t.parquet", "--certificates", "a-file"], "--certificates a-file: File exists"),
    ],
)
def test_it_is_one_line_and_nothing_is_left(
    options: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("no certificate")
    Path("authority").mkdir()
    Path("authority", "mitmproxy-ca.pem").write_text("no authority")
    there = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["capture", "--upstream", "http://localhost:8000", *options])
    assert isinstance(result.exception, BadInput)
    assert told in str(result.exception)
    assert sorted(tmp_path.rglob("*")) == there


def test_what_the_system_refuses_is_one_line_with_the_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/closed/trace.parquet")

    monkeypatch.setattr(sys, "argv", ["peaktape"])
    monkeypatch.setattr(replay.cli, "application", lambda named: closed)
    with pytest.raises(SystemExit) as ended:
        replay.cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("peaktape: /closed/trace.parquet: Permission denied; ")
    assert len(told.splitlines()) == 1


def test_an_error_of_no_place_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(replay.cli, "application", lambda named: broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        replay.cli.main()
