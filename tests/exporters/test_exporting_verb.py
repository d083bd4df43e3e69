"""`peaktape export`: what it prints where, and what it never touches."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

import pytest

from capture.failures import BadInput
from replay.cli.exporting import app
from tests.command_line import invoked

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "demo-traffic.parquet"
FORMATS = ("har", "mooncake", "vegeta", "aiperf", "guidellm", "csv")

run = functools.partial(invoked, app)


@pytest.mark.parametrize("verb", FORMATS)
def test_each_format_writes_its_file_and_tells_its_losses(verb: str, tmp_path: Path) -> None:
    result = run(verb, SAMPLE, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'out'}: ")
    assert result.stdout.count("\n") == 1
    assert ("holds no" in result.stderr) == (verb != "har")
    assert [left.name for left in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("verb", FORMATS)
def test_each_format_shows_examples_and_names_a_missing_trace(verb: str, tmp_path: Path) -> None:
    assert f"peaktape export {verb} " in run(verb, "--help").stdout
    with pytest.raises(BadInput, match="no such file, folder or glob"):
        run(verb, tmp_path / "nowhere", "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(SAMPLE.read_bytes())
    with pytest.raises(BadInput, match="nothing is written over an input"):
        run("csv", trace, "-o", trace, "--overwrite")
    assert trace.read_bytes() == SAMPLE.read_bytes()


def test_an_existing_file_needs_overwrite_and_survives_a_failure(tmp_path: Path) -> None:
    output = tmp_path / "there"
    output.write_bytes(b"precious")
    with pytest.raises(BadInput, match="--overwrite"):
        run("har", SAMPLE, "-o", output)
    with pytest.raises(BadInput, match=r"no row found that AIPerf can hold \(660 requests"):
        run("aiperf", SAMPLE, "-o", output, "--overwrite", "--path", "/x")
    assert output.read_bytes() == b"precious"
    assert [left.name for left in tmp_path.iterdir()] == ["there"]


def test_a_name_that_ends_with_gz_is_gzipped(tmp_path: Path) -> None:
    run("har", SAMPLE, "-o", tmp_path / "t.har.gz")
    assert len(json.loads(gzip.decompress((tmp_path / "t.har.gz").read_bytes()))["log"]["entries"]) == 660


def test_a_target_that_is_no_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--target: 'staging' found"):
        run("vegeta", SAMPLE, "-o", tmp_path / "t", "--target", "staging")
