"""Where an effect is: the slowed band is named and no other, and looking does not change the verdict."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_models import Workload, autoregressive, workload
from made_runs import CHAT, MS, MadeRun

from replay.analysis.bands import bandings, turns
from replay.analysis.change_values import SLOWED, TYPICAL
from replay.analysis.diff import compare
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import pair
from replay.analysis.run_table import RunTable
from replay.analysis.values import DiffResult, Verdict


def arm(load: Workload, seed: int, prefill: np.ndarray, prompts: np.ndarray) -> RunTable:
    slowed = dataclasses.replace(load, prefill_ns=load.prefill_ns * prefill)
    run = autoregressive(slowed, np.random.default_rng(seed), time_constant_s=0.1, wander=0.05, jitter=0.05)
    return dataclasses.replace(run, input_tokens=prompts)


@pytest.fixture(scope="module")
def load() -> Workload:
    made = workload(np.random.default_rng(7), seconds=20)
    return dataclasses.replace(made, kind=np.zeros_like(made.kind), prefill_ns=made.prefill_ns + 60 * MS)


@pytest.fixture(scope="module")
def prompts(load: Workload) -> np.ndarray:
    return np.random.default_rng(9).choice([40.0, 300.0, 3000.0], len(load.due_ns))


def diff(load: Workload, prompts: np.ndarray, factor: np.ndarray) -> DiffResult:
    ones = np.ones(len(prompts))
    return compare(
        arm(load, 1, ones, prompts),
        arm(load, 2, factor, prompts),
        tolerance=0.05,
        rng=np.random.default_rng(1),
        resamples=300,
    )


def test_only_long_prompts_slower_is_said_so(load: Workload, prompts: np.ndarray) -> None:
    found = diff(load, prompts, np.where(prompts > 1000, 1.6, 1.0))
    assert found.verdict is Verdict.REGRESSION
    standing = {(one.dimension, one.band) for one in found.locations if one.stands_out}
    assert standing == {("prompt length", "2,048 tokens and more")}
    (band,) = [one for one in found.locations if one.stands_out]
    assert (band.metric, band.figure) == ("ttft", TYPICAL)
    assert band.low_ratio < 0.6 < band.high_ratio
    assert abs(band.elsewhere_ratio) < 0.05
    assert "most at prompt length 2,048 tokens and more" in " ".join(found.reasons)


def test_what_is_slower_everywhere_stands_out_nowhere(load: Workload, prompts: np.ndarray) -> None:
    found = diff(load, prompts, np.full(len(prompts), 1.6))
    assert found.verdict is Verdict.REGRESSION
    assert found.locations
    assert not any(one.stands_out for one in found.locations)


def test_where_nothing_was_found_nothing_is_located(load: Workload, prompts: np.ndarray) -> None:
    assert diff(load, prompts, np.ones(len(prompts))).locations == ()


def test_a_slower_tail_is_located_by_the_share_that_it_slows(load: Workload, prompts: np.ndarray) -> None:
    chance = np.random.default_rng(3).random(len(prompts))
    found = diff(load, prompts, np.where((prompts < 100) & (chance < 0.2), 4.0, 1.0))
    assert found.verdict is Verdict.REGRESSION
    located = [one for one in found.locations if one.figure == SLOWED]
    assert {one.band for one in located if one.stands_out} == {"below 64 tokens"}


def sessions(n: int, size: int) -> RunTable:
    run = MadeRun(due_ns=np.arange(n) * 20.0 * MS, e2e_ns=np.full(n, 30.0 * MS)).run()
    return dataclasses.replace(run, session=np.arange(n) // size)


@given(st.integers(1, 9), st.integers(10, 60), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_turns_count_up_in_every_session_whatever_the_order_of_rows(size: int, n: int, seed: int) -> None:
    run = sessions(n, size)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = dataclasses.replace(
        run, session=run.session[order], due_ns=run.due_ns[order], copy=run.copy[order]
    )
    np.testing.assert_array_equal(turns(shuffled), (np.arange(n) % size + 1)[order])


@given(st.lists(st.floats(1, 1e5), min_size=100, max_size=300), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_bands_are_whole_large_enough_and_the_same_either_way_round(tokens: list[float], seed: int) -> None:
    n = len(tokens)
    one = dataclasses.replace(sessions(n, 3), output_tokens=np.array(tokens))
    other = dataclasses.replace(one, output_tokens=np.random.default_rng(seed).permutation(one.output_tokens))
    pairs, everything = pair(one, other), np.ones(n, dtype=bool)
    there = list(bandings(pairs, one, other, everything))
    back = list(bandings(pairs, other, one, everything))
    for banding, again in zip(there, back, strict=True):
        assert (banding.dimension, banding.names) == (again.dimension, again.names)
        np.testing.assert_array_equal(banding.band, again.band)
        counts = np.bincount(banding.band[banding.band >= 0], minlength=len(banding.names))
        assert counts.min() >= 30
        assert 2 <= len(counts) <= 5
    assert {"session turn"} <= {banding.dimension for banding in there}


def test_connections_new_in_one_run_are_a_band_of_their_own() -> None:
    run = sessions(300, 1)
    new = np.arange(300) < 60
    one = dataclasses.replace(run, connection_reused=~new)
    (banding,) = [
        b for b in bandings(pair(one, run), one, run, np.ones(300, bool)) if b.dimension == "connection"
    ]
    assert banding.names == ("reused in both runs", "new in one run")
    assert np.count_nonzero(banding.band == 1) == 60


def test_the_models_of_this_file_slow_chats_only(load: Workload, prompts: np.ndarray) -> None:
    run = arm(load, 1, np.ones(len(prompts)), prompts)
    assert set(run.endpoint.names) == {CHAT}
    assert np.nanmedian(Latencies(run).ttft_ns("due")) > 60 * MS
