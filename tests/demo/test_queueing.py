"""The queueing model against arithmetic: it queues as the textbooks say, and its knobs do what they say."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capture.failures import BadInput
from replay.demo.build import Build
from replay.demo.queueing import (
    MS_NS,
    Int64,
    QueueFull,
    Start,
    Station,
    embed_end_ns,
    predict_end_ns,
    token_instants,
)

EXACT = Build(jitter_sigma=0.0)


@dataclasses.dataclass(frozen=True)
class Served:
    """One request's life in the model: the instant it got a slot, and the instants its work was due."""

    start_ns: int
    instants_ns: Int64

    @property
    def end_ns(self) -> int:
        """The instant that freed the slot."""
        return int(self.instants_ns[-1])


def simulate(
    station: Station, arrivals_ns: Sequence[int], serve: Callable[[int, Start], Int64]
) -> list[Served | None]:
    """Run arrivals (ascending, ns) through a station; per arrival what happened, None if it was refused.

    `serve(index, start)` gives the instants of arrival `index`'s work, at least one, the last frees the slot.
    """
    served: list[Served | None] = [None] * len(arrivals_ns)
    ends: list[tuple[int, int]] = []

    def begin(start: Start | None) -> None:
        if start is not None:
            life = Served(start.start_ns, serve(start.ticket, start))
            served[start.ticket] = life
            heapq.heappush(ends, (life.end_ns, start.ticket))

    def free_until(now_ns: float) -> None:
        while ends and ends[0][0] <= now_ns:
            end_ns, ticket = heapq.heappop(ends)
            begin(station.leave(ticket, end_ns))

    for index, now_ns in enumerate(arrivals_ns):
        free_until(now_ns)
        try:
            begin(station.arrive(index, now_ns))
        except QueueFull:
            continue
    free_until(math.inf)
    return served


def served_by(station: Station, arrivals_ns: list[int], services_ns: list[int]):
    return simulate(
        station, arrivals_ns, lambda index, start: np.array([start.start_ns + services_ns[index]])
    )


@pytest.mark.parametrize(
    ("slots", "arrivals", "service", "starts"),
    [
        (1, [0, 5, 10, 15], 10, [0, 10, 20, 30]),
        (1, [0, 5, 40, 41], 10, [0, 10, 40, 50]),
        (2, [0, 1, 2, 3], 10, [0, 1, 10, 11]),
        (4, [0, 0, 0, 0, 0], 7, [0, 0, 0, 0, 7]),
        (1, [0, 10, 20], 10, [0, 10, 20]),
    ],
)
def test_starts_by_hand(slots, arrivals, service, starts):
    lives = served_by(Station(slots), arrivals, [service] * len(arrivals))
    assert [life.start_ns for life in lives] == starts


gaps_and_services = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 200)), min_size=1, max_size=60)


@given(gaps_and_services, st.integers(1, 5))
def test_starts_follow_the_kiefer_wolfowitz_recursion(work, slots):
    arrivals = np.cumsum([gap for gap, _ in work]).tolist()
    services = [service for _, service in work]
    free = [0] * slots
    expected = []
    for arrival, service in zip(arrivals, services, strict=True):
        start = max(arrival, heapq.heappop(free))
        heapq.heappush(free, start + service)
        expected.append(start)
    assert [life.start_ns for life in served_by(Station(slots), arrivals, services)] == expected


@given(gaps_and_services, st.integers(1, 4))
def test_first_come_first_served_and_never_more_than_the_slots(work, slots):
    arrivals = np.cumsum([gap for gap, _ in work]).tolist()
    lives = served_by(Station(slots), arrivals, [service for _, service in work])
    starts = [life.start_ns for life in lives]
    assert starts == sorted(starts)
    for life in lives:
        assert sum(other.start_ns <= life.start_ns < other.end_ns for other in lives) <= slots


def poisson_ns(rng, rate_per_s, count):
    return np.cumsum(rng.exponential(1e9 / rate_per_s, count)).astype(np.int64).tolist()


def test_waits_of_one_slot_with_constant_service_are_pollaczek_khinchine():
    rng = np.random.default_rng(7)
    service_s, load = 0.01, 0.6
    arrivals = poisson_ns(rng, load / service_s, 60_000)
    lives = served_by(Station(1), arrivals, [int(service_s * 1e9)] * len(arrivals))
    mean_wait_s = np.mean([life.start_ns - at for life, at in zip(lives, arrivals, strict=True)]) / 1e9
    assert mean_wait_s == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.06)


def test_share_of_waiters_with_random_service_is_erlang_c():
    rng = np.random.default_rng(8)
    slots, mean_s, load = 4, 0.02, 0.7
    arrivals = poisson_ns(rng, load * slots / mean_s, 60_000)
    services = (rng.exponential(mean_s * 1e9, len(arrivals)).astype(np.int64) + 1).tolist()
    lives = served_by(Station(slots), arrivals, services)
    offered = load * slots
    queued = offered**slots / math.factorial(slots) / (1 - load)
    erlang_c = queued / (sum(offered**k / math.factorial(k) for k in range(slots)) + queued)
    waited = np.mean([life.start_ns > at for life, at in zip(lives, arrivals, strict=True)])
    assert waited == pytest.approx(erlang_c, rel=0.06)
    busy = sum(services) / (lives[-1].end_ns * slots)
    assert busy == pytest.approx(load, rel=0.03)


def test_overload_queues_without_bound():
    arrivals = list(range(0, 1000 * 5, 5))
    lives = served_by(Station(1), arrivals, [10] * 1000)
    assert lives[-1].start_ns - arrivals[-1] == 999 * 5


def test_a_full_queue_refuses_and_nobody_else_waits_longer():
    lives = served_by(Station(1, queue_limit=1), [0, 1, 2, 11], [10, 10, 10, 10])
    assert lives[2] is None
    assert [life.start_ns for life in lives if life] == [0, 10, 20]
    full = Station(1, queue_limit=0)
    full.arrive(1, 0)
    with pytest.raises(QueueFull):
        full.arrive(2, 0)


def test_a_late_leave_costs_nobody_time():
    station = Station(1)
    station.arrive(1, 0)
    assert station.arrive(2, 90) is None
    assert station.arrive(3, 130) is None
    assert station.leave(1, at_ns=100) == Start(2, 100, 1.0)
    assert station.leave(2, at_ns=110) == Start(3, 130, 1.0)


def test_whoever_gives_up_waiting_makes_room_and_starts_nobody():
    station = Station(1)
    station.arrive(1, 0)
    station.arrive(2, 1)
    station.arrive(3, 2)
    assert station.leave(2, 5) is None
    assert (station.running, station.waiting) == (1, 1)
    assert station.leave(1, 10) == Start(3, 10, 1.0)


def test_tokens_are_a_prefill_and_then_equal_steps():
    instants = token_instants(EXACT, np.random.default_rng(0), Start(0, 1000, 0.5), 200, 4)
    prefill = round((45 + 0.15 * 200) * MS_NS)
    assert instants.tolist() == [1000 + prefill + step * 16 * MS_NS for step in range(4)]


def test_steps_grow_with_occupancy_only_on_request():
    crowded = Start(0, 0, 1.0)
    steady = np.diff(token_instants(EXACT, np.random.default_rng(0), crowded, 10, 3))
    growing = Build(jitter_sigma=0.0, occupancy_growth=0.25)
    grown = np.diff(token_instants(growing, np.random.default_rng(0), crowded, 10, 3))
    assert steady.tolist() == [16 * MS_NS] * 2
    assert grown.tolist() == [20 * MS_NS] * 2


def test_scoring_takes_a_fixed_time_and_one_by_size():
    start, rng = Start(0, 5, 1.0), np.random.default_rng(0)
    assert embed_end_ns(EXACT, rng, start, 100) == 5 + 19 * MS_NS
    assert predict_end_ns(EXACT, rng, start, 10) == 5 + 15 * MS_NS


@pytest.mark.parametrize(
    ("start_ms", "work_ms", "end_ms"),
    [(0, 50, 50), (0, 100, 100), (0, 101, 131), (90, 20, 140), (110, 20, 150), (130, 20, 150)],
)
def test_no_work_is_done_in_a_stall(start_ms, work_ms, end_ms):
    build = Build(jitter_sigma=0, predict_ms=work_ms, predict_row_ms=0, stall_at_s=0.1, stall_for_s=0.03)
    end_ns = predict_end_ns(build, np.random.default_rng(0), Start(0, start_ms * MS_NS, 1.0), 1)
    assert end_ns == end_ms * MS_NS


def test_a_stall_makes_those_wait_who_come_in_it():
    build = Build(jitter_sigma=0, predict_ms=1, predict_row_ms=0, stall_at_s=0.1, stall_for_s=0.5)
    rng = np.random.default_rng(0)
    arrivals = [ms * MS_NS for ms in range(0, 1000, 10)]
    lives = simulate(Station(1), arrivals, lambda _, start: np.array([predict_end_ns(build, rng, start, 1)]))
    waits_ms = [(life.end_ns - at) // MS_NS for life, at in zip(lives, arrivals, strict=True)]
    assert max(waits_ms[:9]) == 1
    assert waits_ms[11] == 1 + 490 + 1  # came at 110 ms behind the one caught at 100 ms
    assert waits_ms[-1] == 1


def first_tokens_and_steps(build, rate_per_s=36, count=4000):
    arrivals = poisson_ns(np.random.default_rng(99), rate_per_s, count)
    sizes = np.random.default_rng(98).integers(40, 700, count).tolist()
    rng = np.random.default_rng(build.seed)
    lives = simulate(
        Station(build.chat_slots),
        arrivals,
        lambda index, start: token_instants(build, rng, start, sizes[index], 32),
    )
    ttft = np.array([life.instants_ns[0] - at for life, at in zip(lives, arrivals, strict=True)])
    steps = np.concatenate([np.diff(life.instants_ns) for life in lives])
    return ttft / MS_NS, steps / MS_NS


def test_two_builds_that_differ_only_in_seed_are_alike():
    ttft_a, steps_a = first_tokens_and_steps(Build(seed=1))
    ttft_b, steps_b = first_tokens_and_steps(Build(seed=2))
    assert not np.array_equal(ttft_a, ttft_b)
    assert stats.ks_2samp(ttft_a, ttft_b).pvalue > 0.01
    assert stats.ks_2samp(steps_a, steps_b).pvalue > 0.01


def test_a_build_with_slow_prefill_is_slow_by_that_factor_and_in_nothing_else():
    ttft_a, steps_a = first_tokens_and_steps(Build(seed=1))
    ttft_b, steps_b = first_tokens_and_steps(Build(seed=2, prefill_factor=1.4))
    assert ttft_b.mean() / ttft_a.mean() == pytest.approx(1.4, rel=0.01)
    assert steps_b.mean() / steps_a.mean() == pytest.approx(1.0, rel=0.003)


def test_the_defaults_leave_room_at_the_demo_s_peak_and_not_at_three_times_it():
    usual, _ = first_tokens_and_steps(Build())
    spike, _ = first_tokens_and_steps(Build(), rate_per_s=3 * 36)
    assert np.quantile(usual, 0.99) < 200
    assert np.quantile(spike, 0.5) > 5 * np.quantile(usual, 0.5)


def test_the_tail_slows_one_in_so_many_by_its_factor():
    build = Build(jitter_sigma=0, tail_every=20, tail_factor=4)
    rng = np.random.default_rng(3)
    ends = np.array([predict_end_ns(build, rng, Start(0, 0, 1.0), 10) for _ in range(20_000)])
    assert set(np.unique(ends)) == {15 * MS_NS, 60 * MS_NS}
    assert np.mean(ends > 15 * MS_NS) == pytest.approx(1 / 20, rel=0.1)


def test_jitter_changes_no_mean():
    build = Build(jitter_sigma=0.3)
    steps = np.diff(token_instants(build, np.random.default_rng(4), Start(0, 0, 1.0), 10, 50_000))
    assert steps.mean() == pytest.approx(16 * MS_NS, rel=0.01)
    assert np.log(steps).std() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("chat_slots", 0),
        ("prefill_factor", -1.0),
        ("decode_ms", math.nan),
        ("fault_rate", 1.5),
        ("queue_limit", -2),
    ],
)
def test_senseless_knobs_are_refused_by_name(knob, value):
    with pytest.raises(BadInput, match=knob.replace("_", "-")):
        Build(**{knob: value})
