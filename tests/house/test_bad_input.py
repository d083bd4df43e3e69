"""Bad input at the command line: one line on stderr, the documented exit code, nothing damaged."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.command_line import peaktape_apart, peaktape_here

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "demo-traffic.parquet"


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["inspect", "nothing.parquet"], 2, "no such file"),
        (["inspect", "truncated.parquet"], 2, "not a whole Parquet file"),
        (["inspect", "other.parquet"], 2, "column request_id: missing, string wanted"),
        (
            ["transform", "{sample}", "-o", "s.parquet", "--speed", "-5"],
            2,
            "--speed: -5 found, a number above 0 wanted",
        ),
        (["transform", "{sample}", "-o", "s.parquet", "--amplify", "0"], 2, "--amplify: 0 found"),
        (
            ["transform", "{sample}", "-o", "s.parquet", "--spike", "at=9h,for=1s,x=2"],
            2,
            "begins at 32400s; the schedule spans 0s to 59.8",
        ),
        (
            ["transform", "{sample}", "-o", "s.parquet", "--recipe", "precious.txt"],
            2,
            "precious.txt:1: the recipe: 'precious' found, a mapping with",
        ),
        (
            ["transform", "{sample}", "-o", "s.parquet", "--spike", "often"],
            2,
            "at=…,for=…,x=…,[name=…],[form=…]",
        ),
        (["transform", "{sample}", "-o", "s.parquet", "--slice", "5s"], 2, "--slice: '5s' found, START..END"),
        (
            ["transform", "{sample}", "-o", "precious.txt"],
            2,
            "exists already; choose another name or add --overwrite",
        ),
        (
            ["replay", "{sample}", "--target", "http://127.0.0.1:{port}", "-o", "r.parquet"],
            2,
            "can't connect",
        ),
        (["replay", "{sample}", "--target", "127.0.0.1:9000", "-o", "r.parquet"], 2, "--target: "),
        (
            ["replay", "{sample}", "--target", "http://127.0.0.1:{port}", "-o", "precious.txt"],
            2,
            "exists already",
        ),
        (
            ["replay", "{sample}", "--target", "http://93.184.216.34", "-o", "r.parquet"],
            4,
            "add --allow-host",
        ),
        (
            [
                "replay",
                "{sample}",
                "--target",
                "http://127.0.0.1:{port}",
                "-o",
                "r.parquet",
                "--auth-env",
                "NOT_SET",
            ],
            2,
            "not set",
        ),
        (
            [
                "replay",
                "{sample}",
                "--target",
                "http://127.0.0.1:{port}",
                "-o",
                "r.parquet",
                "--timeout",
                "soon",
            ],
            2,
            "--timeout",
        ),
        (["report", "other.parquet"], 2, "no metadata of peaktape found, a run wanted"),
        (["report", "truncated.parquet"], 2, "not a readable run"),
        (["diff", "nothing.parquet", "other.parquet"], 2, "nothing.parquet"),
        (["diff", "other.parquet", "other.parquet", "--tolerance", "much"], 2, "--tolerance: 'much' found"),
        (["import", "har", "precious.txt", "-o", "t.parquet"], 2, "precious.txt"),
        (
            ["import", "gor", "precious.txt", "-o", "t.parquet"],
            2,
            "precious.txt:1: a payload without its end",
        ),
        (["import", "access-log", "precious.txt", "-o", "t.parquet"], 2, "precious.txt:1: 'precious' found"),
        (["import", "otlp", "precious.txt", "-o", "t.parquet"], 2, "precious.txt:1: no JSON"),
        (["export", "csv", "truncated.parquet", "-o", "t.csv"], 2, "not a whole Parquet file"),
        (["export", "har", "{sample}", "-o", "precious.txt"], 2, "exists already"),
        (["capture", "-o", "t.parquet"], 2, "--upstream: missing"),
        (["capture", "--upstream", "nowhere", "-o", "t.parquet"], 2, "nowhere"),
        (
            ["capture", "--upstream", "http://127.0.0.1:{port}", "-o", "precious.txt/t.parquet"],
            2,
            "precious.txt",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_one_line_and_an_exit_code(
    tmp_path: Path, closed_port: int, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / "truncated.parquet").write_bytes(SAMPLE.read_bytes()[:-100])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    before = sorted(path.name for path in tmp_path.iterdir())
    filled = [text.format(sample=SAMPLE, port=closed_port) for text in arguments]
    ended = peaktape_here(*filled, cwd=tmp_path)
    assert ended.returncode == code, ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert words in lines[0]
    assert (tmp_path / "precious.txt").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["transform", "prod.parquet", "-o", "prod.parquet"], "is the input prod.parquet"),
        (["transform", "prod.parquet", "-o", "link.parquet"], "is the input prod.parquet"),
        (["transform", "seg/", "-o", "seg/segment-000001.parquet"], "lies in the input folder seg/"),
        (["transform", "seg/*.parquet", "-o", "seg/s.parquet"], "matches the input seg/*.parquet"),
        (["report", "run.parquet", "--html", "run.parquet"], "is the input run.parquet"),
        (["diff", "prod.parquet", "run.parquet", "--html", "run.parquet"], "is the input run.parquet"),
        (
            ["diff", "a", "b", "--same-build", "prod.parquet", "run.parquet", "--html", "run.parquet"],
            "is the input run.parquet",
        ),
        (["import", "har", "s.har", "-o", "s.har"], "is the input s.har"),
        (["import", "azure-llm", "s.har", "-o", "s.har"], "is the input s.har"),
        (["import", "mooncake", "s.har", "-o", "s.har"], "is the input s.har"),
        (["import", "mitm", "s.har", "-o", "s.har"], "is the input s.har"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_input_is_never_overwritten(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "seg").mkdir()
    names = ("prod.parquet", "run.parquet", "s.har", "seg/segment-000001.parquet")
    inputs = [tmp_path / name for name in names]
    for path in inputs:
        path.write_bytes(SAMPLE.read_bytes())
    (tmp_path / "link.parquet").symlink_to("prod.parquet")
    ended = peaktape_here(*arguments, "--overwrite", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert all(path.read_bytes() == SAMPLE.read_bytes() for path in inputs)
    assert (tmp_path / "link.parquet").is_symlink()


def test_the_host_of_the_capture_is_refused(tmp_path: Path) -> None:
    from capture.trace_reader import open_trace

    (upstream,) = open_trace(SAMPLE).metadata.upstreams
    ended = peaktape_apart(
        "replay", SAMPLE, "--target", f"http://{upstream}", "-o", "r.parquet", cwd=tmp_path
    )
    assert ended.returncode == 4
    assert "the trace was captured from this host" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_target_that_accepts_and_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
        target = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ended = peaktape_apart(
            *("replay", SAMPLE, "--slice", "0s..5s", "--speed", 5, "--target", target),
            *("-o", "r.parquet", "--timeout", "1s"),
            cwd=tmp_path,
        )
    assert ended.returncode == 3, ended.stderr
    assert "accepted connections but answered none of" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "r.parquet").exists()


def test_a_schedule_whose_trace_has_changed_is_refused(tmp_path: Path, closed_port: int) -> None:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(SAMPLE.read_bytes())
    made = peaktape_here("transform", trace, "-o", "s.parquet", "--speed", 5, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    other = peaktape_here("import", "azure-llm", _azure(tmp_path), "-o", trace, "--overwrite", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    target = f"http://127.0.0.1:{closed_port}"
    ended = peaktape_here("replay", "s.parquet", "--target", target, "-o", "r.parquet", cwd=tmp_path)
    assert ended.returncode == 2
    assert "not the trace that s.parquet was made from" in ended.stderr


def _azure(folder: Path) -> Path:
    path = folder / "azure.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,3,4\n")
    return path


def test_a_pipe_that_closes_early_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m replay.cli inspect {SAMPLE} --json | head -1"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert ended.stdout == "{\n"
    assert "Traceback" not in ended.stderr
