"""Amplification and the third moment where a session has several requests, which move together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.transform import draws
from replay.transform.amplification import choice
from replay.transform.amplification.choice import Measuring, choose
from replay.transform.amplification.crowd_fit import CrowdFit
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.curve_fit import Fit
from replay.transform.amplification.methods import LateSessions, ShiftedClones
from replay.transform.amplification.spectrum import measured, own_densities
from replay.transform.amplification.third_moment import third_moment
from replay.transform.burst_curve import dispersion_curve
from replay.transform.rows import Rows
from tests.transform.made_arrivals import S, rows_at

SPAN_S = 1800
SPAN_NS = SPAN_S * S


def crowds_of_chats(users: float, seed: int) -> Rows:
    """Chats of three requests on average within seconds, 1/s per user; at 40 instants, always the same, some
    12 more per user begin within a tenth of a second."""
    rng = np.random.default_rng(seed)
    even = rng.integers(0, SPAN_NS, rng.poisson(users * SPAN_S))
    instants = np.random.default_rng(7).integers(0, SPAN_NS - S, 40)
    crowd = np.repeat(instants, rng.poisson(12 * users, 40))
    starts = np.r_[even, crowd + rng.integers(0, S // 10, len(crowd))]
    session = np.repeat(np.arange(len(starts)), rng.geometric(1 / 3, len(starts)))
    first = np.r_[True, session[1:] != session[:-1]]
    passed = np.cumsum(np.where(first, 0, rng.exponential(3 * S, len(session))))
    due = starts[session] + (passed - passed[np.flatnonzero(first)][session]).astype(np.int64)
    return rows_at(due[due < SPAN_NS], session[due < SPAN_NS])


def test_pairs_and_triples_grow_with_as_many_users_as_they_are_of() -> None:
    """Against a count of all pairs and triples in all windows, each by how many sessions it is of."""

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 30 * S - 1), st.integers(0, 4)), min_size=1, max_size=25),
        st.sampled_from([1.0, 2.0, 3.5]),
    )
    def holds(rows: list[tuple[int, int]], users: float) -> None:
        due_ns, session = (np.array(one) for one in zip(*rows, strict=True))
        falling = np.zeros(3)
        begins = range(0, 29 * S + 1, S // 4)
        for begin in begins:
            inside = session[(due_ns >= begin) & (due_ns < begin + S)].tolist()
            for order in (1, 2, 3):
                falling[order - 1] += sum(
                    users ** len(set(some)) for some in itertools.permutations(inside, order)
                )
        mean, pairs, triples = falling / len(begins)
        found = third_moment(due_ns, 30 * S, [1.0], session, users).cumulant[0]
        assert found == pytest.approx(triples - 3 * pairs * mean + 2 * mean**3, rel=1e-9, abs=1e-9)

    holds()


def test_a_thinning_by_sessions_tells_the_third_cumulant_of_all() -> None:
    """Mean of 40 thinnings by 2 within three standard errors."""
    rows = crowds_of_chats(1, 1)
    whole = third_moment(rows.due_ns, SPAN_NS, [0.1, 1.0]).cumulant
    told = []
    for seed in range(40):
        key = draws.key_of(np.random.default_rng(seed))
        kept = rows.take(draws.uniform(key, rows.session, 0) < 0.5)
        told.append(third_moment(kept.due_ns, SPAN_NS, [0.1, 1.0], kept.session, 2).cumulant)
    error = np.std(told, axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(np.mean(told, axis=0) - whole) <= 3 * error).all()


def test_each_classs_sessions_bring_their_part_of_what_sessions_bring() -> None:
    """Half of the requests in sevens within a tenth of a second, half alone: at low frequencies 7 to 1."""
    rng = np.random.default_rng(3)
    starts, lone = rng.integers(0, SPAN_NS - S, 1000), rng.integers(0, SPAN_NS, 7000)
    due = np.r_[np.repeat(starts, 7) + rng.integers(0, S // 10, 7000), lone]
    session = np.r_[np.repeat(np.arange(1000), 7), 1000 + np.arange(7000)]
    spectrum = measured(due, session, SPAN_NS)
    of_class = (session < 1000).astype(np.int8)
    owns = own_densities(due // spectrum.bin_ns, session, of_class, 2, spectrum)
    np.testing.assert_allclose(owns.sum(axis=1), spectrum.own)
    slow = spectrum.bands.per_s < 1
    assert np.average(owns[slow], axis=0, weights=spectrum.bands.frequencies[slow]) == pytest.approx(
        [0.5, 3.5], rel=0.15
    )


def test_crowds_of_sessions_stay_crowds_and_the_burst_curve_is_the_calculated_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Truth: four times the users, made anew. In 0.1 s, the third moment is near theirs, and not without."""
    rows = crowds_of_chats(1, 2)
    fit = fitted(rows)
    assert isinstance(fit, CrowdFit)
    assert isinstance(fit.shifts, CrowdShifts)
    assert fit.shifts.tilt > 0
    assert fit.away < fit.away_before / 2
    curves, cumulants = amplified(rows, fit)
    many = fit.windows_s <= SPAN_S / 100
    assert curves[many] == pytest.approx(fit.expected[many], rel=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(choice, "MOST_TILTED", 0)
        _, untilted = amplified(rows, fitted(rows))
    truth = np.mean(
        [third_moment(crowds_of_chats(4, seed).due_ns, SPAN_NS, [0.1]).cumulant for seed in range(4)]
    )
    assert untilted < 0.6 * truth
    assert cumulants == pytest.approx(truth, rel=0.25)


def fitted(rows: Rows) -> Fit:
    """The fit that `auto` takes, by 4."""
    measuring = Measuring(SPAN_NS, len(rows), 4)
    measuring.add(rows)
    found = choose(measuring.measured(), 4, np.uint64(1)).fit
    assert found is not None
    return found


def amplified(rows: Rows, fit: Fit) -> tuple[np.ndarray, float]:
    """The burst curve in the fit's windows, and the third moment in 0.1 s, mean of 6 draws."""
    late = LateSessions.of(rows.due_ns, rows.session)
    curves, cumulants = [], []
    for seed in range(6):
        step = ShiftedClones(4, draws.key_of(np.random.default_rng(seed)), fit.shifts, SPAN_NS, late)
        due_ns = np.sort(step.apply(rows).due_ns)
        curves.append(dispersion_curve(due_ns, fit.windows_s.tolist()))
        cumulants.append(third_moment(due_ns, SPAN_NS, [0.1]).cumulant[0])
    return np.mean(curves, axis=0), float(np.mean(cumulants))
