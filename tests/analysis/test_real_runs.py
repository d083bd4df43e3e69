"""Verdicts on real vLLM runs (AIBrix's regression benchmark), paired by user and question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aibrix_runs import read_results

from replay.analysis.diff import compare
from replay.analysis.run_table import RunTable
from replay.analysis.values import DiffResult, Verdict

RESULTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces" / "aibrix-regression" / "v0.2.1"

pytestmark = pytest.mark.skipif(
    not RESULTS.exists(), reason="shared/traces/aibrix-regression is not beside this checkout"
)


def run(variant: str, rate: float) -> RunTable:
    return read_results(RESULTS / f"{variant}_output_{rate}.csv", variant)


def diff(before: RunTable, after: RunTable) -> DiffResult:
    # The generator's own lateness is not in these files, so that validity can't be asked for.
    return compare(
        before, after, tolerance=0.05, rng=np.random.default_rng(0), resamples=200, allow_invalid=True
    )


def test_a_real_run_is_equivalent_to_itself() -> None:
    assert diff(run("naive", 2.1), run("naive", 2.1)).verdict is Verdict.EQUIVALENT


def test_another_router_is_slower_and_the_other_way_round_faster() -> None:
    naive, routed = run("naive", 2.9), run("aibrix_naive_7", 2.9)
    there, back = diff(naive, routed), diff(routed, naive)
    assert (there.verdict, back.verdict) == (Verdict.REGRESSION, Verdict.IMPROVED)
    assert "ITL p90 +42 ms" in " ".join(there.reasons)
    assert there.pairs == 322


def test_requests_that_one_run_lacks_are_left_out_and_counted() -> None:
    found = diff(run("naive", 2.1), run("aibrix_high_low", 2.1))
    assert (found.pairs, found.unpaired_baseline) == (203, 30)
    assert found.verdict is Verdict.REGRESSION
