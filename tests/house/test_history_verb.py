"""`history` as it is used: a folder of runs in, one table kept, the course of the figures out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from capture.encryption_keys import Keys
from capture.failures import KeyRefused, PeaktapeError
from replay.cli import app
from replay.engine.run_format import METADATA_KEY, RUN_SCHEMA, RunMetadata, read_run
from replay.engine.run_rows import batch_of_unsent
from replay.engine.run_writer import RunWriter

MS = 1_000_000


def write_run(path: Path, day: int, e2e_ms: float) -> None:
    """A run of 30 requests, all answered in about `e2e_ms`."""
    facts = {"copy": 0, "session": 0, "phase": "base", "endpoint": "GET /", "stream": False}
    due_ns = [n * 20 * MS for n in range(30)]
    rows = [{**facts, "request_id": f"r{n}", "due_ns": due} for n, due in enumerate(due_ns)]
    e2e_ns = (e2e_ms + np.random.default_rng(day).normal(0, 0.3, 30)) * MS
    answered = [
        {
            **row,
            "status": 200,
            "error": None,
            "error_text": None,
            "sent_ns": row["due_ns"],
            "dequeued_ns": row["due_ns"],
            "connected_ns": row["due_ns"],
            "first_byte_ns": row["due_ns"] + int(e2e),
            "end_ns": row["due_ns"] + int(e2e),
        }
        for row, e2e in zip(batch_of_unsent(rows, ["not_sent"] * 30).to_pylist(), e2e_ns, strict=True)
    ]
    about = RunMetadata(
        f"build-{day}",
        "http://127.0.0.1:1",
        1,
        day * 86_400 * 10**9 + 123,
        "trace",
        "schedule",
        (),
        scheduled=30,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = RUN_SCHEMA.with_metadata({METADATA_KEY: about.to_json()})
    pq.write_table(pa.Table.from_pylist(answered, schema=schema), path)


def test_encrypted_runs_are_summed_up_with_their_key_and_never_passed_over(tmp_path: Path) -> None:
    keys = Keys.of("env:K", {"K": "5a" * 32})
    write_run(tmp_path / "plain.parquet", 1, 50.0)
    run, about = read_run(tmp_path / "plain.parquet")
    writer = RunWriter(tmp_path / "runs" / "a.parquet", keys=keys)
    writer.begin(about)
    writer.add(run.combine_chunks().to_batches()[0])
    writer.finish(about)
    with pytest.raises(KeyRefused, match=r"a\.parquet: encrypted, and no key is given"):
        said(tmp_path / "runs")
    (tmp_path / "key").write_text("5a" * 32)
    given = ("--key", f"file:{tmp_path / 'key'}")
    assert json.loads(said(tmp_path / "runs", "--json", *given))["runs"] == 1
    with pytest.raises(PeaktapeError, match="is the input"):
        said(tmp_path / "runs", "--table", tmp_path / "key", *given)


def said(*arguments: object) -> str:
    unfolded = {"COLUMNS": None}  # as in a pipe
    ended = CliRunner(env=unfolded).invoke(app, ["history", *map(str, arguments)])
    if isinstance(ended.exception, PeaktapeError):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for day in range(1, 15):
        write_run(folder / ("nightly" if day % 2 else "") / f"{day:02}.parquet", day, 10 if day < 8 else 13)
    (folder / "notes.parquet").write_text("not Parquet at all")
    return folder


def test_the_course_and_its_change_are_told(runs: Path) -> None:
    text = said(runs)
    assert "14 runs on record" in text
    assert "E2E p50: " in text
    assert "worse) from 08.parquet on, build build-8" in text
    assert text == said(runs)


def test_runs_stay_on_record_when_their_files_are_gone(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(runs, folder)
    said(folder)
    (folder / "02.parquet").unlink()
    write_run(folder / "new" / "15.parquet", 15, 13)
    found = json.loads(said(folder, "--json", "--metric", "e2e:p50", "--by", "endpoint"))
    (series,) = found["series"]
    assert (series["group"], found["runs"]) == ("GET /", 15)
    assert [point["label"] for point in series["points"]] == [f"build-{day}" for day in range(1, 16)]
    table = pq.read_table(folder / "history.parquet")
    assert len(set(table["run"].to_pylist())) == 15


def test_the_baseline_is_named_with_the_command_to_compare_with_it(runs: Path) -> None:
    text = said(runs, "--baseline-for", runs / "14.parquet")
    assert "baseline for 14.parquet: nightly/13.parquet (build-13)" in text
    assert f"peaktape diff {runs}/nightly/13.parquet {runs}/14.parquet" in text
    assert json.loads(said(runs, "--baseline-for", runs / "14.parquet", "--json"))["baseline"]["run"]


def test_the_page_is_written_once_and_replaced_when_told(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "history.html"
    said(runs, "--html", page, "--baseline-for", runs / "14.parquet")
    source = page.read_text()
    for words in ("Worse since build-8", "nightly/13.parquet", "Change points", "E2E p50"):
        assert words in source
    with pytest.raises(PeaktapeError, match="exists"):
        said(runs, "--html", page)
    assert page.read_text() == source
    said(runs, "--html", page, "--overwrite")
    assert page.read_text() != source
    with pytest.raises(PeaktapeError, match="is the input"):
        said(runs, "--html", runs / "history.parquet", "--overwrite")


def test_bad_input_is_one_line_and_harms_no_table(runs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    odd = tmp_path / "odd.parquet"
    odd.write_text("kept as it is")
    for arguments, words in [
        ([tmp_path / "nowhere"], "no folder of runs"),
        ([empty], "no run in it"),
        ([runs, "--by", "weekday"], "all, endpoint, model or phase wanted"),
        ([runs, "--metric", "e2e:p42"], "--metric: e2e:p42 found"),
        ([runs, "--table", odd], "not a readable table"),
        ([runs, "--baseline-for", tmp_path / "x.parquet"], "is no run in"),
    ]:
        with pytest.raises(PeaktapeError) as refused:
            said(*arguments)
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
    assert odd.read_text() == "kept as it is"
