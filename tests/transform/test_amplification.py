"""Amplification: every method's law, whole sessions within the time, and a burst curve that is true."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from replay.transform import draws
from replay.transform.amplification.amplify import METHODS, Amplify
from replay.transform.amplification.choice import Measuring, choose
from replay.transform.amplification.curve_fit import expected_fit, shrunk_to_chance
from replay.transform.amplification.methods import LEAST_ROOM, LateSessions, ShiftedClones
from replay.transform.amplification.settling import settled
from replay.transform.amplification.shifts import TIED, Shifts, folded_ns
from replay.transform.amplification.spectrum import ArrivalCounts, measured
from replay.transform.burst_curve import dispersion_curve, envelope, session_dispersion, target_dispersion
from replay.transform.plan import Plan
from replay.transform.rows import Rows, Step
from replay.transform.steps import Slice, Thin
from tests.transform.made_arrivals import SPAN_S, S, bursty, rows_at, smooth

law = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def key(seed: int) -> np.uint64:
    return draws.key_of(np.random.default_rng(seed))


def step_for(rows: Rows, factor: float, method: str = "auto", seed: int = 1) -> Step:
    span_ns = int(rows.due_ns.max(initial=0))
    (step,) = settled([Amplify(factor, key(seed), method)], lambda: [rows], span_ns, len(rows))
    return step


@st.composite
def traces(draw: st.DrawFn) -> Rows:
    """1 to 60 requests of some sessions, within 1 to 200 s."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(seeds))
    return rows_at(rng.integers(0, draw(st.integers(1, 200)) * S, n), rng.integers(0, n, n))


@law
@given(traces(), st.floats(0.05, 12), st.sampled_from(METHODS), seeds)
def test_any_method_is_determined_by_its_seed(rows: Rows, factor: float, method: str, seed: int) -> None:
    if method == "traceupscaler" and factor < 1:
        return
    once, again = (step_for(rows, factor, method, seed).apply(rows) for _ in range(2))
    for name, values in vars(once).items():
        np.testing.assert_array_equal(values, getattr(again, name))
    assert (once.due_ns >= 0).all()


@law
@given(traces(), st.floats(1, 12), st.sampled_from(["auto", "jitter", "tied"]), seeds)
def test_clones_are_whole_sessions_within_the_time_with_their_distances(
    rows: Rows, factor: float, method: str, seed: int
) -> None:
    larger = step_for(rows, factor, method, seed).apply(rows)
    span_ns = int(rows.due_ns.max())
    assert larger.due_ns.max() <= span_ns + span_ns // LEAST_ROOM
    originals = larger.take(larger.copy == 0)
    np.testing.assert_array_equal(np.sort(originals.due_ns), rows.due_ns)
    per_session = {int(one): int((rows.session == one).sum()) for one in rows.session}
    whose = dict(zip(rows.row.tolist(), rows.session.tolist(), strict=True))
    for session in np.unique(larger.session):
        mine = larger.take(larger.session == session)
        assert len(mine) == per_session[whose[int(mine.row[0])]]
        assert len(np.unique(mine.copy)) == 1
        assert len(np.unique(mine.due_ns - rows.due_ns[mine.row])) == 1


@law
@given(traces(), st.floats(1, 12), seeds, st.lists(st.integers(0, 60), max_size=4))
def test_batch_borders_change_nothing(rows: Rows, factor: float, seed: int, cuts: list[int]) -> None:
    step = step_for(rows, factor, "auto", seed)
    whole = step.apply(rows)
    pieces = [step.apply(rows.take(piece)) for piece in np.split(np.arange(len(rows)), sorted(cuts))]
    np.testing.assert_array_equal(by_row_and_copy(whole), by_row_and_copy(Rows.joined(pieces)))


def by_row_and_copy(rows: Rows) -> np.ndarray:
    """What is due, in an order that doesn't depend on that of the rows."""
    return rows.due_ns[np.lexsort((rows.copy, rows.row))]


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("speed", "traceupscaler")])
@pytest.mark.parametrize("factor", [0.3, 1.5, 7.9])
def test_the_number_of_requests_holds_in_expectation(method: str, factor: float) -> None:
    """Within five standard deviations: of a rounded number per session, or of a Poisson one."""
    rows = smooth(1, np.random.default_rng(1))
    per_session = factor if method == "resample" else factor % 1 * (1 - factor % 1)
    found = len(step_for(rows, factor, method).apply(rows))
    assert abs(found - factor * len(rows)) <= 5 * np.sqrt(len(rows) * per_session)


def test_speed_and_traceupscaler_add_no_request_and_shorten_the_time() -> None:
    rows = smooth(1, np.random.default_rng(1))
    for method in ("speed", "traceupscaler"):
        faster = step_for(rows, 4, method).apply(rows)
        assert len(faster) == len(rows)
        last = rows.due_ns.max() / 4 if method == "speed" else rows.due_ns[len(rows) // 4]
        assert faster.due_ns.max() == pytest.approx(last, rel=0.01)


@pytest.mark.parametrize(
    ("method", "law_of"),
    [
        ("tied", lambda idc, longer: 4 * idc),
        ("traceupscaler", lambda idc, longer: 4 * idc),
        ("superposition", lambda idc, longer: idc),
        ("speed", lambda idc, longer: longer),
        ("resample", lambda idc, longer: 1 + 4 * idc),
        ("auto", lambda idc, longer: 1 + 4 * (idc - 1)),
    ],
)
def test_each_method_makes_of_the_burst_curve_what_its_law_says(
    method: str, law_of: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    """At 0.1 s (resampling: 1 s, it smooths what is finer), where the dispersion is known best."""
    windows = (1.0,) if method == "resample" else (0.1,)
    ratios = []
    for seed in range(4):
        rows = smooth(1, np.random.default_rng(seed))
        idc = dispersion_curve(rows.due_ns, windows)
        longer = dispersion_curve(rows.due_ns, tuple(4 * window for window in windows))
        found = dispersion_curve(np.sort(step_for(rows, 4, method, seed).apply(rows).due_ns), windows)
        ratios.append(found / law_of(idc, longer))
    assert np.mean(ratios) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(("made", "factor"), [(smooth, 2.5), (smooth, 6), (bursty, 2.5), (bursty, 10)])
def test_amplified_users_are_as_bursty_as_so_many_users(
    made: Callable[[float, np.random.Generator], Rows], factor: float
) -> None:
    """Truth: f times the users, made anew. Dispersion and envelope within 10 %, plus two standard errors."""
    found, truth = [], []
    for seed in range(6):
        rows = made(1, np.random.default_rng(seed))
        due_ns = np.sort(step_for(rows, factor, seed=seed).apply(rows).due_ns)
        more = made(factor, np.random.default_rng(100 + seed)).due_ns
        found.append(np.concatenate([dispersion_curve(due_ns), envelope(due_ns)]))
        truth.append(np.concatenate([dispersion_curve(more), envelope(more)]))
    expected = np.mean(truth, axis=0)
    spread = np.var(found, axis=0, ddof=1) + np.var(truth, axis=0, ddof=1)
    error = np.sqrt(spread / len(found)) / expected
    assert (np.abs(np.mean(found, axis=0) / expected - 1) <= 0.10 + 2 * error).all()


@pytest.mark.parametrize("made", [smooth, bursty])
def test_the_fitted_shifts_come_closer_to_the_target_than_ties_or_a_second_of_jitter(
    made: Callable[[float, np.random.Generator], Rows],
) -> None:
    rows = made(2, np.random.default_rng(2))
    span_ns = int(rows.due_ns.max())
    measuring = Measuring(span_ns, len(rows), 4)
    measuring.add(rows)
    choice = choose(measuring.measured(), 4, key(1))
    assert choice.fit is not None
    spectrum = measured(rows.due_ns, rows.session, span_ns)
    second = Shifts((S,), (1.0,), uniform=True)
    assert choice.fit.miss() < (0.1 if made is smooth else 0.35)
    assert choice.fit.miss() < expected_fit(spectrum, 4, second).miss()
    assert choice.fit.miss() < expected_fit(spectrum, 4, TIED).miss() / 3
    assert "fitted to the burst curve" in choice.told
    assert "most typical of 8 draws" in choice.told


@pytest.mark.parametrize("made", [smooth, bursty])
def test_the_spectrum_gives_the_dispersion_that_counting_gives(
    made: Callable[[float, np.random.Generator], Rows],
) -> None:
    """Of all arrivals, and of sessions by themselves, which a sample with random signs estimates."""
    rows = made(2, np.random.default_rng(6))
    spectrum = measured(rows.due_ns, rows.session, int(rows.due_ns.max()))
    windows_s = spectrum.bands.windows_s
    short = windows_s < 20  # longer ones are few, and where they begin matters
    counted = dispersion_curve(rows.due_ns, windows_s[short].tolist())
    assert spectrum.bands.dispersion(spectrum.total)[short] == pytest.approx(counted, rel=0.1)
    alone = [
        session_dispersion(rows.due_ns, rows.session, window_s) for window_s in windows_s[short].tolist()
    ]
    assert spectrum.bands.dispersion(spectrum.own)[short] == pytest.approx(alone, rel=0.1)


@pytest.mark.parametrize("turns", [1, 6])
def test_the_spectrum_says_how_far_chance_may_be_taken_for_a_rate(turns: int) -> None:
    """Sessions begun at an even rate, drawn 40 times: the deviation within 35 %, three standard errors."""
    parts, stated = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        many = rng.geometric(1 / turns, 1500)
        session = np.repeat(np.arange(len(many)), many)
        due_ns = (rng.integers(0, 590 * S, len(many))[session] + rng.integers(0, 10 * S, len(session))) % (
            600 * S
        )
        counts = ArrivalCounts(600 * S, len(due_ns), tick_ns=S // 20)
        counts.add(due_ns, session)
        spectrum = counts.spectrum()
        judged = (spectrum.bands.windows_s > 0.5) & (spectrum.bands.windows_s < 20)
        parts.append(spectrum.bands.dispersion(spectrum.total - spectrum.own)[judged])
        stated.append(spectrum.chance[judged])
    assert np.std(parts, axis=0) == pytest.approx(np.mean(stated, axis=0), rel=0.35)


def test_what_is_small_beside_chance_is_made_little_of() -> None:
    """The bias for 0 to 5 deviations: below that of cutting off at 0, and never much under the part."""
    noise = np.random.default_rng(1).normal(size=200_000)
    for part in (0.0, 0.5, 1.0, 2.0, 5.0):
        seen = part + noise
        bias = shrunk_to_chance(seen, np.ones_like(seen)).mean() - part
        assert -0.1 < bias < np.maximum(seen, 0).mean() - part


def test_clones_of_a_session_as_long_as_the_trace_do_not_tie() -> None:
    rng = np.random.default_rng(3)
    giant = np.r_[0, rng.integers(0, SPAN_S * S, 2000), SPAN_S * S]
    due_ns = np.r_[giant, rng.integers(0, SPAN_S * S, 3000)]
    rows = rows_at(due_ns, np.r_[np.zeros(len(giant), np.int64), np.arange(1, 3001)])
    larger = step_for(rows, 4).apply(rows)
    clones = larger.take(np.isin(larger.row, np.flatnonzero(rows.session == rows.session[0])))
    shifts_ns = np.unique(clones.due_ns - rows.due_ns[clones.row])
    assert len(shifts_ns) == 4
    assert shifts_ns.min() == 0
    assert np.diff(shifts_ns).min() > S // 10


def test_the_calculated_curve_is_the_one_that_comes_out() -> None:
    """Expected dispersion by formula against amplified arrivals, mean of 6 draws: within 10 %."""
    rows = smooth(1, np.random.default_rng(5))
    span_ns = int(rows.due_ns.max())
    shifts = Shifts((S // 2, 20 * S), (0.4, 0.6))
    fit = expected_fit(measured(rows.due_ns, rows.session, span_ns), 3, shifts)
    many = fit.windows_s <= SPAN_S / 20  # of longer windows there are too few
    curves = []
    for seed in range(6):
        late = LateSessions.of(rows.due_ns, rows.session)
        due_ns = np.sort(ShiftedClones(3, key(seed), shifts, span_ns, late).apply(rows).due_ns)
        curves.append(dispersion_curve(due_ns, fit.windows_s[many].tolist()))
    assert np.mean(curves, axis=0) == pytest.approx(fit.expected[many], rel=0.1)


@given(st.lists(st.tuples(st.integers(-S, S), st.integers(0, S), st.integers(0, S)), min_size=1))
def test_folded_shifts_stay_inside_and_leave_alone_what_is(shifts: list[tuple[int, int, int]]) -> None:
    shift, low, high = np.array(shifts, np.int64).T
    folded = folded_ns(shift, -low, high)
    assert ((folded >= -low) & (folded <= high)).all()
    inside = (shift >= -low) & (shift <= high)
    np.testing.assert_array_equal(folded[inside], shift[inside])


def test_shifts_are_drawn_as_their_distribution_says() -> None:
    shifts = Shifts((S, 10 * S), (0.5, 0.5))
    drawn = shifts.drawn_ns(np.random.default_rng(1).random(100_000)) / S
    assert np.abs(drawn).max() <= 10
    # Below 1 s in absolute value: all of the first part, and 1 − 0.9² of the second.
    assert (np.abs(drawn) < 1).mean() == pytest.approx(0.5 + 0.5 * 0.19, abs=0.01)
    assert drawn.mean() == pytest.approx(0, abs=0.05)
    for most_ns in (0, 1, 500, 10**6):
        for uniform in (True, False):
            few = Shifts((most_ns,), (1.0,), uniform).drawn_ns(np.linspace(0, 1, 999, endpoint=False))
            assert np.abs(few).max() <= most_ns


def test_a_clock_of_whole_seconds_is_not_taken_for_bursts() -> None:
    fine = smooth(1, np.random.default_rng(3))
    coarse = rows_at(fine.due_ns // S * S, np.arange(len(fine)))
    span_ns = int(coarse.due_ns.max())
    (step,) = settled([Amplify(4, key(1))], lambda: [coarse], span_ns, len(coarse), tick_ns=S)
    assert "nothing finer than the clock's tick of 1s" in str(step)
    found = dispersion_curve(np.sort(step.apply(coarse).due_ns))
    target = target_dispersion(fine.due_ns, fine.session, 4)
    assert found[2:] == pytest.approx(target[2:], rel=0.15)


def test_what_is_measured_is_what_reaches_the_step() -> None:
    rows = smooth(1, np.random.default_rng(4))
    before = [Slice(100 * S, 700 * S), Thin(0.5, key(9))]
    batches = [rows.take(piece) for piece in np.array_split(np.arange(len(rows)), 7)]
    span_ns = int(rows.due_ns.max())
    steps = settled([*before, Amplify(3, key(1))], lambda: batches, span_ns, len(rows))
    reached = before[1].apply(before[0].apply(rows))
    larger = steps[2].apply(reached)
    assert len(larger) == 3 * len(reached)
    assert larger.due_ns.max() < 600 * S


@pytest.mark.parametrize("method", METHODS)
def test_the_smallest_of_traces_have_a_defined_result(method: str) -> None:
    one = rows_at(np.array([5 * S]), np.array([0]))
    assert 1 <= len(step_for(one, 3, method).apply(one)) <= 3 or method == "resample"
    tied = rows_at(np.zeros(500, np.int64), np.arange(500))
    found = step_for(tied, 3, method).apply(tied)
    assert (found.due_ns == 0).all() or method == "jitter"
    if method == "auto":
        assert "all requests are due at one instant" in str(step_for(tied, 3, method))
        assert "say too little of bursts" in str(step_for(one_minute(), 3, method))


@pytest.mark.parametrize("few", [15, 60])
def test_of_few_requests_no_burst_is_made(few: int) -> None:
    """Of even ones in an hour, twenty times as many: the dispersion in 1 s, mean of 3 draws, is near 1."""
    found = []
    for seed in range(3):
        due_ns = np.random.default_rng(seed).integers(0, 3600 * S, few)
        rows = rows_at(due_ns, np.arange(few))
        found.append(dispersion_curve(np.sort(step_for(rows, 20, seed=seed).apply(rows).due_ns), [1.0]))
    assert np.mean(found) < 1.5


def one_minute() -> Rows:
    return rows_at(np.arange(19, dtype=np.int64) * 3 * S, np.arange(19))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (lambda: Amplify(0, key(1)), "--amplify: 0 found"),
        (lambda: Plan(amplify=2, method="magic"), "--method: 'magic' found, one of auto, jitter, tied"),
        (
            lambda: step_for(one_minute(), 0.5, "traceupscaler"),
            "1 or more wanted with --method traceupscaler",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(wanted: Callable[[], object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        wanted()


def test_a_large_trace_is_shifted_no_farther_than_sorts_in_memory() -> None:
    due_ns = np.sort(np.random.default_rng(1).integers(0, SPAN_S * S, 200_000))
    rows = rows_at(due_ns, np.arange(len(due_ns)))
    step = step_for(rows, 20)
    assert step.spread_ns * 20 * len(rows) / (SPAN_S * S) <= 400_000
    assert "to sort in memory" in str(step)
