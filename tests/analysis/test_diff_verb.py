"""`peaktape diff` from run files: bodies, what could be seen beforehand, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_runs import MS, MadeRun, metadata

from replay.analysis.run_table import COLUMNS, RunTable
from replay.cli import main
from replay.engine.run_format import KEEP, PARTLY_OPEN, RUN_SCHEMA, read_run
from replay.engine.run_writer import RunWriter

N = 400


def written(path: Path, seed: int, *, wrong: float = 0.0, factor: float = 1.0, **changes: Any) -> Path:
    """A run of chats whose answers have an id of their own and a score that is off in a share `wrong`."""
    rng = np.random.default_rng(seed)
    rows = MadeRun(
        due_ns=np.arange(N) * 20.0 * MS,
        ttft_ns=50.0 * MS * factor * rng.lognormal(0, 0.05, N),
        e2e_ns=90.0 * MS * factor * rng.lognormal(0, 0.05, N),
        tokens=np.full(N, 5),
    ).table()
    off = np.random.default_rng(4).random(N) < wrong
    bodies = [json.dumps({"id": f"{seed}-{n}", "score": 2 if off[n] else 1}).encode() for n in range(N)]
    rows = rows.set_column(RUN_SCHEMA.get_field_index("body"), RUN_SCHEMA.field("body"), pa.array(bodies))
    about = metadata(**{"scheduled": N, "label": path.stem, "bodies": KEEP, **changes})
    writer = RunWriter(path, KEEP)
    writer.begin(about)
    writer.add(rows.combine_chunks().to_batches()[0])
    writer.finish(about)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "a": written(folder / "a.parquet", 1),
        "again": written(folder / "again.parquet", 2),
        "b": written(folder / "b.parquet", 3, wrong=0.3, factor=0.8),
    }


def ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *given: object
) -> tuple[int, str]:
    """Exit code and all that was printed."""
    monkeypatch.setattr("sys.argv", ["peaktape", "diff", "--resamples", "200", *map(str, given)])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    return int(exit_.value.code or 0), printed.out + printed.err


def test_fields_that_the_build_changed_hold_an_improvement_back(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ("--same-build", runs["a"], runs["again"])
    code, said = ended(capsys, monkeypatch, runs["a"], runs["b"], *same, "--json")
    found = json.loads(said)
    assert (code, found["verdict"]) == (0, "inconclusive")
    fields = {field["path"]: field for field in found["bodies"]}
    assert fields["$.score"]["changed"]
    assert not fields["$.id"]["changed"]
    assert fields["$.score"]["differing_ratio"] == pytest.approx(0.3, abs=0.06)
    assert fields["$.score"]["noise_ratio"] == 0.0
    assert any(reason.startswith("answers differ: $.score in ") for reason in found["reasons"])
    assert len(found["changed_requests"]) == 10
    assert len(found["changed_requests"][0]["baseline"]["read_ns"]) == 5
    (shift,) = [one for one in found["shifts"] if one["metric"] == "ttft"]
    moved = np.array(shift["effect_ns"]) / shift["baseline_ns"]
    np.testing.assert_allclose(moved, -0.2, atol=0.04)
    assert shift["high_ns"][shift["quantiles"].index(0.5)] < 0
    (known,) = [one for one in found["candidate"]["distributions"] if one["metric"] == "ttft"]
    assert (known["n"], known["quantiles"][0]) == (N, 0.5)


def test_two_runs_of_one_build_say_what_could_be_seen(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = ended(capsys, monkeypatch, "--same-build", runs["a"], runs["again"])
    assert code == 0
    assert said.startswith("VISIBLE  by a diff of runs like a, 400 pairs")
    assert "smallest visible change" in said
    assert "a tolerance of 2 %" in " ".join(said.split())


@pytest.mark.parametrize(
    ("changes", "code", "wanted"),
    [
        ({"schedule_fingerprint": "other"}, 2, "runs of different schedules"),
        ({"mode": PARTLY_OPEN}, 2, "runs of different modes"),
        ({"partial": True}, 3, "stopped early"),
        ({"in_flight_limit": 0}, 3, "INVALID"),
        ({"target": "http://elsewhere.example"}, 0, "different hosts (127.0.0.1, elsewhere.example)"),
        ({"sender": "wire"}, 0, "different senders (session, wire)"),
    ],
)
def test_what_can_not_be_compared_is_refused_and_what_is_doubtful_said(
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    code: int,
    wanted: str,
) -> None:
    other = written(tmp_path / "other.parquet", 5, **changes)
    found, said = ended(capsys, monkeypatch, runs["a"], other)
    assert (found, wanted in said) == (code, True), said
    if code:
        assert len(said.strip().splitlines()) == 1


def test_runs_that_nobody_answered_end_a_gate_and_machines_read_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = MadeRun(np.arange(N) * 20.0 * MS, np.full(N, 5.0 * MS), status=np.full(N, 503))
    runs = [dead.written(tmp_path / f"{name}.parquet") for name in ("one", "other")]
    junit = tmp_path / "diff.xml"
    code, said = ended(capsys, monkeypatch, *runs, "--json", "--junit", junit)
    assert code == 3
    found, end = json.JSONDecoder().raw_decode(said)
    assert (found["verdict"], found["failed_checks"]) == ("invalid", {"baseline": [], "candidate": []})
    assert found["reasons"][0].startswith("no verdict: no request was answered well in both runs (0 of 400")
    assert "see what failed with `peaktape report`" in said[end:]
    assert "no request was answered well" in junit.read_text()


@pytest.mark.parametrize("given", [(), ("a",)])
def test_one_run_is_too_few(
    given: tuple[str, ...],
    runs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, said = ended(capsys, monkeypatch, *(runs[name] for name in given))
    assert code == 2
    assert "two wanted: BASELINE CANDIDATE, or --same-build" in said


def listed(value: Any) -> str:
    """A column of any kind as text."""
    return str(value.to_pylist() if isinstance(value, pa.Array) else value)


def test_only_the_columns_that_figures_need_are_read(runs: dict[str, Path]) -> None:
    lean, _ = read_run(runs["a"], columns=COLUMNS)
    assert set(lean.column_names) == set(COLUMNS)
    whole, about = read_run(runs["a"])
    one, other = RunTable.of(lean, about), RunTable.of(whole, about)
    for field in dataclasses.fields(RunTable):
        assert listed(getattr(one, field.name)) == listed(getattr(other, field.name)), field.name
