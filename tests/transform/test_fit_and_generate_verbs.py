"""`fit` and `generate` at the command line: what comes of them, and bad input refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capture.failures import BadInput
from capture.trace_reader import open_trace
from replay.cli.fitting import fit, generate

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "demo-traffic.parquet"
TABLE = "0,2,1.5,Gamma,0.44,1.1\n600,1,0.8,Weibull,1.2,3\n"


def fitted(source: Path, output: Path, **options: Any) -> None:
    usual = {"at_least": 10, "names": True, "like": None, "seed": 0, "key": None, "overwrite": False}
    fit(source, output, **usual | options)


def generated(profile: Path, output: Path, **options: Any) -> None:
    usual: dict[str, Any] = {"amplify": 1.0, "slice_": None, "model": None, "ignore_eos": False}
    usual |= {"seed": 0, "limit": None, "key": None, "overwrite": False}
    generate(profile, output, **usual | options)


def test_from_a_trace_to_a_profile_to_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, made = tmp_path / "p.yaml", tmp_path / "t.parquet"
    fitted(SAMPLE, profile)
    generated(profile, made, limit=100, model="llama")
    said = capsys.readouterr().out
    assert "p.yaml: 3 classes, 449 sessions over 60 s, 7.48/s" in said.replace("7.49", "7.48")
    assert "t.parquet: 100 rows over" in said
    trace = open_trace(made)
    assert trace.metadata.source == "generate p.yaml"
    assert trace.column("model").unique().to_pylist() == ["llama"]
    with pytest.raises(BadInput, match="exists already"):
        fitted(SAMPLE, profile)
    with pytest.raises(BadInput, match="exists already"):
        generated(profile, made)
    with pytest.raises(BadInput, match="nothing is written over an input"):
        generated(profile, profile, overwrite=True)


def test_client_tables_take_the_lengths_of_another_profile(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "chunk-0-trace.csv").write_text(TABLE)
    fitted(SAMPLE, tmp_path / "like.yaml")
    fitted(tmp_path / "tables", tmp_path / "p.yaml", like=tmp_path / "like.yaml")
    assert "assumed" not in (tmp_path / "p.yaml").read_text()
    generated(tmp_path / "p.yaml", tmp_path / "t.parquet", slice_="10m..11m")
    generated(tmp_path / "tables", tmp_path / "assumed.parquet", slice_="10m..10m10s")
    paths = open_trace(tmp_path / "t.parquet").column("path").unique().to_pylist()
    assert sorted(paths) == ["/v1/chat/completions", "/v1/embeddings"]
    assert any("assumed" in note for note in open_trace(tmp_path / "assumed.parquet").metadata.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"amplify": 0.0}, "--amplify: 0 found, a number above 0 wanted"),
        ({"slice_": "5s"}, "--slice: '5s' found, START..END"),
        ({"slice_": "5s..1s"}, "a start before the end wanted"),
        ({"slice_": "9h..10h"}, "--slice: 9h..10h found, a part of 0s..1200s wanted"),
    ],
)
def test_what_cannot_be_generated_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "chunk-0-trace.csv").write_text(TABLE)
    with pytest.raises(BadInput) as refusal:
        generated(tmp_path / "chunk-0-trace.csv", tmp_path / "t" / "t.parquet", **options)
    assert words in str(refusal.value)
    assert not (tmp_path / "t" / "t.parquet").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read (No such file or directory)"),
        (b"PAR1\xff\xfe", "not UTF-8 text; a profile (YAML) wanted"),
        (b"a: [", "p.yaml:1: "),
        (b"", "the file: nothing found"),
        (b"profile: 1\n", "classes: nothing found"),
    ],
)
def test_what_is_no_profile_says_so(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        generated(path, tmp_path / "t.parquet")
    assert words in str(refusal.value)


def test_a_trace_has_lengths_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--like: goes with client tables"):
        fitted(SAMPLE, tmp_path / "p.yaml", like=SAMPLE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"without \.parquet segments"):
        fitted(tmp_path / "empty", tmp_path / "p.yaml")
