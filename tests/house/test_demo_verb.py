"""The demo, shortened: its verdict is the truth it was built with, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from rich.console import Console

from capture.journal_folder import journals_in
from capture.trace_reader import open_trace
from replay.cli.demo import _conclude
from replay.engine.run_format import read_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "replay.cli", "demo", "-o", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that the demo in `folder` started and that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.alone
def test_the_verdict_is_the_truth_and_nothing_is_left_over(tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    with start(folder, "--seconds", "20") as demo:
        said, _ = demo.communicate(timeout=150)
    assert demo.returncode == 0, said
    verdict = said[said.index("REGRESSION") :]
    assert "POST /v1/chat/completions: TTFT" in verdict
    assert "POST /v1/embeddings: TTFT" not in said
    reasons = verdict[: verdict.index("Doubt")]
    assert "embeddings" not in reasons
    assert "infer" not in reasons
    assert "ITL" not in reasons
    assert (folder / "diff.html").read_text().startswith("<!doctype html>")
    assert str(folder / "diff.html") in said
    assert "a regression had to be found, and one was." in said
    trace = open_trace(folder / "prod.parquet")
    assert trace.rows == 220
    outcomes = set(trace.column("outcome").to_pylist())
    assert outcomes == {"complete", "client_aborted"}
    assert {400, 404, 500, 200} <= set(trace.column("status").to_pylist())
    assert b"demo-key" not in (folder / "prod.parquet").read_bytes()
    table, _ = read_run(folder / "a.parquet")
    assert table.num_rows == 220
    assert left_over(folder) == []


@pytest.mark.parametrize(
    ("code", "prefill_factor", "words", "wrong"),
    [
        (1, 1.4, "a regression had to be found, and one was.", False),
        (0, 1.4, "a regression had to be found, and none was.", True),
        (0, 1.0, "no regression may be found, and none was.", False),
        (1, 1.0, "no regression may be found, and one was.", True),
    ],
)
def test_the_last_words_name_no_verdict_but_the_one_that_was_printed(
    code: int, prefill_factor: float, words: str, wrong: bool, tmp_path: Path
) -> None:
    out = Console(file=io.StringIO(), width=200)
    with pytest.raises(typer.Exit) if wrong else contextlib.nullcontext():
        _conclude(out, tmp_path, tmp_path / "diff.html", code, prefill_factor)
    assert isinstance(out.file, io.StringIO)
    assert words in out.file.getvalue()


def read_to(demo: subprocess.Popen[str], words: str) -> None:
    """What the demo says, up to the line that holds `words`."""
    for line in demo.stdout or ():
        if words in line:
            return
    raise AssertionError(f"the demo ended before it said {words!r}")


@pytest.mark.parametrize(
    ("once_it_says", "to_group"),
    [("$ peaktape capture", True), ("$ peaktape replay", False)],
    ids=["Ctrl-C while capturing", "SIGTERM while replaying"],
)
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, once_it_says: str, to_group: bool) -> None:
    folder = tmp_path / "stopped"
    with start(folder, "--seconds", "10") as demo:
        read_to(demo, once_it_says)
        time.sleep(1.5)  # into the work
        assert demo.poll() is None
        if to_group:  # as a terminal does
            os.killpg(demo.pid, signal.SIGINT)
        else:
            demo.terminate()
        said, _ = demo.communicate(timeout=40)
    assert demo.returncode == 130, said
    assert "Traceback" not in said
    assert left_over(folder) == []
    servers = subprocess.run(["pgrep", "-f", f"parent-pid={demo.pid}"], capture_output=True, text=True)
    assert servers.stdout == ""


def journaled_bytes(folder: Path) -> int:
    """How much of what was recorded is on the disk."""
    return sum(path.stat().st_size for path in journals_in(folder / "prod.parquet.segments"))


@pytest.mark.alone
def test_a_killed_demo_takes_its_capture_along_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    with start(folder, "--seconds", "30") as demo:
        deadline = time.monotonic() + 20
        while journaled_bytes(folder) < 20_000 and time.monotonic() < deadline:
            time.sleep(0.1)
        demo.kill()
        demo.wait()
        while left_over(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert left_over(folder) == []
    assert open_trace(folder / "prod.parquet").rows > 0
    assert not (folder / "prod.parquet.segments").exists()
