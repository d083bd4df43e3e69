"""Amplification and the third moment: clones stay nearer, or move farther, where arrivals crowd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.transform import draws
from replay.transform.amplification import choice
from replay.transform.amplification.amplify import Amplify
from replay.transform.amplification.choice import Measuring, choose
from replay.transform.amplification.crowd_fit import CrowdFit
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.crowding import NEAR_WINDOWS_S, Crowding
from replay.transform.amplification.curve_fit import Fit
from replay.transform.amplification.methods import NO_LATE_SESSIONS, LateSessions, ShiftedClones
from replay.transform.amplification.settling import settled
from replay.transform.amplification.shifts import Shifts
from replay.transform.amplification.third_moment import judged_windows, third_moment
from replay.transform.burst_curve import dispersion_curve, envelope
from replay.transform.rows import Rows
from tests.transform.made_arrivals import S, bursty, rows_at, smooth

SPAN_S = 2400
SPAN_NS = SPAN_S * S
law = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def key(seed: int) -> np.uint64:
    return draws.key_of(np.random.default_rng(seed))


def crowds(users: float, rng: np.random.Generator) -> Rows:
    """5/s per user, and at 60 instants, always the same, some 12 more within a tenth of a second."""
    even = rng.integers(0, SPAN_NS, rng.poisson(5 * users * SPAN_S))
    instants = np.random.default_rng(7).integers(0, SPAN_NS - S, 60)
    many = np.repeat(instants, rng.poisson(12 * users, 60))
    return _lone(np.r_[even, many + rng.integers(0, S // 10, len(many)), SPAN_NS])


def chance_crowds(users: float, rng: np.random.Generator) -> Rows:
    """Of 5/s with Gamma gaps (CV 2), a quarter per user: what is left has crowds by chance."""
    at_s = np.cumsum(rng.gamma(1 / 4, 4 / 5, 6 * SPAN_S))
    at_s = at_s[(at_s < SPAN_S) & (rng.random(len(at_s)) < users / 4)]
    return _lone((at_s * S).astype(np.int64))


def _lone(due_ns: np.ndarray) -> Rows:
    return rows_at(due_ns, np.arange(len(due_ns)))


def fitted(rows: Rows, factor: float) -> Fit:
    """The fit that `auto` takes."""
    measuring = Measuring(int(rows.due_ns.max()), len(rows), factor)
    measuring.add(rows)
    found = choose(measuring.measured(), factor, key(1)).fit
    assert found is not None
    return found


def amplified(rows: Rows, factor: float, seed: int) -> np.ndarray:
    span_ns = int(rows.due_ns.max())
    (step,) = settled([Amplify(factor, key(seed))], lambda: [rows], span_ns, len(rows))
    return np.sort(step.apply(rows).due_ns)


@law
@given(st.lists(st.integers(0, 200 * S - 1), min_size=1, max_size=60))
def test_the_third_cumulant_is_that_of_counts_in_sliding_windows(due: list[int]) -> None:
    due_ns = np.array(due)
    found = third_moment(due_ns, 200 * S, [1.0])
    begins = np.arange(0, 199 * S + 1, S // 4)
    n = np.array([((due_ns >= begin) & (due_ns < begin + S)).sum() for begin in begins], float)
    mean, pairs, triples = n.mean(), (n * (n - 1)).mean(), (n * (n - 1) * (n - 2)).mean()
    assert found.cumulant[0] == pytest.approx(triples - 3 * pairs * mean + 2 * mean**3, abs=1e-9)
    np.testing.assert_array_equal(
        third_moment(due_ns[::-1], 200 * S, [1.0]).cumulant, found.cumulant, "in any order"
    )


def test_a_thinning_tells_the_third_cumulant_of_all_within_the_error_that_it_states() -> None:
    """Mean of 40 thinnings by 2 within three standard errors; the jackknife's error within a half."""
    rows = crowds(1, np.random.default_rng(1))
    whole = third_moment(rows.due_ns, SPAN_NS, [0.1, 1.0])
    told = []
    for seed in range(40):
        kept = rows.due_ns[np.random.default_rng(seed).random(len(rows)) < 0.5]
        told.append(third_moment(kept, SPAN_NS, [0.1, 1.0], users=2))
    found = np.array([one.cumulant for one in told])
    scatter = found.std(axis=0, ddof=1)
    assert (np.abs(found.mean(axis=0) - whole.cumulant) <= 3 * scatter / np.sqrt(40)).all()
    # Of the whole, the error is what other instants of its crowds would make of it; thinning scatters less.
    assert (np.mean([one.error for one in told], axis=0) > scatter / 2).all()
    assert (np.mean([one.error for one in told], axis=0) < scatter * 2).all()


def test_even_arrivals_have_next_to_no_third_cumulant() -> None:
    away = []
    for seed in range(20):
        due_ns = np.random.default_rng(seed).integers(0, SPAN_NS, 12_000)
        away.append(third_moment(due_ns, SPAN_NS, NEAR_WINDOWS_S).away(np.zeros(3)))
    assert np.abs(np.mean(away, axis=0)).max() < 1
    assert np.abs(away).max() < 4


def test_windows_are_judged_that_the_time_and_the_clock_allow() -> None:
    assert judged_windows(NEAR_WINDOWS_S, 2000 * S, S // 100) == [0.1, 1.0, 10.0]
    assert judged_windows(NEAR_WINDOWS_S, 300 * S, S // 100) == [0.1, 1.0]
    assert judged_windows(NEAR_WINDOWS_S, 86_400 * S, S // 25) == [1.0, 10.0]
    assert judged_windows(NEAR_WINDOWS_S, 3600 * S, S) == [10.0]
    assert judged_windows(NEAR_WINDOWS_S, S, 1) == []


def crowding_of(rows: Rows) -> Crowding:
    found = Crowding.among(rows.due_ns, S // 100, SPAN_S * 100 + 1, NEAR_WINDOWS_S)
    assert found is not None
    return found


def test_classes_ascend_in_density_and_the_highest_is_where_crowds_are() -> None:
    rows = crowds(1, np.random.default_rng(1))
    crowding = crowding_of(rows)
    assert (np.diff(crowding.density) > 0).all()
    of_row = crowding.of(rows.due_ns)
    assert set(of_row.tolist()) == set(range(len(crowding.density)))
    near = np.searchsorted(rows.due_ns, rows.due_ns + S // 10) - np.searchsorted(
        rows.due_ns, rows.due_ns - S // 10
    )
    by_class = [near[of_row == one].mean() for one in range(len(crowding.density))]
    assert by_class[-1] > 8 > 2 * by_class[0]


def test_where_all_are_alike_there_are_no_classes() -> None:
    every = np.arange(SPAN_S * 5) * (S // 5)
    assert Crowding.among(every, S // 5, SPAN_S * 5, [10.0]) is None or (
        np.ptp(crowding_of(rows_at(every, np.arange(len(every)))).density) < 1
    )
    assert Crowding.among(np.full(500, 5 * S), S, 100, [1.0]) is None


def tilted(rows: Rows, tilt: float) -> CrowdShifts:
    """Half of the clones within 0.1 s, half within 100 s, and more of one kind where it is crowded."""
    crowding = crowding_of(rows)
    near = 1 / (1 + np.exp(-5 * tilt * crowding.density))
    shares = np.bincount(crowding.of(rows.due_ns)) / len(rows)
    return CrowdShifts(crowding, (S // 10, 100 * S), np.stack([near, 1 - near], axis=1), shares, tilt)


@settings(max_examples=5, deadline=None)
@given(st.floats(-1, 1), seeds)
def test_shifts_are_drawn_as_the_class_of_the_instant_says(tilt: float, seed: int) -> None:
    rows = crowds(1, np.random.default_rng(1))
    shifts = tilted(rows, tilt)
    chance = np.random.default_rng(seed).random(len(rows))
    drawn = shifts.drawn_ns(chance, rows.due_ns)
    assert np.abs(drawn).max() <= shifts.most_ns
    of_row = shifts.crowding.of(rows.due_ns)
    for one, weights in enumerate(shifts.weights):
        mine = of_row == one
        alone = Shifts(shifts.scales_ns, tuple(weights.tolist())).drawn_ns(chance[mine])
        np.testing.assert_array_equal(drawn[mine], alone)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=4), seeds, st.sampled_from([2.0, 3.5]))
def test_batch_borders_change_nothing(cuts: list[int], seed: int, factor: float) -> None:
    rows = crowds(1, np.random.default_rng(1))
    step = ShiftedClones(factor, key(seed), tilted(rows, 0.5), SPAN_NS, NO_LATE_SESSIONS)
    whole = step.apply(rows)
    pieces = np.split(np.arange(len(rows)), sorted(cuts))
    in_pieces = Rows.joined([step.apply(rows.take(piece)) for piece in pieces])
    for name in ("row", "copy", "due_ns"):
        order, other = (np.lexsort((one.copy, one.row)) for one in (whole, in_pieces))
        np.testing.assert_array_equal(getattr(whole, name)[order], getattr(in_pieces, name)[other])


@pytest.mark.slow
@pytest.mark.parametrize(("made", "too_little"), [(crowds, True), (chance_crowds, False)])
def test_the_third_moment_is_that_of_so_many_users(
    made: Callable[[float, np.random.Generator], Rows], too_little: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truth: four times the users, made anew. In 0.1 s nearer than without a tilt, which is off by 30 %.

    Of what chance put together within 20 %, of crowds the peak within 15 %; the dispersion is as true.
    """
    found: list[float] = []
    untilted: list[float] = []
    truth: list[float] = []
    curves, peaks = [], []
    for seed in range(3):
        rows, more = made(1, np.random.default_rng(seed)), made(4, np.random.default_rng(100 + seed)).due_ns
        due_ns = amplified(rows, 4, seed)
        with monkeypatch.context() as patch:
            patch.setattr(choice, "MOST_TILTED", 0)
            before_ns = amplified(rows, 4, seed)
        for instants, into in ((due_ns, found), (before_ns, untilted), (more, truth)):
            into.append(third_moment(instants, SPAN_NS, [0.1]).cumulant[0])
        curves.append(dispersion_curve(due_ns)[:2] / dispersion_curve(more)[:2])
        peaks.append([envelope(one, [0.1])[0] for one in (due_ns, before_ns, more)])
    ratio, before = np.mean(found) / np.mean(truth), np.mean(untilted) / np.mean(truth)
    assert before < 0.7 if too_little else before > 1.3
    assert abs(np.log(ratio)) < abs(np.log(before)) - 0.05
    assert np.mean(curves, axis=0) == pytest.approx(1, abs=0.12)
    peak, peak_before, true_peak = np.mean(peaks, axis=0)
    if too_little:
        assert peak_before < 0.85 * true_peak
        assert peak == pytest.approx(true_peak, rel=0.15)
    else:
        assert ratio == pytest.approx(1, abs=0.2)


def test_a_tilt_keeps_the_burst_curve_and_brings_the_third_moment_near() -> None:
    fit = fitted(crowds(1, np.random.default_rng(1)), 4)
    assert isinstance(fit, CrowdFit)
    assert isinstance(fit.shifts, CrowdShifts)
    assert fit.shifts.tilt > 0
    assert fit.away < fit.away_before / 2
    assert fit.miss() < 0.1
    np.testing.assert_allclose(fit.shifts.weights.sum(axis=1), 1)
    near = fit.shifts.weights @ (np.array(fit.shifts.scales_ns) < S)
    assert near[-1] > near[0]
    assert "nearer where arrivals crowd" in str(fit.shifts)


@pytest.mark.parametrize("made", [smooth, bursty])
def test_where_the_third_moment_is_met_or_unknown_one_law_holds_for_all(
    made: Callable[[float, np.random.Generator], Rows],
) -> None:
    """As before, to the bit: of even traffic, and of sessions that begin without crowds."""
    rows = made(1, np.random.default_rng(3))
    fit = fitted(rows, 4)
    assert type(fit) is Fit
    assert isinstance(fit.shifts, Shifts)


def test_what_is_too_large_to_try_is_not_tilted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = crowds(1, np.random.default_rng(1))
    monkeypatch.setattr(choice, "MOST_TILTED", 4 * len(rows) - 1)
    assert isinstance(fitted(rows, 4).shifts, Shifts)


def test_the_calculated_curve_of_a_tilt_is_the_one_that_comes_out() -> None:
    """Expected dispersion by formula against amplified arrivals, mean of 6 draws: within 10 %."""
    rows = crowds(1, np.random.default_rng(2))
    fit = fitted(rows, 4)
    assert isinstance(fit, CrowdFit)
    many = fit.windows_s <= SPAN_S / 100
    curves = []
    for seed in range(6):
        step = ShiftedClones(4, key(seed), fit.shifts, SPAN_NS, LateSessions.of(rows.due_ns, rows.session))
        curves.append(dispersion_curve(np.sort(step.apply(rows).due_ns), fit.windows_s[many].tolist()))
    assert np.mean(curves, axis=0) == pytest.approx(fit.expected[many], rel=0.1)
