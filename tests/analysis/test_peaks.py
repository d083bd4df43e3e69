"""Peaks: a queue whose drain time is known is found to take it, and nothing is found where nothing is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import CHAT, EMBED, MS, MadeRun, S

from replay.analysis.metrics import Latencies
from replay.analysis.phases import InFlight
from replay.analysis.settling import FEWEST_WINDOWS, band_of
from replay.analysis.slo import evaluate, parse_objectives
from replay.analysis.summary import summarise
from replay.analysis.values import Peak, Settled

SERVE_S = 0.01
BASE_PER_S, SPIKE_PER_S = 50.0, 200.0


def queued(
    spike_s: float = 4.0,
    after_s: float = 16.0,
    per_s: float = SPIKE_PER_S,
    seed: int = 1,
    names: str = "spike",
) -> MadeRun:
    """One server at 100/s, first come first served: 10 s of base, a spike, and base again."""
    rng = np.random.default_rng(seed)
    spans = ((0.0, 10.0, BASE_PER_S), (10.0, spike_s, per_s), (10.0 + spike_s, after_s, BASE_PER_S))
    due_s = np.sort(
        np.concatenate([rng.uniform(at, at + length, round(length * rate)) for at, length, rate in spans])
    )
    end_s, free_s = np.empty(len(due_s)), 0.0
    for i, due in enumerate(due_s):
        free_s = end_s[i] = max(due, free_s) + SERVE_S
    inside = (due_s >= 10.0) & (due_s < 10.0 + spike_s)
    return MadeRun(
        due_ns=due_s * S, e2e_ns=(end_s - due_s) * S, phase=[names if i else "base" for i in inside]
    )


def only_peak(made: MadeRun) -> Peak:
    (peak,) = summarise(made.run()).peaks
    return peak


@pytest.mark.parametrize("spike_s", [2.0, 4.0, 6.0])
def test_the_time_to_recover_is_the_queues_drain_time(spike_s: float) -> None:
    # (λ' − μ)·T requests wait at the spike's end, and drain at μ − λ a second.
    drain_s = (SPIKE_PER_S - 100.0) * spike_s / (100.0 - BASE_PER_S)
    found = [only_peak(queued(spike_s, drain_s + 8.0, seed=seed)) for seed in range(9)]
    for recoveries in ([peak.latency for peak in found], [peak.backlog for peak in found]):
        assert {recovery.settled for recovery in recoveries} == {Settled.RECOVERED}
        times_s = [recovery.after_s for recovery in recoveries]
        assert np.median(times_s) == pytest.approx(drain_s, abs=recoveries[0].window_s)
        assert times_s == pytest.approx([drain_s] * 9, abs=6 * recoveries[0].window_s)
    for peak in found:
        assert peak.growth_per_s == pytest.approx(SPIKE_PER_S - 100.0, rel=0.2)
        assert peak.in_flight_max == pytest.approx(100.0 * spike_s, rel=0.2)
        assert 10.0 <= peak.latency.left_at_s < 11.0
        assert peak.in_flight_max_at_s == pytest.approx(10.0 + spike_s, abs=0.5)


def test_a_watch_that_ends_too_early_says_not_recovered() -> None:
    peak = only_peak(queued(after_s=4.0))
    assert peak.latency.settled is peak.backlog.settled is Settled.NOT_YET
    assert np.isnan(peak.latency.after_s)


def test_a_run_that_ends_with_its_peak_says_that_it_was_not_watched() -> None:
    found = only_peak(queued(after_s=0.5)).latency
    assert found.settled is Settled.UNKNOWN
    assert found.why.startswith("watched for ")


@pytest.mark.parametrize("seed", range(6))
def test_a_peak_that_is_served_as_well_as_base_holds(seed: int) -> None:
    made = queued(per_s=80.0, seed=seed)
    peak = only_peak(
        dataclasses.replace(made, e2e_ns=np.random.default_rng(seed).lognormal(16, 0.3, len(made.due_ns)))
    )
    assert (peak.latency.settled, peak.latency.after_s) == (Settled.HELD, 0.0)
    assert np.isnan(peak.latency.left_at_s)


def test_a_long_run_of_noise_leaves_nothing_by_chance() -> None:
    """Six peaks in an hour, answered as in base: in so many windows, some are slow by chance."""
    rng = np.random.default_rng(0)
    due_s = rng.uniform(0, 3600, 60_000)
    inside = (due_s // 60) % 10 == 5
    kept = inside | (rng.random(len(due_s)) < 0.2)
    made = MadeRun(
        due_ns=np.sort(due_s[kept]) * S,
        e2e_ns=rng.lognormal(18, 1, int(kept.sum())),
        phase=np.where(inside[kept][np.argsort(due_s[kept])], "spike", "base").tolist(),
    )
    assert [peak.latency.settled for peak in summarise(made.run()).peaks] == [Settled.HELD] * 6


def test_failures_keep_a_service_from_having_recovered() -> None:
    made = queued(per_s=80.0)
    due_s = made.due_ns / S
    broken = (due_s > 12) & (due_s < 19)
    status = np.where(broken & (np.arange(len(due_s)) % 4 == 0), 503, 200)
    peak = only_peak(dataclasses.replace(made, e2e_ns=np.full(len(due_s), 5.0 * MS), status=status))
    assert peak.latency.settled is Settled.RECOVERED
    assert peak.latency.after_s == pytest.approx(5.0, abs=2 * peak.latency.window_s)
    assert np.isinf(peak.latency.worst)
    assert 0 < peak.shed == peak.failed


def test_a_mix_of_slow_and_quick_endpoints_is_one_series() -> None:
    """Each request is a multiple of its own kind's usual time: another mix in the spike is no slower."""
    made = queued(per_s=80.0)
    spike = np.array([name == "spike" for name in made.phase or []])
    slow = np.where(spike, np.arange(len(spike)) % 10 > 0, np.arange(len(spike)) % 10 == 0)
    jitter = np.random.default_rng(3).lognormal(0, 0.1, len(spike))
    made = dataclasses.replace(
        made,
        e2e_ns=np.where(slow, 900 * MS, 3 * MS) * jitter,
        endpoint=[CHAT if is_slow else EMBED for is_slow in slow],
    )
    assert only_peak(made).latency.settled is Settled.HELD


def test_stretches_that_touch_are_one_peak_and_a_quieter_phase_is_none() -> None:
    made = queued()
    due_s = made.due_ns / S
    names = np.select(
        [due_s < 3, due_s < 10, due_s < 12, due_s < 14, due_s < 20],
        ["base", "base", "ramp", "surge", "sale-recover"],
        "base",
    )
    found = summarise(dataclasses.replace(made, phase=names.tolist()).run())
    assert [peak.phase for peak in found.peaks] == ["ramp, surge"]
    assert [phase.phase for phase in found.phases] == ["base", "ramp", "surge", "sale-recover"]
    quiet = summarise(queued(per_s=30.0, names="night").run())
    assert quiet.peaks == ()
    assert len(quiet.phases) == 2


def test_a_base_that_is_too_short_is_said() -> None:
    made = queued()
    few = (made.due_ns > 9.5 * S) & (made.due_ns < 26 * S)
    run = MadeRun(
        due_ns=made.due_ns[few],
        e2e_ns=made.e2e_ns[few],
        phase=["spike" if 10 * S <= due < 24 * S else "base" for due in made.due_ns[few]],
    )
    found = only_peak(run).latency
    assert found.settled is Settled.UNKNOWN
    assert "8 wanted" in found.why


def test_phases_conserve_requests_and_share_out_objectives() -> None:
    made = queued()
    status = np.where(np.arange(len(made.due_ns)) % 50 == 0, 429, 200)
    found = summarise(
        dataclasses.replace(made, status=status).run(), parse_objectives("e2e:p90=50ms,shed_rate=5%")
    )
    base, spike = found.phases
    assert base.scheduled + spike.scheduled == found.scheduled
    assert base.shed[429] + spike.shed[429] == np.sum(status == 429)
    assert spike.offered_per_s == pytest.approx(SPIKE_PER_S, rel=0.02)
    assert spike.answered_per_s == pytest.approx(98.0, rel=0.1)  # what one server can, less those it shed
    met = {result.objective.metric: result for result in spike.objectives}
    assert not met["e2e"].met
    assert met["shed_rate"].met
    good = sum(phase.goodput_per_s * phase.length_s for phase in found.phases)
    assert good == pytest.approx(found.goodput_per_s * found.duration_s)


def test_shed_load_says_when_it_was_asked_to_come_back() -> None:
    rng = np.random.default_rng(3)
    n = 900
    phase = rng.choice(["base", "spike", "recover"], n).tolist()
    status = np.where(np.isin(phase, ["spike", "recover"]), rng.choice([200, 429, 503], n), 200)
    asked_s = np.where((rng.random(n) < 0.7) & (np.array(phase) == "spike"), rng.integers(0, 9, n), np.nan)
    made = MadeRun(
        np.arange(n) * 10.0 * MS, np.full(n, 5.0 * MS), phase=phase, status=status, retry_after_s=asked_s
    )
    summary = summarise(made.run())
    found = {one.phase: one for one in summary.phases}
    told_s = asked_s[(status != 200) & ~np.isnan(asked_s)]
    asked = found["spike"].retry_after
    assert asked is not None
    assert (asked.given, asked.max_s) == (len(told_s), told_s.max())
    assert np.mean(told_s <= asked.p50_s) >= 0.5 > np.mean(told_s < asked.p50_s)
    assert (found["base"].retry_after, found["recover"].retry_after) == (None, None)
    assert summary.retry_after == asked  # one that was answered well is not asked to come back
    assert summary.shed == {code: int(np.sum(status == code)) for code in (429, 503)}


def test_the_burn_rate_is_what_missed_over_what_may_miss() -> None:
    made = MadeRun(due_ns=np.arange(100) * 10.0 * MS, e2e_ns=np.full(100, 1.0 * MS))
    made = dataclasses.replace(made, status=np.where(np.arange(100) < 5, 500, 200))
    rate, quantile, none = evaluate(
        Latencies(made.run()), parse_objectives("error_rate=1%,e2e:p99=1s,e2e:p100=1s")
    )
    assert (rate.burn, quantile.burn, none.burn) == (pytest.approx(5.0), pytest.approx(5.0), np.inf)


def test_recovery_is_an_objective() -> None:
    made = queued()
    drained = summarise(made.run(), parse_objectives("recovery=30s")).objectives[0]
    assert drained.met
    assert drained.found == pytest.approx(8 * S, rel=0.3)
    assert not summarise(made.run(), parse_objectives("recovery=1s")).objectives[0].met
    never = summarise(queued(after_s=4.0).run(), parse_objectives("recovery=30s")).objectives[0]
    assert (never.met, never.found) == (False, np.inf)
    without = summarise(
        MadeRun(due_ns=made.due_ns, e2e_ns=made.e2e_ns).run(), parse_objectives("recovery=1s")
    )
    assert (without.objectives[0].met, without.objectives[0].requests) == (False, 0)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_requests_in_flight_are_counted_as_by_hand(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    due = rng.integers(0, 50, n) * 1.0 * S
    made = MadeRun(due_ns=due, e2e_ns=rng.integers(1, 9, n) * 1.0 * S)
    found = InFlight(made.run())
    edges = np.arange(0.0, 62.0, 2.0)
    by_hand = [np.sum((due <= at * S) & (due + made.e2e_ns > at * S)) for at in range(61)]
    assert [found.at(float(at)) for at in range(61)] == by_hand
    means = [(by_hand[i] + by_hand[i + 1]) / 2 for i in range(0, 60, 2)]  # it changes on whole seconds only
    assert found.means(edges) == pytest.approx(means)
    most, at_s = found.largest(0.0, 61.0)
    assert most == max(by_hand)
    assert by_hand[round(at_s)] == most


def test_a_band_wants_windows_and_is_not_widened_by_one_of_them() -> None:
    quiet = np.full(FEWEST_WINDOWS, 1.0)
    assert isinstance(band_of(quiet[1:]), str)
    odd = np.append(quiet, [40.0, np.inf, np.nan])
    found = band_of(odd)
    assert not isinstance(found, str)
    assert (found.base, found.top) == (1.0, pytest.approx(1.05))
