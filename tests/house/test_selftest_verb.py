"""The self-test: real replays at several rates; its judgement is a pure function of what was measured."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from replay.analysis.punctuality import Punctuality, kept_up_to, lateness_ns
from replay.cli.selftest import bursts_ns
from replay.report.selftest_text import selftest_report

ROOT = Path(__file__).resolve().parents[2]
GOOD = Punctuality(100, "session", 1, 400, 400, 50e3, 200e3, 900e3, 0.1, "")


def at(rate: float, p99_ns: float = 200e3, arrived: int = 400) -> Punctuality:
    return dataclasses.replace(GOOD, rate_per_s=rate, p99_ns=p99_ns, arrived=arrived)


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ([at(100), at(500), at(1000)], 1000),
        ([at(100), at(500, 2e6), at(1000)], 100),  # a rate counts only with all lower ones
        ([at(1000), at(100)], 1000),
        ([at(100, 2e6)], None),
        ([at(100), at(500, arrived=399)], 100),
        ([], None),
    ],
)
def test_the_rate_that_is_kept(found: list[Punctuality], best: float | None) -> None:
    assert kept_up_to(found) == best


def test_lateness_is_by_number_and_what_is_unknown_is_left_out() -> None:
    due_ns = np.array([10, 20, 30])
    late = lateness_ns(due_ns, np.array([2, 0, -1, 7]), np.array([31, 15, 99, 99]))
    assert late.tolist() == [1, 5]


@given(st.floats(50, 3000), st.integers(0, 5))
def test_bursts_keep_their_rate_and_are_no_clockwork(rate: float, seed: int) -> None:
    due_ns = bursts_ns(np.random.default_rng(seed), rate, 4.0)
    assert len(due_ns) == round(rate * 4)
    assert abs(int(due_ns[-1]) - 4_000_000_000) < 10
    gaps = np.diff(due_ns)
    assert (gaps >= 0).all()
    assert gaps.std() > gaps.mean()


def test_it_reads_in_one_sentence() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(selftest_report([at(100), at(500, 3e6)], 100))
    assert isinstance(console.file, io.StringIO)
    said = " ".join(console.file.getvalue().split())
    assert "up to 100 requests/s; at the next rate, 500, p99 was 3.00 ms" in said


@pytest.mark.slow
@pytest.mark.alone
def test_it_measures_this_machine() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "replay.cli", "selftest", "--rates", "60,350", "--seconds", "1.5", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr  # how punctual this machine is now is not ours to say
    found = json.loads(ended.stdout)
    assert [one["sender"] for one in found["rates"]] == ["session", "wire"]
    assert [one["arrived"] for one in found["rates"]] == [one["scheduled"] for one in found["rates"]]
    assert all(0 <= one["p50_ns"] <= one["p99_ns"] <= one["max_ns"] for one in found["rates"])
