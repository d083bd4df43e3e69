"""Pairs by (request_id, copy), the time cells both runs share, and what can't be paired."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import MS, MadeRun, metadata

from capture.failures import BadInput
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import FEWEST_BLOCKS, MOST_SHORTFALL, block_length, curtail, pair, time_cells
from replay.analysis.run_table import RunTable
from replay.engine.run_format import RUN_SCHEMA


def table(n: int = 100) -> pa.Table:
    return MadeRun(due_ns=np.arange(n) * 20.0 * MS, e2e_ns=np.arange(1, n + 1) * 1.0 * MS).table()


def run(rows: pa.Table, **changes: object) -> RunTable:
    return RunTable.of(rows, metadata(scheduled=len(rows), **changes))


@given(st.permutations(range(40)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    straight, shuffled = run(table(40)), run(table(40).take(order))
    pairs = pair(straight, shuffled)
    np.testing.assert_array_equal(straight.due_ns[pairs.baseline], shuffled.due_ns[pairs.candidate])
    assert (np.diff(straight.due_ns[pairs.baseline]) > 0).all()


def test_copies_of_a_request_are_different_requests() -> None:
    again = table(30).set_column(1, RUN_SCHEMA.field("copy"), pa.array(np.ones(30, np.int32)))
    doubled = pa.concat_tables([table(30), again])
    pairs = pair(run(doubled), run(doubled.take(np.arange(60)[::-1])))
    assert len(pairs) == 60
    np.testing.assert_array_equal(pairs.baseline, 59 - pairs.candidate)


def test_requests_of_one_run_only_stay_unpaired() -> None:
    assert len(pair(run(table(100)), run(table(100).slice(30)))) == 70


def test_other_schedules_are_refused_in_one_line() -> None:
    other = run(table(), schedule_fingerprint="another", label="build-b")
    with pytest.raises(BadInput, match=r"build-b replayed another, schedule of build-a wanted"):
        pair(run(table()), other)


def test_too_few_in_common_are_refused() -> None:
    with pytest.raises(BadInput, match="12 requests in common found of 12"):
        pair(run(table(100)), run(table(12)))
    half = table(100).slice(0, 40)
    foreign = [f"x{i}" for i in range(60)]
    renamed = table(100).slice(40).set_column(0, RUN_SCHEMA.field("request_id"), pa.array(foreign))
    mixed = pa.concat_tables([half, renamed])
    with pytest.raises(BadInput, match="40 requests in common found of 100"):
        pair(run(table(100)), run(mixed))


def test_a_request_that_appears_twice_is_refused() -> None:
    twice = pa.concat_tables([table(50), table(1)])
    with pytest.raises(BadInput, match=r"51 rows hold 50 distinct \(request_id, copy\)"):
        pair(run(table(50)), run(twice))


@given(st.integers(1, 5000), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_cells_cover_the_time_in_order(n: int, seed: int) -> None:
    due = np.sort(np.random.default_rng(seed).uniform(0, 1e10, n))
    cell, cells, width = time_cells(due)
    assert 8 <= cells <= 400
    assert cell.min() == 0
    assert cell.max() <= cells - 1
    assert (np.diff(cell) >= 0).all()
    np.testing.assert_allclose(cell, (due - due[0]) / width - 0.5, atol=0.51)


def noisy(n: int, path: np.ndarray, seed: int) -> RunTable:
    e2e = 100 * MS * np.exp(0.1 * path) * np.random.default_rng(seed).lognormal(0, 0.05, n)
    return MadeRun(due_ns=np.arange(n) * 20.0 * MS, e2e_ns=e2e).run()


def length(n: int, before: np.ndarray, after: np.ndarray) -> tuple[float, bool, int]:
    baseline, candidate = noisy(n, before, 1), noisy(n, after, 2)
    pairs = pair(baseline, candidate)
    found = block_length(pairs, Latencies(baseline), Latencies(candidate))
    return found.cells, found.curtailed, pairs.cells


def test_load_that_both_runs_share_asks_for_no_long_blocks() -> None:
    wave = np.sin(np.arange(1000) / 60)
    cells, curtailed, _ = length(1000, wave, wave)
    assert cells < 6
    assert not curtailed


def test_a_drift_of_one_run_is_curtailed_and_said() -> None:
    cells, curtailed, of = length(1000, np.zeros(1000), np.linspace(-3, 3, 1000))
    assert curtailed
    assert cells == of / FEWEST_BLOCKS


def test_blocks_as_long_as_asked_miss_the_root_of_their_share_of_the_run() -> None:
    # At b = (G/g)^(2/3) n^(1/3) the missing part G/(g b) is √(b/n).
    assert curtail(9.0, 900).shortfall == pytest.approx(0.1)


def test_curtailed_blocks_miss_more_of_the_variance_within_reason() -> None:
    whole, cut = curtail(100.0, 900), curtail(200.0, 900)
    assert (whole.curtailed, cut.curtailed) == (False, True)
    assert whole.shortfall < cut.shortfall <= MOST_SHORTFALL


def test_pairs_need_no_latency_at_all() -> None:
    failing = dataclasses.replace(
        MadeRun(due_ns=np.arange(50) * 1.0 * MS, e2e_ns=np.ones(50)), error=["reset"] * 50
    ).run()
    pairs = pair(failing, failing)
    assert block_length(pairs, Latencies(failing), Latencies(failing)).cells == 1.0
