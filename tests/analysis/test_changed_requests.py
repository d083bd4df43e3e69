"""The ten most changed requests: new failures first, then the largest changes, each with both timelines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_runs import MS, MadeRun

from replay.analysis.change_values import ChangedRequest
from replay.analysis.changed_requests import MOST_READS, changed_requests
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import pair
from replay.analysis.run_table import RunTable

N = 60


def run(e2e_ms: np.ndarray, status: np.ndarray | None = None, tokens: int = 10) -> RunTable:
    return MadeRun(
        due_ns=np.arange(N) * 50.0 * MS,
        e2e_ns=e2e_ms * MS,
        ttft_ns=np.full(N, 5.0 * MS),
        tokens=np.full(N, tokens),
        status=status,
    ).run()


def changed(before: RunTable, after: RunTable) -> tuple[ChangedRequest, ...]:
    return changed_requests(pair(before, after), Latencies(before), Latencies(after))


def test_the_largest_changes_come_first_whichever_way_they_go() -> None:
    after = np.full(N, 100.0)
    after[[7, 20, 33]] = 400.0, 30.0, 150.0
    found = changed(run(np.full(N, 100.0)), run(after))
    assert [one.request_id for one in found] == ["r000007", "r000020", "r000033"]
    assert [one.change_ns / MS for one in found] == pytest.approx([300.0, -70.0, 50.0])


def test_a_timeline_has_the_runs_own_instants() -> None:
    after = np.full(N, 100.0)
    after[7] = 400.0
    (one,) = changed(run(np.full(N, 100.0)), run(after))
    for line, e2e_ms in ((one.baseline, 100.0), (one.candidate, 400.0)):
        assert line.due_ns == line.sent_ns == 350 * MS
        assert line.first_token_ns == line.read_ns[0] == 355 * MS
        assert line.end_ns == line.read_ns[-1] == (350 + e2e_ms) * MS
        assert (line.reads, line.output_tokens, line.status, line.error) == (10, 10, 200, "")


def test_long_streams_are_thinned_and_keep_their_ends() -> None:
    one, *_ = changed(run(np.full(N, 100.0), tokens=500), run(np.linspace(100, 300, N), tokens=500))
    assert (len(one.candidate.read_ns), one.candidate.reads) == (MOST_READS, 500)
    assert one.candidate.read_ns[-1] == one.candidate.end_ns


def test_new_failures_come_before_all_and_leave_room() -> None:
    status = np.full(N, 200)
    status[10:30] = 503
    found = changed(run(np.full(N, 100.0)), run(np.linspace(100, 300, N), status))
    assert len(found) == 10
    assert [np.isnan(one.change_ns) for one in found] == [True] * 5 + [False] * 5
    assert {one.candidate.status for one in found[:5]} == {503}


def test_ten_of_fewer_and_none_of_equal() -> None:
    same = run(np.full(N, 100.0))
    assert changed(same, same) == ()
    failing = dataclasses.replace(same, status=np.full(N, 500))
    assert changed(failing, failing) == ()
