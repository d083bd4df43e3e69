"""The laws of shapes: the rate is what was asked for, nothing else changes, phases partition time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from replay.transform.ground import Ground
from replay.transform.moments import Share
from replay.transform.plan import NamedPhase, Plan, apply_plan
from replay.transform.rows import Rows, base_rows
from replay.transform.schedule_format import Schedule
from replay.transform.settings import read_flag
from replay.transform.shapes import KINDS, Bursts, Quiet, Setting, Shape, Spike
from replay.transform.shapes.bursts import gap_cv, solved_shape
from replay.transform.shapes.phases import PhaseLabel, partition
from replay.transform.shapes.spike import excess

S = 1_000_000_000
MINUTE = 60 * S


def given_as(word: str, text: str) -> Shape:
    return read_flag(KINDS[word], text, f"--shape {word}")


EVERY_KIND = [
    given_as("spike", "at=10s,for=20s,x=4"),
    given_as("spike", "at=25%,for=50%,x=5,form=triangle"),
    given_as("spike", "at=10s,for=30s,x=6,form=decay"),
    given_as("spike", "at=10s,for=40s,x=0.2,form=gaussian,name=dip"),
    given_as("ramp", "at=0s,for=60s,from=0.5,to=3"),
    given_as("wave", "period=20s,low=0.3,high=2"),
    given_as("stairs", "from=0.5,to=4,steps=7"),
    given_as("line", "points=0s:0.2/20s:3/60s:1"),
    given_as("random-spikes", "every=8s,x=uniform:2:6,length=exponential:4s"),
    given_as("random-spikes", "every=8s,x=pareto:1.5:2,length=lognormal:3s:0.5,form=triangle"),
    given_as("bursts", "cv=3,each=1s"),
    given_as("quiet", "at=20s,for=20s,x=0"),
]


@st.composite
def traces(draw: st.DrawFn) -> Rows:
    """Rows of up to 60 requests over up to a minute, with sessions of several turns and unknown ends."""
    n = draw(st.integers(1, 60))
    arrival = np.sort(np.array(draw(st.lists(st.integers(0, MINUTE), min_size=n, max_size=n)), np.int64))
    service = np.array(draw(st.lists(st.integers(-1, 3 * S), min_size=n, max_size=n)), np.int64)
    session = np.array(draw(st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n)), np.int64)
    rows = base_rows(arrival, np.where(service >= 0, arrival + service, -1), session)
    # A span of a minute whatever was drawn, so that every window lies in it.
    return Rows.joined(
        [
            rows,
            dataclasses.replace(
                rows.take(np.array([n - 1])),
                row=np.array([n]),
                session=np.array([10**6]),
                due_ns=np.array([MINUTE]),
                follows=np.array([-1]),
                think_ns=np.array([0]),
                start_ns=np.array([MINUTE]),
            ),
        ]
    )


def even(n: int, span_ns: int = MINUTE) -> Rows:
    """`n` requests at even distances over the span, each a session of its own."""
    at = np.linspace(0, span_ns, n, endpoint=False).astype(np.int64)
    return base_rows(at, np.full(n, -1), np.arange(n))


def poisson(per_s: float, span_ns: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, span_ns, rng.poisson(per_s * span_ns / 1e9)))
    return base_rows(at, np.full(len(at), -1), np.arange(len(at)))


def laid(rows: Rows, *shapes: Shape, seed: int = 1, jitter_ns: int = S) -> Schedule:
    return apply_plan(rows, Plan(shapes=shapes, seed=seed, jitter_ns=jitter_ns))


def columns(schedule: Schedule) -> dict[str, npt.NDArray[np.generic]]:
    return dict(vars(schedule))


@settings(max_examples=40, deadline=None)
@given(traces(), st.sampled_from(EVERY_KIND), st.integers(0, 2**32), st.integers(0, 3 * S))
def test_whatever_the_shape_sessions_stay_in_order_and_nothing_is_due_before_zero(
    rows: Rows, shape: Shape, seed: int, jitter_ns: int
) -> None:
    try:
        schedule = laid(rows, shape, seed=seed, jitter_ns=jitter_ns)
    except BadInput:  # nothing in the window, nothing left, or too few arrivals to make bursts of
        return
    assert (np.diff(schedule.due_ns) >= 0).all()
    assert (schedule.due_ns >= 0).all()
    pairs = np.stack([schedule.row, schedule.copy], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(schedule)
    for session in np.unique(schedule.session):
        mine = schedule.row[schedule.session == session]
        due = schedule.due_ns[schedule.session == session]
        # Rows of equal instants may stand in any order; no turn is due before an earlier one.
        assert (np.diff(due[np.argsort(mine, kind="stable")]) >= 0).all()
    follows = schedule.after >= 0
    assert (schedule.session[schedule.after[follows]] == schedule.session[follows]).all()
    assert (schedule.row[schedule.after[follows]] < schedule.row[follows]).all()


@settings(max_examples=20, deadline=None)
@given(traces(), st.sampled_from(EVERY_KIND), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_and_what_lies_outside_the_window_is_untouched(
    rows: Rows, shape: Shape, seed: int
) -> None:
    plan = Plan(shapes=(shape,), seed=seed)
    try:
        first, second = apply_plan(rows, plan), apply_plan(rows, plan)
    except BadInput:
        return
    for name, values in columns(first).items():
        np.testing.assert_array_equal(values, columns(second)[name])
    start_ns, end_ns = shape.window(Setting(MINUTE, MINUTE + 1))
    outside = (rows.due_ns < start_ns) | (rows.due_ns >= end_ns)
    again = (first.due_ns < start_ns) | (first.due_ns >= end_ns)
    np.testing.assert_array_equal(np.sort(first.row[again]), np.sort(rows.row[outside]))
    assert not first.copy[again].any()


@settings(max_examples=15, deadline=None)
@given(traces(), st.integers(0, 2**32))
def test_a_factor_of_1_changes_nothing(rows: Rows, seed: int) -> None:
    plain = apply_plan(rows, Plan())
    for shape in (
        Spike(0, MINUTE, 1.0, form="triangle"),
        given_as("ramp", "at=0s,for=50s,from=1,to=1"),
        given_as("wave", "period=10s,low=1,high=1"),
        given_as("stairs", "from=1,to=1,steps=3"),
    ):
        same = laid(rows, shape, seed=seed)
        for name in ("due_ns", "row", "copy", "session", "after", "think_ns"):
            np.testing.assert_array_equal(columns(plain)[name], columns(same)[name])


@pytest.mark.parametrize("shape", EVERY_KIND, ids=str)
def test_the_rate_is_what_was_asked_for(shape: Shape) -> None:
    """Counts in sixths of the replay against the curve's integral, within five standard deviations.

    One request a session, due evenly: a request with factor f has ⌊f⌋ copies and one more by chance, so that
    the variance of a count is the sum of frac·(1 − frac). Clones near a piece's border may be in the sixth
    beside by up to a jitter (0.05 s), and there 2 % too many.
    """
    n, jitter_ns = 30_000, S // 20
    rows = even(n)
    schedule = laid(rows, shape, jitter_ns=jitter_ns)
    stream = np.random.default_rng(1).spawn(3)[2]
    over = Setting(int(rows.due_ns[-1]), int(rows.due_ns[-1]) + 1, n / 60)
    factors = shape.curve(over, stream).factors(rows.due_ns)
    fraction = factors % 1
    edges = np.arange(7) * 10 * S
    wanted = np.histogram(rows.due_ns, edges, weights=factors)[0]
    variance = np.histogram(rows.due_ns, edges, weights=fraction * (1 - fraction))[0]
    found = np.histogram(schedule.due_ns, edges)[0]
    at_borders = 0.02 * np.abs(wanted - n / 6) + 2 * n / 60 * jitter_ns / 1e9 * factors.max()
    assert (np.abs(found - wanted) <= 5 * np.sqrt(variance) + at_borders).all(), (found, wanted)


@pytest.mark.parametrize(
    ("form", "mean"),
    [
        ("step", 1.0),
        ("triangle", 0.5),
        ("decay", (1 - math.exp(-3)) / 3),
        ("gaussian", math.sqrt(2 * math.pi) * math.erf(3 / math.sqrt(2)) / 6),
    ],
)
def test_a_spikes_mean_excess_is_its_formulas(form: str, mean: float) -> None:
    place = (np.arange(100_000) + 0.5) / 100_000
    assert excess(form, place).mean() == pytest.approx(mean, rel=1e-4)
    assert excess(form, np.array([0.0 if form == "decay" else 0.5]))[0] == 1


def test_a_spike_on_a_steady_stream_holds_exactly_x_times_the_requests() -> None:
    schedule = laid(even(6000), Spike(20 * S, 10 * S, 4))
    per_s = np.bincount(schedule.due_ns // S)
    assert per_s[20:30].sum() == 4000
    assert (per_s[:20] == 100).all()
    assert (per_s[30:] == 100).all()


def test_clones_do_not_tie_and_stay_in_their_piece() -> None:
    schedule = laid(even(6000), given_as("stairs", "from=1,to=6,steps=6,for=60s"))
    for step in range(6):
        inside = (schedule.due_ns >= step * 10 * S) & (schedule.due_ns < (step + 1) * 10 * S)
        assert inside.sum() == 1000 * (step + 1)
    assert len(np.unique(schedule.due_ns)) > 0.999 * len(schedule)


@pytest.mark.parametrize("law", ["gamma", "weibull"])
@pytest.mark.parametrize("cv", [1.5, 4.0])
def test_bursts_give_poisson_arrivals_the_wanted_cv_of_gaps(law: str, cv: float) -> None:
    """Over 8 seeds of 600 stretches each; the largest relative error of their mean is 10 %."""
    rows = poisson(100, 10 * MINUTE, seed=5)
    found = []
    for seed in range(8):
        due_ns = laid(rows, Bursts(cv=cv, law=law, each=S), seed=seed, jitter_ns=S // 10).due_ns
        gaps = np.diff(due_ns)
        found.append(gaps.std() / gaps.mean())
    assert np.mean(found) == pytest.approx(cv, rel=0.1)


def test_the_cv_of_gaps_has_its_limit_of_long_stretches() -> None:
    assert gap_cv("gamma", 2.0, 1e6) ** 2 == pytest.approx((2 + 1) / (2 - 1), rel=0.01)
    assert gap_cv("gamma", 400.0, 50.0) == pytest.approx(1, abs=0.05)
    for law in ("gamma", "weibull"):
        assert gap_cv(law, solved_shape(law, 2.0, 100.0, "here"), 100.0) == pytest.approx(2, rel=1e-3)


def test_random_spikes_come_as_often_as_their_law_says() -> None:
    shape = given_as("random-spikes", "every=60s,x=4,length=exponential:30s")
    over = Setting(1000 * MINUTE, 1000 * MINUTE + 1)
    counts = []
    for seed in range(20):
        curve = shape.curve(over, np.random.default_rng(seed))
        counts.append(sum(label.name == "spike" for label in curve.labels))
    # A cycle is 90 s on average; 20 times 666 of them have a relative error of about 1 %.
    assert np.mean(counts) == pytest.approx(1000 * 60 / 90, rel=0.04)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            PhaseLabel,
            st.sampled_from(["spike", "ramp", "recover", "quiet"]),
            st.integers(0, 100),
            st.integers(0, 100),
            st.sampled_from([0, 1]),
        ),
        max_size=8,
    )
)
def test_phases_partition_time(labels: list[PhaseLabel]) -> None:
    phases = partition(labels)
    for at in range(-1, 102):
        name = phases.names[int(phases.at(np.array([at], np.int64))[0])]
        covering = [label for label in labels if label.start_ns <= at < label.end_ns]
        own = [label for label in covering if label.rank]
        expected = (own or covering)[-1].name if covering else "base"
        assert name == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(1000, 10**14), st.integers(0, 50), st.integers(1, 25), st.integers(1, 25))
def test_windows_in_shares_that_meet_do_not_overlap(span_ns: int, at: int, first: int, second: int) -> None:
    over = Setting(span_ns, span_ns + 1)
    before = Spike(Share(at / 100), Share(first / 100), 2)
    after = Spike(Share((at + first) / 100), Share(second / 100), 2)
    assert before.window(over)[1] == after.window(over)[0]


def test_a_named_phase_precedes_what_shapes_say_and_two_named_ones_must_not_overlap() -> None:
    spike = Spike(20 * S, 10 * S, 2)
    plan = Plan(shapes=(spike,), phases=(NamedPhase("mine", 25 * S, 10 * S),))
    assert plan.told((), Ground())[-2:] == ("phase name=mine,at=25s,for=10s", "clones' prompts unique")
    schedule = apply_plan(even(600), plan)
    per_s = [schedule.phase[(schedule.due_ns // S) == second] for second in range(60)]
    assert all(len(np.unique(phases)) == 1 for phases in per_s)
    assert per_s[24][0] == per_s[20][0] != per_s[19][0]
    assert per_s[25][0] == per_s[34][0] != per_s[24][0]
    overlapping = dataclasses.replace(plan, shapes=(dataclasses.replace(spike, name="launch"),))
    with pytest.raises(BadInput, match=r"launch \(20s..30s\) and mine \(25s..35s\) overlap"):
        apply_plan(even(600), overlapping)


@pytest.mark.parametrize("shape", EVERY_KIND, ids=str)
def test_a_shape_reads_from_what_it_shows(shape: Shape) -> None:
    assert given_as(shape.word, str(shape).partition(" ")[2]) == shape


@pytest.mark.parametrize(
    ("word", "text", "words"),
    [
        ("spike", "at=1s,x=4", "lacks for"),
        ("spike", "at=1s,for=0,x=4", "--shape spike for: 0 found, more than 0 wanted"),
        ("spike", "at=1,for=2s,x=4", "a duration such as 30s"),
        ("spike", "at=1s,for=2s,x=0", "--shape spike x: 0 found, a number above 0 wanted"),
        ("spike", "at=1s,for=2s,x=4,x=5", "'x=5' found"),
        ("spike", "at=1s,for=2s,x=4,form=round", "one of step, triangle, decay, gaussian wanted"),
        ("spike", "at=120%,for=2s,x=4", "--shape spike at: '120%' found"),
        ("spike", "at=1s,for=2s,x=4,tenant=acme", "HEADER:VALUE such as x-tenant:acme wanted"),
        ("spike", "at=1s,for=2s,x=4,endpoint=chat", "a path such as"),
        ("ramp", "at=1s,for=2s,from=-1,to=2", "--shape ramp from: -1 found"),
        ("wave", "period=1s,low=3,high=2", "low above high found"),
        ("stairs", "from=1,to=2,steps=1000", "at most 60 wanted"),
        ("stairs", "from=1,to=2,steps=1.5", "a whole number above 0 wanted"),
        ("line", "points=0s:1", "at least two points wanted"),
        ("line", "points=0s:0/9s:0", "factor 0 everywhere found"),
        (
            "random-spikes",
            "every=1s,x=normal:2:1,length=1s",
            "one of uniform, exponential, lognormal, pareto",
        ),
        ("random-spikes", "every=1s,x=uniform:4:2,length=1s", "in ascending order wanted"),
        ("random-spikes", "every=1s,x=uniform:4,length=1s", "uniform:LEAST:MOST wanted"),
        ("bursts", "cv=0.5", "more than 1 wanted"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(word: str, text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        given_as(word, text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Spike(70 * S, S, 2), "begins at 70s; the schedule spans 0s to 59.9s"),
        (given_as("line", "points=2m:1/3m:2"), "within the schedule's span of 59.9s"),
        (given_as("bursts", "cv=50,each=1ms"), "can be had with"),
        (given_as("random-spikes", "every=1ms,x=2,length=1ms"), "raise every"),
        (given_as("wave", "period=1us,low=1,high=2"), "a longer one wanted"),
    ],
    ids=str,
)
def test_a_shape_that_does_not_fit_the_replay_is_refused(shape: Shape, words: str) -> None:
    with pytest.raises(BadInput, match=words.replace(".", r"\.")):
        laid(even(600), shape)


def test_a_window_without_requests_and_a_replay_without_any_are_refused() -> None:
    rows = base_rows(np.array([0, 50 * S], np.int64), np.full(2, -1), np.arange(2))
    with pytest.raises(BadInput, match=r"no request is due in its window; the schedule spans 0s to 50s"):
        laid(rows, Spike(10 * S, S, 2))
    with pytest.raises(BadInput, match="no request is left"):
        laid(rows, Quiet(0, 100 * S, 0.0))


def test_lengths_in_shares_are_those_of_the_replay_after_slice_and_speed() -> None:
    plan = Plan(slice_=(10 * S, 40 * S), speed=3, shapes=(given_as("spike", "at=50%,for=50%,x=3"),))
    per_s = np.bincount(apply_plan(even(6000), plan).due_ns // S)
    # 30 s of 100/s in 10 s; the second half, up to the end, threefold.
    np.testing.assert_array_equal(per_s[:5], [300] * 5)
    assert per_s[5:].sum() == 3 * 1500
    assert math.isclose(len(per_s), 10)
