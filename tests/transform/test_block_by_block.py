"""What is found block by block, in bounded memory, is what is found in one go."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

import replay.transform.due_slots
import replay.transform.gaps
import replay.transform.packed_rows
import replay.transform.trace_rows
from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import batch_of, write_trace
from replay.transform import burst_curve, clock_doubts, draws
from replay.transform.amplification.spectrum import ArrivalCounts, fast_length
from replay.transform.arrival_facts import arrival_facts, distribution_of
from replay.transform.content_facts import sampling_notes, session_facts
from replay.transform.due_order import DueOrder, in_due_order
from replay.transform.even_sample import EvenSample
from replay.transform.gaps import gap_blocks, some_gaps, window_counts
from replay.transform.ground import Ground
from replay.transform.making import Making
from replay.transform.mixing import Mix, TenantLimit
from replay.transform.pipeline import ahead, stream
from replay.transform.plan import Plan, apply_plan, rows_of_trace
from replay.transform.rows import Rows, same
from replay.transform.schedule_format import SCHEDULE_SCHEMA, Schedule
from replay.transform.session_sample import SessionSample
from replay.transform.sessions import among, distinct
from replay.transform.shapes import Bursts, Spike, Stairs
from replay.transform.trace_rows import TraceRows
from tests.transform.made_requests import row as request

S = 1_000_000_000
law = settings(max_examples=60, deadline=None)


@law
@given(st.lists(st.integers(0, 300), min_size=1, max_size=80), st.sampled_from([1, 3, 40, 1000]))
def test_counts_in_windows_and_gaps_are_those_of_all_at_once(instants: list[int], window_ns: int) -> None:
    at_ns = np.sort(np.array(instants, np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay.transform.gaps, "BLOCK_ROWS", 7)
        blocks = list(window_counts(at_ns, window_ns))
        gaps = [gaps for _, gaps in gap_blocks(at_ns)]
    windows, counts = np.unique((at_ns - at_ns[0]) // window_ns, return_counts=True)
    np.testing.assert_array_equal(np.concatenate([window for window, _ in blocks]), windows)
    np.testing.assert_array_equal(np.concatenate([count for _, count in blocks]), counts)
    np.testing.assert_array_equal(np.concatenate([np.empty(0, np.int64), *gaps]), np.diff(at_ns))
    np.testing.assert_array_equal(some_gaps(at_ns), np.diff(at_ns))


MADE = {
    "poisson": np.cumsum(np.random.default_rng(1).exponential(S / 20, 20_000)).astype(np.int64),
    "coarse": np.cumsum(np.random.default_rng(2).integers(0, 2, 5000)) * 3 * S,
    "repeated": (np.arange(30)[:, None] * 60 * S + np.array([1, 5, 5, 9]) * S).ravel(),
    "silent": np.concatenate([np.arange(3000), 90_000 + np.arange(3000)]) * (S // 50),
}


@pytest.mark.parametrize("name", MADE)
def test_facts_and_doubts_are_those_of_all_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_ns = MADE[name] - MADE[name][0]
    facts, doubts = arrival_facts(at_ns), clock_doubts.all_doubts(at_ns)
    for module in (replay.transform.gaps, burst_curve, clock_doubts):
        monkeypatch.setattr(module, "BLOCK_ROWS", 64)
    again = arrival_facts(at_ns)
    assert again.bursts == facts.bursts
    assert (again.peak_1s_per_s, again.ties, again.rows) == (facts.peak_1s_per_s, facts.ties, facts.rows)
    assert again.gap_cv == pytest.approx(facts.gap_cv, rel=1e-9)
    assert clock_doubts.all_doubts(at_ns) == doubts
    assert doubts or name == "poisson"
    gaps_s = np.diff(at_ns) / 1e9
    assert facts.gap_cv == pytest.approx(gaps_s.std() / gaps_s.mean(), rel=1e-9)


@law
@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=6), st.lists(st.integers(0, 40)))
def test_numbers_are_found_among_the_distinct_ones_of_all_pieces(
    pieces: list[list[int]], asked: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("replay.transform.sessions._FEWEST_WAITING", 10)
        known = distinct(np.array(piece, np.int64) for piece in pieces)
    assert known.tolist() == sorted({number for piece in pieces for number in piece})
    assert among(known, np.array(asked, np.int64)).tolist() == [number in known.tolist() for number in asked]


@law
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 4)),
        max_size=40,
        unique_by=lambda row: row[1:],
    ),
    st.sampled_from([1, S, 2**55]),
)
def test_rows_are_sorted_by_due_row_and_copy_however_far_apart(
    wanted: list[tuple[int, int, int]], unit_ns: int
) -> None:
    """2**55 ns are a year: too far apart for one number that holds instant, row and copy."""
    due, row, copy = (np.array([one[at] for one in wanted], np.int64) for at in range(3))
    session = draws.lone_session(row + 1000 * copy)
    n = len(due)
    rows = Rows(
        due_ns=due * unit_ns,
        row=row,
        copy=copy.astype(np.int32),
        session=session,
        start_ns=due * unit_ns,
        follows=-row,
        think_ns=same(np.int64(0), n),
        phase=same(np.int8(0), n),
    )
    found = in_due_order(rows, copies=5)
    expected = rows.take(np.lexsort((copy, row, due)))
    for name in ("due_ns", "row", "copy", "session", "follows", "think_ns", "phase"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(rows, name).dtype


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    path = tmp_path_factory.mktemp("blocks") / "t.parquet"
    write_trace(path, [batch_of([request(number) for number in range(1200)])], TraceMetadata(0, "test"))
    return open_trace(path)


FEW_TOKENS: dict[str, Any] = {"min_input_tokens": 4000}
PLANS = {
    "mix": Plan(mix=(Mix(x=2, **FEW_TOKENS), Mix(x=0.5, endpoint="/v1/embeddings")), seed=1),
    "one endpoint": Plan(amplify=1.5, shapes=(Spike(10 * S, 60 * S, 3, endpoint="/v1/embeddings"),)),
    "bursts of a model": Plan(
        speed=2, shapes=(Stairs(start_x=1, end_x=2, steps=3), Bursts(cv=2, model="large"))
    ),
    "superposed after a slice": Plan(slice_=(5 * S, 90 * S), thin=0.8, amplify=2.5, method="superposition"),
    "upscaled": Plan(speed=2, amplify=2.5, method="traceupscaler"),
    "limits": Plan(amplify=2, method="jitter", limits=(TenantLimit(tenant="x-tenant", per_s=2, burst=3),)),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_for_some_requests_streams_as_it_is_in_memory(
    trace: Trace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = apply_plan(rows_of_trace(trace)[0], PLANS[name], trace)
    monkeypatch.setattr(replay.transform.trace_rows, "BATCH_ROWS", 50)
    monkeypatch.setattr("capture.trace_stream.STREAM_ROWS", 70)
    monkeypatch.setattr("capture.trace_stream._HEAVY_ROWS", 30)
    making = Making(trace, PLANS[name])
    read: list[int] = []
    found = Schedule.joined(list(making.pieces(read.append)))
    for column in SCHEDULE_SCHEMA.names:
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), err_msg=column)
    assert sum(read) == making.rows_to_read, "progress ends where it was said to end"


@pytest.mark.parametrize("method", ["superposition", "traceupscaler", "resample"])
def test_methods_that_look_at_all_requests_say_so_where_these_are_too_many(trace: Trace, method: str) -> None:
    plan = Plan(amplify=2, method=method)
    steps = plan.bound(Ground(trace))
    taken = []

    def batches() -> Iterator[Rows]:
        for batch in TraceRows(trace).batches(copies=1 << 12):
            taken.append(len(batch))
            yield batch

    with pytest.raises(BadInput, match=r"looks at all requests at once, and more than 300 .* --method auto"):
        list(stream(batches(), steps, None, most_waiting=300))
    assert sum(taken) < trace.rows, "said before all was read"


def test_what_is_made_ahead_comes_in_order_and_its_errors_with_it() -> None:
    def items() -> Any:
        yield from (1, 2, 3)
        raise BadInput("row 4")

    made = ahead(items())
    assert [next(made) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(BadInput, match="row 4"):
        next(made)


@law
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=60),
    st.sampled_from([0, 3, 25]),
    st.sampled_from([1, 1000]),
    st.randoms(use_true_random=False),
)
def test_rows_that_wait_packed_or_in_slots_leave_in_the_order_of_all_at_once(
    wanted: list[tuple[int, int]], spread: int, unit_ns: int, chance: Random
) -> None:
    """Batches whose rows lie within `spread` of their place in time, and slots of two rows, or packed rows
    whose numbers are made anew when they get too large."""
    at = np.cumsum([gap for gap, _ in wanted])
    due = np.array([max(0, int(one) + chance.randint(-spread, spread)) for one in at], np.int64) * unit_ns
    copy = np.array([nth for _, nth in wanted], np.int32)
    n = len(due)
    row = np.arange(n, dtype=np.int64)
    rows = dataclasses.replace(Rows.lone(0, due), copy=copy, session=draws.lone_session(row * 4 + copy))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay.transform.due_slots, "SLOT_ROWS", 2)
        patch.setattr(replay.transform.due_slots, "_SHORTEST_NS", 1)
        patch.setattr(replay.transform.due_slots, "_FEW_SLOTS", chance.choice([1, 3, 16]))
        patch.setattr(replay.transform.due_slots, "_MOST_SLOTS", chance.choice([2, 256]))
        patch.setattr(replay.transform.packed_rows, "_FEWEST_PLACES", 1)
        patch.setattr(replay.transform.packed_rows, "_MOST_PLACES", chance.choice([32, 1 << 10]))
        patch.setattr(replay.transform.packed_rows, "_FEW_ENDS", chance.choice([0, 2]))
        patch.setattr(replay.transform.packed_rows, "_BITS", chance.choice([15, 63]))
        # Where a turn might follow another, rows can't wait packed.
        in_order = DueOrder(4, chance.choice([None, np.zeros(n, np.bool_)]))
        pieces = []
        for start in range(0, n, 5):
            end = min(n, start + 5)
            pieces.append(in_order.push(rows.part(start, end), (int(at[end - 1]) - spread) * unit_ns))
        pieces.append(in_order.finish())
    found = Schedule.joined([piece for piece in pieces if piece is not None])
    expected = rows.take(np.lexsort((copy, row, due)))
    for name in ("due_ns", "row", "copy", "session"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_arrivals_counted_by_borders_make_the_spectrum_of_those_counted_one_by_one() -> None:
    due_ns = MADE["poisson"] - MADE["poisson"][0]
    by_borders, one_by_one = (ArrivalCounts(int(due_ns[-1]), 100) for _ in range(2))
    for part in np.array_split(due_ns, 7):
        by_borders.add(part, None)
        one_by_one.add(part[::-1], draws.lone_session(part))
    assert by_borders.arrivals == one_by_one.arrivals == len(due_ns)
    a, b = by_borders.spectrum(), one_by_one.spectrum()
    np.testing.assert_array_equal(a.total, b.total)
    np.testing.assert_array_equal(a.own, b.own)


@law
@given(st.integers(1, 1 << 21))
def test_a_fast_length_is_the_one_that_the_transform_says(least: int) -> None:
    assert fast_length(least) == fft.next_fast_len(least, real=True)


@law
@given(st.lists(st.lists(st.integers(-1, 50), max_size=20), max_size=9), st.sampled_from([4, 10, 1000]))
def test_an_even_sample_knows_count_and_sum_and_holds_every_so_manieth(
    pieces: list[list[int]], most: int
) -> None:
    sample = EvenSample(most)
    for piece in pieces:
        sample.add(np.array(piece, np.int32))
    known = np.array([value for piece in pieces for value in piece if value >= 0], np.int32)
    found = sample.distribution()
    assert (sample.count, sample.sum) == (len(known), int(known.sum()))
    if found is None:
        assert not len(known)
        return
    steps = [2**power for power in range(12) if len(known[:: 2**power]) <= most]
    whole = distribution_of(known[:: steps[0]])
    assert whole is not None
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.mean == pytest.approx(float(known.mean()))


@pytest.mark.parametrize("most", [200, 10_000])
def test_sampled_sessions_are_whole_and_all_of_them_where_there_is_room(most: int) -> None:
    rng = np.random.default_rng(5)
    session = draws.lone_session(rng.integers(0, 500, 3000))
    at_ns = np.arange(3000)
    sample = SessionSample(most)
    for part in np.array_split(np.arange(3000), 11):
        sample.add(session[part], at_ns[part], at_ns[part] + 1)
    numbers, arrival_ns, end_ns = sample.requests()
    assert len(numbers) <= most
    np.testing.assert_array_equal(arrival_ns, at_ns[np.isin(session, numbers)])
    np.testing.assert_array_equal(end_ns, arrival_ns + 1)
    assert (sample.one_in == 1) == (most > 3000)
    facts = session_facts(numbers, np.empty(0), sample.one_in)
    assert facts.sessions == pytest.approx(len(np.unique(session)), rel=4 * (sample.one_in / 500) ** 0.5)
    assert bool(sampling_notes(sample.one_in)) == (sample.one_in > 1)
