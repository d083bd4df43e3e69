"""`report` and `diff` as scripts see them: JSON also of runs that carry no verdict, pipes without folds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replay.engine.run_format import RunMetadata
from replay.engine.run_rows import batch_of_unsent
from replay.engine.run_writer import RunWriter
from tests.command_line import peaktape_apart, peaktape_here

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def unsent(tmp_path: Path) -> Path:
    """A run of 30 requests that were never sent, so one that is INVALID."""
    about = RunMetadata("build-a", "http://127.0.0.1:1", 1, 2, "trace", "schedule", (), scheduled=30)
    facts = {"copy": 0, "session": 0, "phase": "base", "endpoint": "GET /", "stream": False}
    path = tmp_path / "unsent.parquet"
    writer = RunWriter(path)
    writer.begin(about)
    rows = [{**facts, "request_id": f"r{n}", "due_ns": n * 10**7} for n in range(30)]
    writer.add(batch_of_unsent(rows, ["not_sent"] * 30))
    writer.finish(about)
    return path


def test_a_refused_comparison_is_json_too(unsent: Path) -> None:
    ended = peaktape_here("diff", unsent, unsent, "--json", cwd=ROOT)
    assert ended.returncode == 3
    assert len(ended.stderr.strip().splitlines()) == 1
    found = json.loads(ended.stdout)
    assert (found["schema"], found["verdict"]) == ("peaktape.diff", "invalid")
    for side in ("baseline", "candidate"):
        failed = {check["name"]: check for check in found["failed_checks"][side]}
        assert failed["achieved load"]["found"].startswith("0 of 30 requests sent")
        assert found[side]["validity"]["valid"] is False
    assert any(reason.startswith("build-a: achieved load: ") for reason in found["reasons"])


def test_a_report_of_an_invalid_run_is_json_too(unsent: Path) -> None:
    ended = peaktape_here("report", unsent, "--json", cwd=ROOT)
    assert ended.returncode == 3
    assert len(ended.stderr.strip().splitlines()) == 1
    assert json.loads(ended.stdout)["validity"]["valid"] is False


def test_a_pipe_gets_whole_sentences_and_no_trailing_blanks(unsent: Path) -> None:
    lines = peaktape_apart("report", unsent, cwd=ROOT).stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    (told,) = [line for line in lines if line.startswith("  • achieved load: 0 of 30 requests sent")]
    assert told.endswith("at least 99 % wanted")


def test_columns_is_honoured_in_a_pipe(unsent: Path) -> None:
    wide = max(map(len, peaktape_apart("report", unsent, cwd=ROOT).stdout.splitlines()))
    narrow = max(map(len, peaktape_apart("report", unsent, cwd=ROOT, COLUMNS="60").stdout.splitlines()))
    assert narrow <= 60 < wide


def test_machines_get_their_files_of_a_refused_comparison_too(unsent: Path, tmp_path: Path) -> None:
    slo = tmp_path / "slo.yml"
    slo.write_text("targets:\n- {phase: base, error_rate: 1%}\n")
    files = ("--slo-file", slo, "--junit", tmp_path / "diff.xml", "--markdown", "-")
    ended = peaktape_here("diff", unsent, unsent, *files, cwd=ROOT)
    assert ended.returncode == 3
    assert ended.stdout.startswith("### 🔴 INVALID: build-a against build-a")
    assert 'error message="no verdict' in (tmp_path / "diff.xml").read_text()
    assert ended.stderr.splitlines()[0] == f"JUnit: {tmp_path / 'diff.xml'}"
