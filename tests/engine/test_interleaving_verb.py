"""`ab` by the real command line: replays in turn or at once, an early end, one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from connection_rig import free_port
from replay_rig import MS, request
from test_two_senders import answering

from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from tests.command_line import peaktape_apart, peaktape_here

WIDE = ("--max-lateness", "9s", "--max-lateness-p99", "9s")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Thirty requests in a third of a second."""
    rows = [request(i, i * 10 * MS) for i in range(30)]
    write_trace(tmp_path / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    return tmp_path / "t.parquet"


def ab(trace: Path, a: str, b: str, *options: object) -> subprocess.CompletedProcess[str]:
    arguments = ("ab", trace, "--target-a", a, "--target-b", b, "-o", "runs", *options, "--", *WIDE)
    return peaktape_apart(*arguments, cwd=trace.parent)


def after_ms(delay_ms: float) -> bytes:
    time.sleep(delay_ms / 1e3)
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.alone
@pytest.mark.slow
def test_a_slow_build_is_found_and_the_comparison_ends_early(trace: Path) -> None:
    with answering(lambda _: after_ms(20), []) as fast, answering(lambda _: after_ms(150), []) as slow:
        ended = ab(trace, fast, slow, "--at-once", "--pairs", 9, "--json", "--label-b", "new")
    assert ended.returncode == 1, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["verdict"], found["decided"], found["candidate"]) == ("regression", True, "new")
    assert 3 <= found["pairs"] < 9
    (figure,) = [f for f in found["figures"] if (f["metric"], f["quantile"]) == ("e2e", "p50")]
    assert figure["low_ratio"] < figure["change_ratio"] < (figure["high_ratio"] or 1e9)
    assert figure["change_ratio"] > 1
    runs = sorted(path.name for path in (trace.parent / "runs").glob("*.parquet"))
    assert [name for name in runs if "again" not in name][:2] == ["01-a.parquet", "01-b.parquet"]


@pytest.mark.slow
def test_each_run_is_prepared_in_abba_order(trace: Path) -> None:
    with answering(lambda _: after_ms(5), []) as server:
        prepare = ("--before-run", "echo $PEAKTAPE_ARM >> order.txt")
        ended = ab(trace, server, server, "--pairs", 2, *prepare)
    assert ended.returncode == 0, ended.stderr
    assert (trace.parent / "order.txt").read_text().split() == ["a", "b", "b", "a"]
    assert "INCONCLUSIVE  build-b against build-a, 2 pairs of runs" in ended.stdout
    assert "pair 1 of at most 2: inconclusive." in ended.stderr


@pytest.mark.parametrize(
    ("options", "passed_on", "code", "words"),
    [
        (("--before-run", "true", "--at-once"), (), 2, "--before-run: goes not with --at-once"),
        (("--before-run", "exit 7"), (), 2, "--before-run: ended with 7 for arm a"),
        (("--tolerance", "none"), (), 2, "--tolerance"),
        ((), ("--label", "x"), 2, "--label: set by `ab`"),
        ((), ("--sped", "5"), 2, "ended with 2"),
        ((), (), 2, "ended with 2"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(
    trace: Path, options: tuple[str, ...], passed_on: tuple[str, ...], code: int, words: str
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    arguments = ("ab", trace, "--target-a", nobody, "--target-b", nobody, "-o", "runs", *options)
    # What is refused before a child is started says so here; a child's words go to real descriptors.
    peaktape = peaktape_apart if "ended with" in words else peaktape_here
    ended = peaktape(*arguments, "--", *passed_on, cwd=trace.parent)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("peaktape: ")
    assert words in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_runs_of_before_are_left_alone(trace: Path) -> None:
    (trace.parent / "runs").mkdir()
    ended = ab(trace, "http://127.0.0.1:9", "http://127.0.0.1:9")
    assert ended.returncode == 2
    assert "is there already" in ended.stderr
