"""The laws of the transformation: what stays true whatever the trace, the factor and the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.failures import BadInput
from replay.transform import steps
from replay.transform.plan import Plan, apply_plan
from replay.transform.schedule_format import PHASES, Schedule
from replay.transform.shapes import Ramp, Spike, lay_ramp, lay_spike

S = 1_000_000_000


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Base schedules of 1 to 60 requests, with sessions of several turns and requests of unknown end."""
    n = draw(st.integers(1, 60))
    gaps = draw(st.lists(st.integers(0, 5 * S), min_size=n, max_size=n))
    arrival = np.cumsum(np.array(gaps, np.int64))
    service = np.array(draw(st.lists(st.integers(-1, 3 * S), min_size=n, max_size=n)), np.int64)
    end = np.where(service >= 0, arrival + service, -1)
    session = np.array(draw(st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n)), np.int64)
    return steps.base_schedule(arrival, end, session)


seeds = st.integers(0, 2**32 - 1)
factors = st.floats(0.1, 20)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_sound(schedule: Schedule) -> None:
    """What holds of every schedule: order, nothing before zero, unique copies, whole and ordered sessions."""
    assert (np.diff(schedule.due_ns) >= 0).all()
    assert (schedule.due_ns >= 0).all()
    pairs = set(zip(schedule.row.tolist(), schedule.copy.tolist(), strict=True))
    assert len(pairs) == len(schedule)
    follows = schedule.after >= 0
    predecessor = schedule.after[follows]
    assert (schedule.session[predecessor] == schedule.session[follows]).all()
    assert (schedule.due_ns[predecessor] <= schedule.due_ns[follows]).all()
    assert (schedule.row[predecessor] < schedule.row[follows]).all()
    assert (schedule.think_ns >= 0).all()


@given(schedules())
def test_a_base_schedule_is_sound_and_starts_at_zero(schedule: Schedule) -> None:
    assert_sound(schedule)
    assert schedule.due_ns[0] == 0


@given(schedules(), st.floats(0.1, 10), st.floats(0.1, 10))
def test_speed_a_then_b_is_speed_ab(schedule: Schedule, a: float, b: float) -> None:
    twice = steps.speed(steps.speed(schedule, a), b)
    once = steps.speed(schedule, a * b)
    # Each rounding to whole ns may move an instant by half of one, the first one divided by b.
    assert np.abs(twice.due_ns - once.due_ns).max() <= 1 + 0.5 / b
    assert_sound(twice)


@given(schedules(), st.integers(1, 8), seeds, st.integers(0, 3 * S))
def test_a_whole_factor_clones_every_request_exactly_that_often(
    schedule: Schedule, factor: int, seed: int, jitter_ns: int
) -> None:
    larger = steps.amplify(schedule, factor, rng(seed), jitter_ns)
    assert len(larger) == factor * len(schedule)
    assert (np.bincount(larger.row) == factor).all()
    assert_sound(larger)


@given(schedules(), factors, seeds)
def test_amplify_clones_sessions_whole_and_keeps_their_inner_times(
    schedule: Schedule, factor: float, seed: int
) -> None:
    larger = steps.amplify(schedule, factor, rng(seed))
    assert_sound(larger)
    for session in np.unique(larger.session):
        mine = larger.session == session
        rows = np.sort(larger.row[mine])
        origin = schedule.session[rows[0]]
        np.testing.assert_array_equal(rows, np.flatnonzero(schedule.session == origin))
        shift = larger.due_ns[mine][np.argsort(larger.row[mine], kind="stable")] - schedule.due_ns[rows]
        assert np.ptp(shift) == 0


@given(schedules(), factors, seeds)
def test_the_same_seed_gives_the_same_schedule(schedule: Schedule, factor: float, seed: int) -> None:
    plan = Plan(speed=2, thin=0.9, amplify=factor, seed=seed)
    try:
        first = apply_plan(schedule, plan)
    except BadInput:  # thinned to nothing: then it must be so again
        with pytest.raises(BadInput):
            apply_plan(schedule, plan)
        return
    second = apply_plan(schedule, plan)
    for name in ("due_ns", "row", "copy", "session", "after", "think_ns", "phase"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@given(schedules(), st.floats(0.05, 1), seeds)
def test_thinning_keeps_or_drops_sessions_whole(schedule: Schedule, share: float, seed: int) -> None:
    thinned = steps.thin(schedule, share, rng(seed))
    assert_sound(thinned)
    kept = np.unique(schedule.session[thinned.row])
    np.testing.assert_array_equal(np.sort(thinned.row), np.flatnonzero(np.isin(schedule.session, kept)))


@given(schedules(), st.floats(0.1, 6), seeds, st.data())
def test_a_spike_changes_only_its_window_and_labels_the_phases(
    schedule: Schedule, x: float, seed: int, data: st.DataObject
) -> None:
    at = data.draw(st.sampled_from(schedule.due_ns.tolist()))
    spike = Spike(at, data.draw(st.integers(S, 20 * S)), x)
    laid = lay_spike(schedule, spike, rng(seed))
    assert_sound(laid)
    end = spike.at_ns + spike.for_ns
    outside = (schedule.due_ns < at) | (schedule.due_ns >= end)
    untouched = laid.copy == 0
    assert set(schedule.row[outside]) <= set(laid.row[untouched])
    assert np.isin(laid.row[laid.copy > 0], schedule.row[~outside]).all()
    inside = (laid.due_ns >= at) & (laid.due_ns < end)
    assert (laid.phase[inside] == PHASES.index("spike")).all()
    recovering = (laid.due_ns >= end) & (laid.due_ns < end + spike.for_ns)
    assert (laid.phase[recovering] == PHASES.index("recover")).all()
    assert (laid.phase[~inside & ~recovering] == PHASES.index("base")).all()


def test_the_rate_within_a_spike_is_x_times_as_high() -> None:
    arrivals = np.arange(6000, dtype=np.int64) * (S // 100)  # 100/s for a minute, one request a session
    schedule = steps.base_schedule(arrivals, np.full(6000, -1), np.arange(6000))
    laid = lay_spike(schedule, Spike(20 * S, 10 * S, 4), rng(1))
    per_s = np.bincount(laid.due_ns // S)
    assert per_s[20:30].sum() == 4000
    assert (per_s[:20] == 100).all()
    assert (per_s[30:] == 100).all()


def test_the_rate_along_a_ramp_grows_from_start_to_end() -> None:
    arrivals = np.arange(6000, dtype=np.int64) * (S // 100)
    schedule = steps.base_schedule(arrivals, np.full(6000, -1), np.arange(6000))
    laid = lay_ramp(schedule, Ramp(0, 60 * S, 1, 3), rng(1))
    per_s = np.bincount(laid.due_ns // S, minlength=60)
    # Expected 100·(1 + 2t/60); the count of a 10 s piece has a binomial spread of under 16.
    for start in range(0, 60, 10):
        expected = 1000 * (1 + 2 * (start + 5) / 60)
        assert abs(per_s[start : start + 10].sum() - expected) < 100
    assert (laid.phase == PHASES.index("ramp")).all()


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5, 2.4, 7.9])
def test_a_fractional_factor_holds_in_expectation(factor: float) -> None:
    n = 20_000
    schedule = steps.base_schedule(np.arange(n, dtype=np.int64) * 1000, np.full(n, -1), np.arange(n))
    fraction = factor % 1
    five_sigma = 5 * np.sqrt(n * fraction * (1 - fraction))
    assert abs(len(steps.amplify(schedule, factor, rng(3))) - factor * n) <= five_sigma


@given(schedules(), seeds)
def test_thin_then_amplify_by_the_inverse_keeps_the_count_within_its_error(
    schedule: Schedule, seed: int
) -> None:
    thinned = steps.thin(schedule, 0.5, rng(seed))
    if len(thinned):
        assert len(steps.amplify(thinned, 2, rng(seed))) == 2 * len(thinned)


def test_turns_that_overlapped_stay_on_the_clock() -> None:
    arrival, end = np.array([0, 5, 20], np.int64), np.array([10, 8, 30], np.int64)
    schedule = steps.base_schedule(arrival, end, np.zeros(3, np.int64))
    assert schedule.after.tolist() == [-1, -1, 1]
    assert schedule.think_ns.tolist() == [0, 0, 12]


def test_sessions_are_numbered_and_rows_without_one_are_alone() -> None:
    assert steps.number_sessions(["a", None, "b", "a", None]).tolist() == [0, 1, 2, 0, 3]


def test_a_slice_is_rebased_and_an_empty_one_says_what_there_is() -> None:
    schedule = steps.base_schedule(np.array([0, 5, 9], np.int64) * S, np.full(3, -1), np.arange(3))
    assert steps.cut_out(schedule, 4 * S, 9 * S).due_ns.tolist() == [1 * S]
    with pytest.raises(BadInput, match="no request between 10s and 20s; the schedule spans 0s to 9s"):
        steps.cut_out(schedule, 10 * S, 20 * S)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Plan(speed=-5), "--speed: -5 found, a number above 0 wanted"),
        (lambda: Plan(speed=float("nan")), "--speed: nan found"),
        (lambda: Plan(amplify=0), "--amplify: 0 found"),
        (lambda: Plan(thin=0), "--thin: 0 found"),
        (lambda: Plan(seed=-1), "--seed: -1 found"),
        (lambda: Spike.parse("at=1s,x=4"), "lacks for"),
        (lambda: Spike.parse("at=1s,for=0,x=4"), "--spike for: 0 found, more than 0 wanted"),
        (lambda: Spike.parse("at=1,for=2s,x=4"), "a duration such as 30s"),
        (lambda: Spike.parse("at=1s,for=2s,x=4,x=5"), "'x=5' found"),
        (lambda: Ramp.parse("at=1s,for=2s,from=-1,to=2"), "--ramp from: -1 found"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(build: object, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        build()  # type: ignore[operator]
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_spike_outside_the_schedule_is_refused() -> None:
    schedule = steps.base_schedule(np.array([0, S], np.int64), np.full(2, -1), np.arange(2))
    with pytest.raises(BadInput, match=r"no request is due in its window; the schedule spans 0s to 1s"):
        lay_spike(schedule, Spike(10 * S, S, 2), rng(0))
