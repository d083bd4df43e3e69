"""Changes of failures: McNemar's exact test, classes of failure, and when a rise holds a verdict back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import CHAT, EMBED, MS, MadeRun

from replay.analysis.metrics import Latencies
from replay.analysis.outcomes import cluster_warnings, mcnemar_exact, outcome_changes, rose
from replay.analysis.pairing import pair
from replay.analysis.run_table import RunTable
from replay.analysis.values import OutcomeChange, Verdict

N = 400


def run(*, status: dict[int, int] | None = None, error: dict[int, str] | None = None) -> RunTable:
    """Chats and embeddings in turns; rows named in `status` and `error` fail so."""
    statuses = np.full(N, 200)
    for row, code in (status or {}).items():
        statuses[row] = code
    return MadeRun(
        due_ns=np.arange(N) * 10.0 * MS,
        e2e_ns=np.full(N, 100.0 * MS),
        endpoint=[CHAT, EMBED] * (N // 2),
        status=statuses,
        error=[(error or {}).get(row) for row in range(N)],
    ).run()


def changes(before: RunTable, after: RunTable) -> dict[tuple[str, str], OutcomeChange]:
    found = outcome_changes(pair(before, after), Latencies(before), Latencies(after))
    return {(change.group.name, change.kind): change for change in found}


def test_mcnemars_p_value_is_that_of_a_coin() -> None:
    before, after = np.zeros(20, bool), np.zeros(20, bool)
    after[:6] = True
    assert mcnemar_exact(before, after) == pytest.approx(2 / 2**6)
    before[:6] = True
    assert mcnemar_exact(before, after) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_fair_to_both_sides(found: list[tuple[bool, bool]]) -> None:
    before = np.array([one for one, _ in found], dtype=bool)
    after = np.array([other for _, other in found], dtype=bool)
    assert mcnemar_exact(before, after) == pytest.approx(mcnemar_exact(after, before))


def test_new_failures_of_one_endpoint_are_its_regression_alone() -> None:
    broken = run(status=dict.fromkeys(range(0, 80, 2), 503))
    found = changes(run(), broken)
    assert found[CHAT, "failure"].verdict is Verdict.REGRESSION
    assert (found[CHAT, "5xx"].baseline_count, found[CHAT, "5xx"].candidate_count) == (0, 40)
    assert found[EMBED, "failure"].verdict is Verdict.EQUIVALENT
    assert (EMBED, "5xx") not in found
    assert changes(broken, run())[CHAT, "failure"].verdict is Verdict.IMPROVED


def test_the_same_failures_twice_are_no_change() -> None:
    failing = run(status=dict.fromkeys(range(50), 429))
    assert {change.verdict for change in changes(failing, failing).values()} == {Verdict.EQUIVALENT}


def test_another_kind_of_failure_is_a_change_of_kinds_only() -> None:
    rejecting = run(status=dict.fromkeys(range(60), 429))
    breaking = run(error=dict.fromkeys(range(60), "reset"))
    found = changes(rejecting, breaking)
    assert found["", "failure"].verdict is Verdict.EQUIVALENT
    assert found["", "4xx"].verdict is Verdict.IMPROVED
    assert found["", "reset"].verdict is Verdict.REGRESSION


def test_a_few_failures_more_are_undecided_but_hold_an_improvement_back() -> None:
    before, after = run(), run(status=dict.fromkeys(range(0, 100, 20), 500))
    assert changes(before, after)["", "failure"].verdict is Verdict.INCONCLUSIVE
    pairs = pair(before, after)
    assert rose(pairs, Latencies(before), Latencies(after))
    assert not rose(pairs, Latencies(after), Latencies(before))


def test_failures_in_one_burst_raise_a_doubt() -> None:
    before, burst = run(), run(status=dict.fromkeys(range(200, 220), 503))
    (doubt,) = cluster_warnings(pair(before, burst), Latencies(before), Latencies(burst))
    assert "all 20 new failures fell within" in doubt
    spread = run(status=dict.fromkeys(range(0, 400, 20), 503))
    assert not list(cluster_warnings(pair(before, spread), Latencies(before), Latencies(spread)))
