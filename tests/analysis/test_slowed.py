"""Requests that take half as long again: a tail's regression is seen, chance and a single stall are not."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import MS, MadeRun

from replay.analysis.change_values import TailChange
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import pair
from replay.analysis.run_table import RunTable
from replay.analysis.slowed import detectable_share, tail_changes
from replay.analysis.values import Verdict
from replay.analysis.verdicts import CHOSEN_BLOCKS, PLANNED_POWER

N = 2000


def run(seed: int, slower: np.ndarray | float = 1.0, jitter: float = 0.1, base_ms: float = 100.0) -> RunTable:
    noise = np.random.default_rng(seed).lognormal(0, jitter, N)
    return MadeRun(due_ns=np.arange(N) * 20.0 * MS, e2e_ns=base_ms * MS * noise * slower).run()


def change(before: RunTable, after: RunTable, noise: tuple[TailChange, ...] = ()) -> TailChange:
    pairs = pair(before, after)
    rng = np.random.default_rng(1)
    latencies = Latencies(before), Latencies(after)
    (found,) = tail_changes(pairs, *latencies, resamples=400, rng=rng, noise=noise)
    return found


def spread(share: float, factor: float = 3.0) -> np.ndarray:
    return np.where(np.random.default_rng(2).random(N) < share, factor, 1.0)


def test_one_request_in_fifty_slowed_three_times_is_seen() -> None:
    found = change(run(1), run(2, spread(0.02)))
    assert found.verdict is Verdict.REGRESSION
    assert found.low_ratio < 0.02 < found.high_ratio
    back = change(run(2, spread(0.02)), run(1))
    assert back.verdict is Verdict.IMPROVED
    assert back.net_ratio == -found.net_ratio


def test_what_was_said_to_be_visible_is_below_what_is_seen() -> None:
    beforehand = change(run(1, jitter=0.06), run(3, jitter=0.06))
    assert 0.005 < beforehand.minimum_detectable_ratio < 0.02
    assert beforehand.verdict is Verdict.EQUIVALENT


def test_noise_that_doubles_and_halves_alike_is_no_regression() -> None:
    found = change(run(1, jitter=0.5), run(2, jitter=0.5))
    assert found.slower > 200 < found.faster
    assert found.verdict is not Verdict.REGRESSION


def test_a_single_stall_is_one_event_and_no_build() -> None:
    stall = np.ones(N)
    stall[1000:1060] = 5.0
    found = change(run(1), run(2, stall))
    assert found.net_ratio == pytest.approx(0.03, abs=0.002)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_what_one_build_does_to_itself_is_not_believed_of_another() -> None:
    aa = change(run(1), run(3, spread(0.03)))
    assert change(run(1), run(2, spread(0.02)), (aa,)).verdict is not Verdict.REGRESSION


def test_milliseconds_are_not_told_apart() -> None:
    found = change(run(1, base_ms=1.0), run(2, 1.9, base_ms=1.0))
    assert (found.slower, found.faster, found.verdict) == (0, 0, Verdict.EQUIVALENT)


def test_what_hangs_together_in_one_endpoint_widens_the_interval_of_the_other() -> None:
    """A server that is slow for seconds is so for all, also where few requests and their noise hide it."""
    swing = np.repeat(np.random.default_rng(4).choice((1 / 1.7, 1.7), N // 100), 100)
    rare = np.arange(N) % 20 == 0
    noisy = np.random.default_rng(5).lognormal(0, 1.0, N)

    def width(often: np.ndarray) -> float:
        arms = [
            MadeRun(
                due_ns=np.arange(N) * 20.0 * MS,
                e2e_ns=100.0 * MS * slower,
                endpoint=["POST /rare" if each else "POST /often" for each in rare],
            ).run()
            for slower in (np.ones(N), np.where(rare, swing * noisy, often))
        ]
        latencies = Latencies(arms[0]), Latencies(arms[1])
        found = tail_changes(pair(*arms), *latencies, resamples=400, rng=np.random.default_rng(1))
        (one,) = [change for change in found if change.group.name == "POST /rare"]
        return one.high_ratio - one.low_ratio

    calm = np.random.default_rng(6).lognormal(0, 0.6, N)
    assert width(swing) > 1.2 * width(calm)


@pytest.mark.parametrize(("deviation", "margin"), [(0.001, 0.005), (0.004, 0.005), (0.004, 0.02)])
def test_a_share_that_was_said_to_be_visible_is_seen_four_times_in_five(
    deviation: float, margin: float
) -> None:
    """Simulated as it happens: one diff's standard error says what is visible, another diff judges it."""
    rng, pairs, freedom, critical, times = np.random.default_rng(3), 2000, 24.0, 3.6, 20_000
    left = CHOSEN_BLOCKS * freedom
    known, later = (np.sqrt(rng.chisquare(left, times) / left) for _ in range(2))
    grid = np.linspace(known.min(), known.max(), 30)
    promised = [detectable_share(pairs, deviation * each, freedom, critical, margin) for each in grid]
    visible = np.interp(known, grid, promised)
    error = np.sqrt(deviation**2 + visible / pairs)
    seen = visible + error * rng.normal(size=times) > np.maximum(margin, critical * later * error)
    assert 0.8 < np.mean(seen) == pytest.approx(PLANNED_POWER, abs=0.03)
