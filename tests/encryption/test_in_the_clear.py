"""What is made of encrypted traces for others: that it is in the clear is said, and what of it."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from key_rig import key_file, keys
from typer.testing import CliRunner

from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.cli import app
from tests.trace_rows import trace_row, write_rows

PLANTED = {
    "prompts": "promptcanary",
    "answers": "answercanary",
    "headers": "headercanary",
    "paths with their queries": "pathcanary",
    "session ids": "sessioncanary",
}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rows = [
        trace_row(
            number,
            number * 10**9,
            session_id="sessioncanary",
            turn=number,
            path="/v1/chat/completions?who=pathcanary",
            request_headers=[("content-type", "application/json"), ("x-who", "headercanary")],
            request_body=b'{"model": "m", "messages": [{"role": "user", "content": "promptcanary"}]}',
            response_headers=[],
            response_body=b"answercanary",
            response_bytes=12,
            input_tokens=3,
            output_tokens=2,
            model="m",
        )
        for number in range(3)
    ]
    path = tmp_path / "secret.parquet"
    write_trace(path, [batch_of(rows)], TraceMetadata(0, "test"), keys=keys())
    return path


def said(trace: Path, *arguments: str) -> str:
    """What a verb tells on stderr of the file `out` that it makes of the encrypted trace."""
    made, key = trace.with_name("out"), key_file(trace.parent)
    done = CliRunner().invoke(app, [*arguments, "-o", str(made), "--key", f"file:{key}"])
    assert done.exit_code == 0, (done.output, done.exception)
    (line,) = (line for line in done.stderr.splitlines() if "not encrypted" in line)
    assert f"{made} is not encrypted; in the clear: " in line
    return line.rpartition("in the clear: ")[2]


@pytest.mark.parametrize("into", ["har", "vegeta", "aiperf", "csv", "mooncake", "guidellm"])
def test_an_export_names_what_it_holds(into: str, trace: Path) -> None:
    told = said(trace, "export", into, str(trace))
    written = trace.with_name("out").read_bytes()
    if into == "vegeta":
        written += b"".join(b64decode(json.loads(line)["body"]) for line in written.splitlines())
    held = {what for what, canary in PLANTED.items() if canary.encode() in written}
    named = {what for what in PLANTED if what in told}
    # AIPerf takes one path for all, and so does not hold what its requests were chosen by.
    assert held == named - ({"paths with their queries"} if into == "aiperf" else set())
    assert held or told == "lengths and instants, no text"


def test_a_schedule_holds_no_content_and_says_so(trace: Path) -> None:
    assert "no content" in said(trace, "transform", str(trace))
    written = trace.with_name("out").read_bytes()
    assert not [canary for canary in PLANTED.values() if canary.encode() in written]


def test_of_a_plain_trace_nothing_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.parquet", [trace_row(0, 0)])
    key = ("--key", f"file:{key_file(tmp_path)}")
    done = CliRunner().invoke(
        app, ["export", "csv", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "o"), *key]
    )
    assert done.exit_code == 0
    assert "encrypted" not in done.stderr
