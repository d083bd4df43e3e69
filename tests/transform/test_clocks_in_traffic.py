"""Traffic that keeps to a clock: it is found, never where there is none, and clones keep to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.transform import draws
from replay.transform.amplification.amplify import Amplify
from replay.transform.amplification.clock import Clock
from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.settling import settled
from replay.transform.amplification.spectrum import measured
from replay.transform.burst_curve import dispersion_curve, envelope
from replay.transform.rows import Rows, Step
from tests.transform.made_arrivals import S, bursty, rows_at, smooth

Int64 = npt.NDArray[np.int64]

SPAN_S = 3600


def on_the_clock(
    period_s: float, batch: float, users: float, rng: np.random.Generator, base: float = 3
) -> Int64:
    """Poisson instants, `base`/s per user, and a batch within the first second of each period, in ns."""
    lone = rng.integers(0, SPAN_S * S, rng.poisson(2 * users * SPAN_S))
    begins = np.arange(0, SPAN_S, period_s)
    whose = np.repeat(begins, rng.poisson(batch * users, len(begins)))
    at_s = whose + 0.21 + rng.random(len(whose))
    return np.sort(np.concatenate([[0], lone, (at_s[at_s < SPAN_S] * S).astype(np.int64)]))


def lone(due_ns: Int64) -> Rows:
    return rows_at(due_ns, np.arange(len(due_ns)))


def clock_of(rows: Rows) -> Clock | None:
    return measured(rows.due_ns, rows.session, int(rows.due_ns.max())).clock


def step_for(rows: Rows, factor: float, seed: int = 1) -> Step:
    key = draws.key_of(np.random.default_rng(seed))
    (step,) = settled([Amplify(factor, key)], lambda: [rows], int(rows.due_ns.max()), len(rows))
    return step


@pytest.mark.parametrize(
    ("periods_s", "batch", "longest_s"),
    [((60,), 40, 60), ((10,), 12, 10), ((60, 90), 40, 180), ((7.3,), 15, 7.3)],
)
def test_a_clock_is_found_with_the_longest_period_that_all_batches_share(
    periods_s: tuple[float, ...], batch: float, longest_s: float
) -> None:
    rng = np.random.default_rng(1)
    due_ns = np.concatenate([on_the_clock(period_s, batch, 1, rng) for period_s in periods_s])
    clock = clock_of(lone(due_ns))
    assert clock is not None
    assert clock.period_ns / S == pytest.approx(longest_s, abs=0.01)
    again = clock_of(lone(np.sort(np.random.default_rng(2).choice(due_ns, len(due_ns) // 4, replace=False))))
    assert again is not None, "of a quarter of the requests, too"
    assert again.period_ns / S == pytest.approx(longest_s, abs=0.02)


def gamma_gaps(cv: float, rng: np.random.Generator) -> Rows:
    gaps = rng.gamma(1 / cv**2, cv**2 / 5, 4 * SPAN_S)
    return lone((np.cumsum(gaps) * S).astype(np.int64))


def storms(rng: np.random.Generator) -> Rows:
    starts = rng.random(300) * SPAN_S
    whose = np.repeat(starts, np.minimum(1 + rng.pareto(1.1, 300), 500).astype(int))
    return lone(np.sort(((whose + rng.exponential(0.3, len(whose))) * S).astype(np.int64)))


def coarse(tick_ns: int, rng: np.random.Generator) -> Rows:
    return lone(np.sort(rng.integers(0, SPAN_S * S, 20_000)) // tick_ns * tick_ns)


@pytest.mark.parametrize(
    "made",
    [
        lambda rng: smooth(1, rng),
        lambda rng: bursty(1, rng),
        lambda rng: lone(rng.integers(0, SPAN_S * S, 9000)),
        lambda rng: gamma_gaps(2, rng),
        lambda rng: gamma_gaps(6, rng),
        storms,
        lambda rng: coarse(S, rng),
        lambda rng: coarse(S // 10, rng),
        lambda rng: coarse(S // 1000, rng),
    ],
    ids=["wanders", "sessions", "poisson", "gamma 2", "gamma 6", "storms", "by 1 s", "by 0.1 s", "by 1 ms"],
)
def test_no_clock_is_seen_where_there_is_none(made: Callable[[np.random.Generator], Rows]) -> None:
    for seed in range(2):
        assert clock_of(made(np.random.default_rng(seed))) is None


def test_f_times_the_users_meet_at_the_same_instants_in_other_numbers() -> None:
    """Truth: f times the users, made anew. Dispersion and envelope within 10 %, plus two standard errors.

    Requests by themselves can't be steadier than chance, so less than 1 is chance's.
    """
    factor, found, truth = 2.5, [], []
    for seed in range(3):
        rows = lone(on_the_clock(60, 40, 1, np.random.default_rng(seed)))
        due_ns = np.sort(step_for(rows, factor, seed).apply(rows).due_ns)
        more = on_the_clock(60, 40, factor, np.random.default_rng(100 + seed))
        found.append(np.concatenate([dispersion_curve(due_ns), envelope(due_ns)]))
        truth.append(np.concatenate([dispersion_curve(more), envelope(more)]))
    expected = np.maximum(np.mean(truth, axis=0), 1)
    error = np.sqrt((np.var(found, axis=0, ddof=1) + np.var(truth, axis=0, ddof=1)) / len(found)) / expected
    assert (np.abs(np.mean(found, axis=0) / expected - 1) <= 0.10 + 2 * error).all()


def test_the_lineage_names_the_clock_and_clones_move_by_whole_periods() -> None:
    rows = lone(on_the_clock(60, 40, 1, np.random.default_rng(1)))
    step = step_for(rows, 3)
    assert "a clock of 60s: " in str(step)
    assert "of the clones shifted by whole periods, up to ±" in str(step)
    larger = step.apply(rows)
    batch = (rows.due_ns % (60 * S) < 1.21 * S)[larger.row]
    still = larger.due_ns % (60 * S)
    assert (np.minimum(still, 60 * S - still)[batch] < 2 * S).mean() > 0.95
    assert (larger.due_ns >= 0).all()
    assert larger.due_ns.max() <= rows.due_ns.max()


def test_one_client_that_polls_is_no_clock_of_all_and_many_in_step_are() -> None:
    """Twice as many such users are two that poll, each at its own instants."""
    rng = np.random.default_rng(1)
    people = rng.integers(0, SPAN_S * S, 3000)
    polls = np.repeat(np.arange(0, SPAN_S, 60), 20) * S + rng.integers(0, S // 2, 20 * SPAN_S // 60)
    due_ns = np.concatenate([people, polls])
    one = np.concatenate([np.arange(len(people)), np.full(len(polls), len(people))])
    many = np.concatenate([np.arange(len(people)), len(people) + np.arange(len(polls)) % 20])
    assert "a clock" not in str(step_for(rows_at(due_ns, one), 2))
    assert "a clock of 60s" in str(step_for(rows_at(due_ns, many), 2))


SHIFTS = ClockShifts(10 * S, (1, 6), (S // 2, S // 10), (0.25, 0.75))


def test_shifts_are_of_whole_periods_and_a_little_as_their_weights_say() -> None:
    drawn = SHIFTS.drawn_ns(np.random.default_rng(1).random(100_000))
    whole = np.rint(drawn / SHIFTS.period_ns)
    assert np.abs(drawn).max() <= SHIFTS.most_ns
    assert np.abs(drawn - whole * SHIFTS.period_ns).max() <= S // 2
    # Triangular: of six, none with 1/6, one either way with 5/36.
    for number, part in ((0, 0.25 + 0.75 / 6), (1, 0.75 * 5 / 36), (-5, 0.75 / 36)):
        assert (whole == number).mean() == pytest.approx(part, abs=0.005)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100 * S), st.integers(0, 100 * S), st.integers(0, 2**32 - 1))
def test_at_the_edges_shifts_stay_inside_and_whole(before_ns: int, after_ns: int, seed: int) -> None:
    shift_ns = SHIFTS.drawn_ns(np.random.default_rng(seed).random(200))
    low_ns, high_ns = np.full(200, -before_ns), np.full(200, after_ns)
    kept = SHIFTS.kept_within(shift_ns, low_ns, high_ns)
    assert ((kept >= low_ns) & (kept <= high_ns)).all()
    assert np.abs(kept - np.rint(kept / SHIFTS.period_ns) * SHIFTS.period_ns).max() <= S // 2
