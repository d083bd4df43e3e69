"""How often the comparison cries wolf, and how often it sees the wolf, on models whose truth is known.

Counts are of whole comparisons: one wrong regression among some forty effects is a false alarm. Each test
prints its figures (`pytest -s`), the plain bootstrap of single requests beside.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from latency_models import autoregressive, queueing, workload

from replay.analysis.bootstrap import stationary_multiplicities
from replay.analysis.effects import Estimate, estimates
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import BlockLength, block_length, pair
from replay.analysis.run_table import RunTable
from replay.analysis.values import Verdict
from replay.analysis.verdicts import judge_effects

TIMES = 30
RESAMPLES = 200
TOLERANCE = 0.05

Arm = Callable[..., RunTable]
MODELS: dict[str, Arm] = {
    "independent jitter of 8 %": functools.partial(autoregressive, wander=0.0),
    "15 % wandering over 0.3 s": functools.partial(autoregressive, wander=0.15, time_constant_s=0.3),
    "five slots, 60 % busy": functools.partial(queueing, slots=5),
}


def estimated(arm: Arm, seed: int, factor: float = 1.0, *, by_blocks: bool = True) -> list[Estimate]:
    """Estimates of one baseline and one candidate, 13 s at 60 requests/s."""
    rng = np.random.default_rng(seed)
    load = workload(rng)
    baseline = arm(load, np.random.default_rng([seed, 1]))
    candidate = arm(load, np.random.default_rng([seed, 2]), prefill_factor=factor)
    pairs, before, after = pair(baseline, candidate), Latencies(baseline), Latencies(candidate)
    length = block_length(pairs, before, after)
    if not by_blocks:
        pairs = dataclasses.replace(pairs, cell=np.arange(len(pairs)), cells=len(pairs))
        length = BlockLength(1.0, curtailed=False, shortfall=0.0)
    drawn = stationary_multiplicities(pairs.cells, length.cells, RESAMPLES, rng)
    return estimates(pairs, before, after, drawn, length)


type Often = Callable[..., list[list[Estimate]]]


@pytest.fixture(scope="module")
def estimated_often() -> Iterator[Often]:
    """`estimated` of a model for as many seeds, on all cores; what was asked for before is kept.

    A core each: matrices as small as these take several times as long when threads share them out.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:

            @functools.cache
            def often(
                name: str, times: int, factor: float = 1.0, *, by_blocks: bool = True
            ) -> list[list[Estimate]]:
                once = functools.partial(estimated, MODELS[name], factor=factor, by_blocks=by_blocks)
                return list(pool.map(once, range(times), chunksize=5))

            yield often


def regressions(found: list[Estimate], *, margins: bool = True) -> set[str]:
    """The metrics with a regression; without margins, by significance alone."""
    floors = {} if margins else {(e.group, e.metric, e.clock, e.quantile): 0.0 for e in found}
    effects = judge_effects(found, TOLERANCE if margins else 0.0, floors)
    return {effect.metric for effect in effects if effect.verdict is Verdict.REGRESSION}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_same_build_twice_is_rarely_called_a_regression(name: str, estimated_often: Often) -> None:
    found = estimated_often(name, TIMES)
    alarms = sum(bool(regressions(each)) for each in found)
    bare = sum(bool(regressions(each, margins=False)) for each in found)
    print(f"\n{name}: {alarms} false alarms of {TIMES}; {bare} by significance alone")
    # 5 % or less: 5 and more of 30 would come up once in 60 times at that rate.
    assert alarms <= 4
    assert bare <= 4


@pytest.mark.slow
def test_single_requests_resampled_would_cry_wolf(estimated_often: Often) -> None:
    name = "15 % wandering over 0.3 s"
    by_blocks, plain = (
        sum(bool(regressions(each, margins=False)) for each in found)
        for found in (estimated_often(name, TIMES), estimated_often(name, TIMES, by_blocks=False))
    )
    print(f"\nfalse alarms of {TIMES} by significance alone: {by_blocks} by blocks, {plain} by requests")
    assert plain >= 3 * max(by_blocks, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_prefill_slower_by_40_percent_is_seen(name: str, estimated_often: Often) -> None:
    times = 20
    found = [regressions(each) for each in estimated_often(name, times, 1.4)]
    seen = sum("ttft" in each for each in found)
    blamed = sum(bool(each & {"itl", "tpot"}) for each in found)
    print(f"\n{name}: +40 % prefill seen {seen} of {times} times, decoding blamed {blamed} times")
    # 97 % or more where requests vary for themselves, 80 % where they hang together: see the printed figures.
    assert seen >= (times - 1 if name.startswith("independent") else 0.8 * times)
    # At a rate of 5 %, 4 and more of 20 would come up once in 60 times.
    assert blamed <= 3


@pytest.mark.slow
def test_ten_percent_are_seen_where_noise_allows(estimated_often: Often) -> None:
    times = TIMES // 2
    seen = {
        name: sum("ttft" in regressions(found) for found in estimated_often(name, times, 1.1))
        for name in ("independent jitter of 8 %", "15 % wandering over 0.3 s")
    }
    print(f"\n+10 % prefill seen of {times} times: {seen}")
    assert seen["independent jitter of 8 %"] >= 0.7 * times
    assert seen["15 % wandering over 0.3 s"] < times  # it can't always, and must not pretend
