"""`peaktape import`: the trace it writes, what it prints where, and what it refuses."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from capture.failures import BadInput
from capture.trace_reader import open_trace
from replay.cli.importing import app
from tests.command_line import invoked

CSV = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,10,4\n2023-11-16 18:15:48.5,20,8\n"

run = functools.partial(invoked, app)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "conv.csv"
    path.write_text(CSV)
    return path


def test_the_result_goes_to_stdout_and_the_notes_to_stderr(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "azure.parquet"
    result = run("azure-llm", source, "-o", output)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{output}: 2 rows over 2.0 s, 0.50 requests/s, ")
    assert result.stdout.count("\n") == 1
    assert "one token = one word" in result.stderr
    assert open_trace(output).rows == 2


def test_options_reach_the_requests(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "azure.parquet"
    run("azure-llm", source, "-o", output, "--model", "llama", "--ignore-eos", "--no-stream", "--limit", 1)
    trace = open_trace(output)
    (body,) = (json.loads(raw) for raw in trace.column("request_body").to_pylist())
    assert (body["model"], body["ignore_eos"], "stream" in body) == ("llama", True, False)
    assert trace.column("stream").to_pylist() == [False]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(source: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.parquet" for name in "abc"]
    for output, seed in zip(files, (5, 5, 6), strict=True):
        run("azure-llm", source, "-o", output, "--seed", seed)
    first, again, other = (output.read_bytes() for output in files)
    assert first == again
    assert first != other


def test_an_existing_trace_needs_overwrite(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "azure.parquet"
    output.write_bytes(b"precious")
    with pytest.raises(BadInput, match="--overwrite"):
        run("azure-llm", source, "-o", output)
    assert output.read_bytes() == b"precious"
    run("azure-llm", source, "-o", output, "--overwrite")
    assert open_trace(output).rows == 2


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    request = {"method": "GET", "url": "http://h/", "headers": []}
    entries = [{"startedDateTime": "2024-01-01T00:00:00Z", "request": request}, {"request": request}]
    har = tmp_path / "session.har"
    har.write_text(json.dumps({"log": {"entries": entries}}))
    result = run("har", har, "-o", tmp_path / "t.parquet")
    assert "left out: 1 no usable startedDateTime" in result.stderr
    assert "1 row over 0.0 s," in result.stdout


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--seed", "-1"], ["--seed", str(2**64)]])
def test_options_out_of_range_are_refused(source: Path, tmp_path: Path, arguments: list[str]) -> None:
    result = run("azure-llm", source, "-o", tmp_path / "t.parquet", *arguments)
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    "verb",
    ["azure-llm", "mooncake", "burstgpt", "otlp", "har", "mitm", "gor", "access-log", "vegeta"],
)
def test_each_source_shows_examples_and_names_a_missing_file(verb: str, tmp_path: Path) -> None:
    assert f"peaktape import {verb} " in run(verb, "--help").stdout
    with pytest.raises(BadInput, match=r"nowhere: can't be read \(No such file"):
        run(verb, tmp_path / "nowhere", "-o", tmp_path / "t.parquet")
