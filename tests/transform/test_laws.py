"""The laws of the transformation: what stays true whatever the trace, the factor and the seed."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from replay.transform import draws
from replay.transform.amplification.methods import ShiftedClones
from replay.transform.amplification.shifts import Shifts
from replay.transform.ground import Ground
from replay.transform.linking import TurnLinker
from replay.transform.moments import Share
from replay.transform.pipeline import schedule_rows, stream
from replay.transform.plan import Plan, apply_plan
from replay.transform.rows import Rows, base_rows
from replay.transform.schedule_format import SCHEDULE_SCHEMA, Schedule
from replay.transform.sessions import hash_names, number_sessions
from replay.transform.shapes import Ramp, Spike, Stairs, Wave
from replay.transform.steps import Slice, Speed, Thin

S = 1_000_000_000


@st.composite
def traces(draw: st.DrawFn) -> Rows:
    """Traces of 1 to 60 requests, with sessions of several turns and requests of unknown end."""
    n = draw(st.integers(1, 60))
    gaps = draw(st.lists(st.integers(0, 5 * S), min_size=n, max_size=n))
    arrival = np.cumsum(np.array(gaps, np.int64))
    service = np.array(draw(st.lists(st.integers(-1, 3 * S), min_size=n, max_size=n)), np.int64)
    end = np.where(service >= 0, arrival + service, -1)
    session = np.array(draw(st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n)), np.int64)
    return base_rows(arrival, end, session)


law = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
factors = st.floats(0.1, 20)


def key(seed: int) -> np.uint64:
    return draws.key_of(np.random.default_rng(seed))


def jittered(factor: float, by: np.uint64, jitter_ns: int = S) -> ShiftedClones:
    """Amplified by clones shifted evenly by up to ± the jitter, in a time without end."""
    return ShiftedClones(factor, by, Shifts((jitter_ns,), (1.0,), uniform=True), span_ns=1 << 60)


def assert_equal(a: Schedule, b: Schedule) -> None:
    for name in SCHEDULE_SCHEMA.names:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


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


@law
@given(traces())
def test_a_base_schedule_is_sound_and_starts_at_zero(rows: Rows) -> None:
    schedule = schedule_rows(rows)
    assert_sound(schedule)
    assert schedule.due_ns[0] == 0


@law
@given(traces(), st.floats(0.1, 10), st.floats(0.1, 10))
def test_speed_a_then_b_is_speed_ab(rows: Rows, a: float, b: float) -> None:
    twice = schedule_rows(rows, [Speed(a), Speed(b)])
    once = schedule_rows(rows, [Speed(a * b)])
    # Each rounding to whole ns may move an instant by half of one, the first one divided by b.
    assert np.abs(twice.due_ns - once.due_ns).max() <= 1 + 0.5 / b
    assert_sound(twice)


@law
@given(traces(), st.integers(1, 8), seeds, st.integers(0, 3 * S))
def test_a_whole_factor_clones_every_request_exactly_that_often(
    rows: Rows, factor: int, seed: int, jitter_ns: int
) -> None:
    larger = schedule_rows(rows, [jittered(factor, key(seed), jitter_ns)])
    assert len(larger) == factor * len(rows)
    assert (np.bincount(larger.row) == factor).all()
    assert_sound(larger)


@law
@given(traces(), factors, seeds)
def test_amplify_clones_sessions_whole_and_keeps_their_inner_times(
    rows: Rows, factor: float, seed: int
) -> None:
    step = jittered(factor, key(seed))
    if not len(step.apply(rows)):
        return
    larger = schedule_rows(rows, [step])
    assert_sound(larger)
    base = schedule_rows(rows)
    for session in np.unique(larger.session):
        mine = larger.session == session
        order = np.argsort(larger.row[mine], kind="stable")
        copied = larger.row[mine][order]
        np.testing.assert_array_equal(copied, np.flatnonzero(base.session == base.session[copied[0]]))
        assert np.ptp(larger.due_ns[mine][order] - base.due_ns[copied]) == 0
        assert len(np.unique(larger.copy[mine])) == 1
        followed = np.where(larger.after[mine] >= 0, larger.row[larger.after[mine]], -1)
        np.testing.assert_array_equal(followed[order], rows.follows[copied])
        np.testing.assert_array_equal(larger.think_ns[mine][order], rows.think_ns[copied])


plans = st.builds(
    Plan,
    speed=st.sampled_from([0.5, 1.0, 2.0]),
    thin=st.sampled_from([0.7, 1.0]),
    amplify=factors,
    jitter_ns=st.integers(0, 20 * S),
    shapes=st.sampled_from(
        [
            (),
            (Ramp(0, 60 * S, 0.5, 3), Spike(0, 10 * S, 4, name="launch")),
            (Spike(0, 30 * S, 0.4), Spike(0, S, 2.5, form="decay")),
            (Stairs(start_x=0.5, end_x=3, steps=4), Wave(period=Share(0.5), low=0.2, high=2)),
        ]
    ),
    seed=seeds,
)


@law
@given(traces(), plans)
def test_the_same_seed_gives_the_same_schedule(rows: Rows, plan: Plan) -> None:
    try:
        first = apply_plan(rows, plan)
    except BadInput:  # thinned to nothing: then it must be so again
        with pytest.raises(BadInput):
            apply_plan(rows, plan)
        return
    assert_equal(first, apply_plan(rows, plan))


@law
@given(traces(), plans, st.lists(st.integers(0, 60), max_size=6))
def test_batch_borders_change_nothing(rows: Rows, plan: Plan, cuts: list[int]) -> None:
    try:
        whole = apply_plan(rows, plan)
    except BadInput as refused:
        with pytest.raises(BadInput, match=re.escape(str(refused))):
            list(stream(batches(rows, cuts), plan.bound(Ground(rows=rows)), followed(rows)))
        return
    pieces = list(stream(batches(rows, cuts), plan.bound(Ground(rows=rows)), followed(rows)))
    assert_equal(Schedule.joined(pieces), whole)


def batches(rows: Rows, cuts: list[int]) -> list[Rows]:
    borders = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return [rows.take(np.arange(a, b)) for a, b in itertools.pairwise(borders)]


def followed(rows: Rows) -> np.ndarray:
    return np.isin(np.arange(len(rows)), rows.follows)


@law
@given(traces(), st.floats(0.05, 1), seeds)
def test_thinning_keeps_or_drops_sessions_whole(rows: Rows, share: float, seed: int) -> None:
    kept = Thin(share, key(seed)).apply(rows)
    sessions = np.unique(rows.session[kept.row])
    np.testing.assert_array_equal(np.sort(kept.row), np.flatnonzero(np.isin(rows.session, sessions)))
    if len(kept):
        assert_sound(schedule_rows(kept))


def lone(n: int, gap_ns: int) -> Rows:
    """`n` requests without a session, one every `gap_ns`."""
    row = np.arange(n, dtype=np.int64)
    return base_rows(row * gap_ns, np.full(n, -1), draws.lone_session(row))


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5, 2.4, 7.9])
def test_a_fractional_factor_holds_in_expectation(factor: float) -> None:
    n = 20_000
    fraction = factor % 1
    five_sigma = 5 * np.sqrt(n * fraction * (1 - fraction))
    assert abs(len(jittered(factor, key(3)).apply(lone(n, 1000))) - factor * n) <= five_sigma


@law
@given(traces(), seeds)
def test_thin_then_amplify_by_the_inverse_keeps_the_count_within_its_error(rows: Rows, seed: int) -> None:
    thinned = Thin(0.5, key(seed)).apply(rows)
    assert len(jittered(2, key(seed + 1)).apply(thinned)) == 2 * len(thinned)


def test_clones_near_zero_are_mirrored_there_and_not_piled_up() -> None:
    """Uniform arrivals and uniform shifts: as many in the first half second as in any other."""
    larger = schedule_rows(lone(20_000, S // 2000), [jittered(5, key(5), S)])
    per_half_s = np.bincount(larger.due_ns // (S // 2))[:-4]
    assert np.abs(per_half_s - 5000).max() < 5 * np.sqrt(5000)


def test_equal_timestamps_throughout_are_spread_by_the_jitter_alone() -> None:
    rows = lone(500, 0)
    assert (schedule_rows(rows).due_ns == 0).all()
    larger = schedule_rows(rows, [jittered(3, key(2), S)])
    assert_sound(larger)
    assert (np.sort(larger.row) == np.repeat(np.arange(500), 3)).all()
    assert len(np.unique(larger.due_ns)) > 990


def test_a_trace_of_one_request_can_be_amplified() -> None:
    larger = schedule_rows(lone(1, S), [jittered(7.0, key(2), S)])
    assert_sound(larger)
    assert sorted(larger.copy.tolist()) == list(range(7))
    assert larger.due_ns.max() <= S


def test_too_many_requests_within_the_jitter_are_refused_in_one_line() -> None:
    rows = lone(1000, 0)
    with pytest.raises(BadInput, match=r"more than 900 requests lie within one spread .* shorten --jitter"):
        list(stream([rows, rows], [jittered(2, key(2), S)], None, most_waiting=900))


def test_draws_are_uniform_and_independent_between_keys_sessions_and_copies() -> None:
    session = np.arange(50_000, dtype=np.int64)
    drawn = [draws.uniform(key(seed), session, copy) for seed in (1, 2) for copy in (0, 1, 2)]
    for at, one in enumerate(drawn):
        assert one.min() >= 0
        assert one.max() < 1
        assert abs(one.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(one))
        for other in drawn[:at]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(len(one))
    assert abs(np.corrcoef(drawn[0][1:], drawn[0][:-1])[0, 1]) < 5 / np.sqrt(len(session))
    np.testing.assert_array_equal(drawn[2], draws.uniform(key(1), session, np.full(len(session), 2)))


@law
@given(st.lists(st.text(max_size=40), min_size=1, max_size=30))
def test_names_are_hashed_alike_wherever_they_stand(names: list[str]) -> None:
    hashed = hash_names(pa.array(names, pa.string()))
    assert (hashed >= 0).all()
    assert len(set(hashed.tolist())) == len(set(names))
    assert hash_names(pa.array(names[:1]))[0] == hashed[0]
    sliced = pa.array(["another", *names]).slice(1)
    np.testing.assert_array_equal(hash_names(sliced), hashed)


def test_turns_that_overlapped_stay_on_the_clock() -> None:
    arrival, end = np.array([0, 5, 20], np.int64), np.array([10, 8, 30], np.int64)
    schedule = schedule_rows(base_rows(arrival, end, np.zeros(3, np.int64)))
    assert schedule.after.tolist() == [-1, -1, 1]
    assert schedule.think_ns.tolist() == [0, 0, 12]


def test_sessions_are_numbered_and_rows_without_one_are_alone() -> None:
    numbers = number_sessions(pa.array(["a", None, "b", "a", None]))
    assert numbers[0] == numbers[3]
    assert len(set(numbers.tolist())) == 4
    later = number_sessions(pa.array([None, "b"]), first_row=4)
    assert later.tolist() == [numbers[4], numbers[2]]


def test_a_turn_beyond_the_look_back_is_on_the_clock_whatever_the_batches() -> None:
    session = np.array([7, 1, 7, 2, 3, 4, 7, 7], np.int64)
    row = np.arange(8, dtype=np.int64)
    for cuts in ([8], [1, 8], [3, 5, 8], [1, 2, 3, 4, 5, 6, 7, 8]):
        linker, follows = TurnLinker(look_back_rows=3), []
        for a, b in zip([0, *cuts], cuts, strict=False):
            linked = linker.link(session[a:b], row[a:b], row[a:b] * S, row[a:b] * S)
            follows += linked.follows.tolist()
        assert follows == [-1, -1, 0, -1, -1, -1, -1, 6]


def test_a_slice_is_rebased_and_an_empty_one_says_what_there_is() -> None:
    rows = base_rows(np.array([0, 5, 9], np.int64) * S, np.full(3, -1), np.arange(3))
    assert schedule_rows(rows, [Slice(4 * S, 9 * S)]).due_ns.tolist() == [1 * S]
    with pytest.raises(BadInput, match="no request between 10s and 20s; the schedule spans 0s to 9s"):
        schedule_rows(rows, [Slice(10 * S, 20 * S)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Plan(speed=-5), "--speed: -5 found, a number above 0 wanted"),
        (lambda: Plan(speed=float("nan")), "--speed: nan found"),
        (lambda: Plan(amplify=0), "--amplify: 0 found"),
        (lambda: Plan(thin=0), "--thin: 0 found"),
        (lambda: Plan(seed=-1), "--seed: -1 found"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(build: object, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        build()  # type: ignore[operator]
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
