"""Which requests are shown of a run: few of any size, always the same, never without the slowest."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import MS, MadeRun

from replay.analysis.pairing import pair
from replay.analysis.run_table import RunTable
from replay.analysis.time_values import FAILED, SAMPLED, SLOWEST, Waterfall
from replay.analysis.waterfall import (
    MOST_LANES,
    MOST_TIMELINES,
    MOST_WINDOWS,
    choose,
    most_of_each,
    paired_waterfall,
    run_waterfall,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=80), st.integers(1, 40))
def test_each_is_chosen_once_and_the_slowest_always(requests: list[tuple[int, bool]], most: int) -> None:
    took = np.array([time for time, _ in requests], dtype=np.float64)
    failed = np.array([wrong for _, wrong in requests], dtype=bool)
    chosen = list(choose(took, failed, most))
    indices = [index for index, _ in chosen]
    assert len(set(indices)) == len(indices) == min(most, len(requests))
    slow = sorted(took[index] for index, why in chosen if why == SLOWEST)
    assert slow == sorted(took)[-len(slow) :] if slow else not requests
    assert all(failed[index] for index, why in chosen if why == FAILED)
    assert chosen == list(choose(took, failed, most))


def test_the_sample_stands_for_the_fast_ones_too() -> None:
    took = np.arange(1000, dtype=np.float64)
    sampled = [took[index] for index, why in choose(took, np.zeros(1000, dtype=bool), 20) if why == SAMPLED]
    assert len(sampled) == 10
    assert set(np.diff(sorted(sampled))) <= {109.0, 110.0, 111.0}
    assert min(sampled) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=MOST_WINDOWS), st.sampled_from([1, 2]))
def test_the_page_is_bounded_and_a_small_run_is_shown_whole(due: list[int], lanes: int) -> None:
    most = most_of_each(np.array(due), lanes)
    shown = lanes * sum(min(count, most) for count in due)
    assert shown <= MOST_TIMELINES
    assert most * lanes <= MOST_LANES
    grown = lanes * sum(min(count, most + 1) for count in due)
    assert grown > MOST_TIMELINES or (most + 1) * lanes > MOST_LANES


def run(n: int, *, slow: dict[int, float] | None = None, failed: tuple[int, ...] = ()) -> RunTable:
    e2e = np.full(n, 20.0 * MS)
    for index, value_ms in (slow or {}).items():
        e2e[index] = value_ms * MS
    status = np.full(n, 200)
    status[list(failed)] = 503
    return MadeRun(
        due_ns=np.arange(n) * 1.0 * MS, e2e_ns=e2e, ttft_ns=np.full(n, 5.0 * MS), status=status
    ).run()


def shown_ids(waterfall: Waterfall) -> set[str]:
    return {request.request_id for window in waterfall.windows for request in window.shown}


def test_every_window_tells_how_many_were_due_and_shows_its_slowest() -> None:
    found = run_waterfall(run(6000, slow={10: 900.0, 4321: 700.0}, failed=(77,)), bucket_s=0.05)
    assert sum(window.due for window in found.windows) == 6000
    assert len(found.windows) <= MOST_WINDOWS
    assert sum(len(window.shown) for window in found.windows) <= MOST_TIMELINES
    assert {"r000010", "r004321", "r000077"} <= shown_ids(found)
    for index, window in enumerate(found.windows):
        due_s = [request.lines[0].due_ns / 1e9 for request in window.shown]
        assert due_s == sorted(due_s)
        assert all(-1e-9 <= at - index * found.width_s < found.width_s + 1e-9 for at in due_s)
    (stuck,) = [one for one in found.windows[0].shown if one.request_id == "r000010"]
    assert stuck.why == SLOWEST
    assert stuck.lines[0].end_ns - stuck.lines[0].due_ns == 900 * MS


def test_a_comparison_shows_the_same_requests_of_both_runs() -> None:
    before, after = run(3000, slow={10: 900.0}), run(3000, slow={20: 900.0}, failed=(30,))
    found = paired_waterfall(pair(before, after), before, after, bucket_s=0.05)
    assert {"r000010", "r000020", "r000030"} <= shown_ids(found)
    lines = [request.lines for window in found.windows for request in window.shown]
    assert all(len(both) == 2 and both[0].due_ns == both[1].due_ns for both in lines)
    assert 2 * len(lines) <= MOST_TIMELINES


def test_an_empty_run_has_no_window() -> None:
    assert run_waterfall(run(0), bucket_s=1.0).windows == ()
