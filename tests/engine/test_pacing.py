"""The pacer: a due queue that is a pure question, and the same on a real loop, late only by the OS."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.engine import timerfd
from replay.engine.pacer import (
    ACTIONS_BETWEEN,
    LEAST_SPIN_NS,
    MOST_SPIN_NS,
    DueQueue,
    Pacer,
    SpinAllowance,
    next_spin_ns,
)


@given(st.lists(st.integers(0, 50), max_size=40), st.lists(st.integers(0, 60), max_size=12))
def test_actions_come_in_due_order_ties_as_put_and_never_early(dues: list[int], looks: list[int]) -> None:
    queue, came = DueQueue(), []
    for number, due in enumerate(dues):
        queue.put(due, lambda number=number: came.append(number))
    for now in [*sorted(looks), 60]:
        while (action := queue.pop_due(now)) is not None:
            action()
        assert all(dues[number] <= now for number in came)
        assert queue.first_ns() is None or queue.first_ns() > now
    assert came == [number for _, number in sorted((due, number) for number, due in enumerate(dues))]
    assert len(queue) == 0


def test_putting_says_whether_the_timer_must_be_set_anew() -> None:
    queue = DueQueue()
    assert [queue.put(due, print) for due in (5, 7, 5, 3)] == [True, False, False, True]
    assert queue.first_ns() == 3


@given(st.integers(0, MOST_SPIN_NS), st.integers(-(10**6), 10**8))
def test_the_spin_covers_the_last_overshoot_within_its_bounds(spin_ns: int, overshoot_ns: int) -> None:
    spin = next_spin_ns(spin_ns, overshoot_ns)
    assert LEAST_SPIN_NS <= spin <= MOST_SPIN_NS
    assert spin >= min(overshoot_ns, MOST_SPIN_NS)


def test_the_spin_sinks_back_when_timers_are_good_again() -> None:
    spin = MOST_SPIN_NS
    for _ in range(300):
        spin = next_spin_ns(spin, 0)
    assert spin == LEAST_SPIN_NS


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)), max_size=60))
def test_spinning_never_takes_more_than_its_share_and_what_was_saved(steps: list[tuple[int, int]]) -> None:
    allowance, now_ns, spun_ns = SpinAllowance(share=0.15, most_ns=50_000), 0, 0
    allowance.at(0)
    for pause_ns, wanted_ns in steps:
        now_ns += pause_ns
        granted_ns = min(wanted_ns, allowance.at(now_ns))
        now_ns += granted_ns
        spun_ns += granted_ns
        allowance.spend(granted_ns)
        assert spun_ns <= 50_000 + 0.15 * now_ns + 1


@pytest.mark.parametrize(("rate_per_s", "spins_ns"), [(100, 150_000), (1000, 119_000), (5000, 0)])
def test_what_actions_take_is_no_time_to_spin_in(rate_per_s: int, spins_ns: int) -> None:
    allowance, gap_ns = SpinAllowance(share=0.15, most_ns=150_000), 10**9 // rate_per_s
    for number in range(100):
        allowance.spend(allowance.at(number * gap_ns))
        allowance.act()
    assert allowance.at(100 * gap_ns) == pytest.approx(spins_ns, rel=0.02)


@pytest.mark.parametrize("native", [True, False], ids=["timerfd", "loop timers"])
async def test_on_a_loop_nothing_is_early_dropped_or_reordered(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native and not timerfd.available():
        pytest.skip("this system has no timerfd")
    if not native:
        monkeypatch.setattr(timerfd, "available", lambda: False)
    pacer = Pacer(asyncio.get_running_loop())
    zero_ns = time.monotonic_ns()
    # Some instants have passed already, some tie, and they are put out of order.
    dues = [zero_ns + offset for offset in (30_000_000, -5, 10_000_000, 10_000_000, 9_999_000, 0)]
    came: list[tuple[int, int]] = []
    finished = asyncio.Event()

    def act(number: int) -> None:
        came.append((number, time.monotonic_ns()))
        if len(came) == len(dues):
            finished.set()

    for number, due in enumerate(dues):
        pacer.at(due, lambda number=number: act(number))
    await finished.wait()
    pacer.close()
    assert all(at >= dues[number] for number, at in came)
    assert [number for number, _ in came] == [1, 5, 4, 2, 3, 0]


async def test_what_only_a_busy_loop_must_be_asked_for_wakes_no_timer_and_is_done_once() -> None:
    pacer, came = Pacer(asyncio.get_running_loop()), list[str]()
    zero_ns = time.monotonic_ns()
    pacer.between(zero_ns, lambda: came.append("replaced"))
    pacer.between(zero_ns + 10, lambda: came.append("kept"))
    assert pacer.slack_ns() is None, "nothing is queued"
    await asyncio.sleep(0.02)
    pacer.catch_up(zero_ns + 9)
    assert came == []
    pacer.at(zero_ns + 10, lambda: came.append("due"))
    pacer.catch_up(zero_ns + 10)
    pacer.catch_up(zero_ns + 11)
    assert came == ["kept", "due"]
    pacer.close()


async def test_between_other_work_a_few_actions_catch_up_and_the_others_come_by_themselves() -> None:
    pacer, came, finished = Pacer(asyncio.get_running_loop()), list[int](), asyncio.Event()
    zero_ns, count = time.monotonic_ns(), 3 * ACTIONS_BETWEEN

    def act(number: int) -> None:
        came.append(number)
        if len(came) == count + 1:
            finished.set()

    pacer.catch_up(zero_ns)  # nothing is queued
    for number in range(count):
        pacer.at(zero_ns + number, lambda number=number: act(number))
    pacer.at(zero_ns + 20_000_000, lambda: act(count))
    pacer.catch_up(zero_ns - 1)
    assert came == []
    pacer.catch_up(zero_ns)
    assert came == [0], "what is not due by then stays"
    pacer.catch_up(zero_ns + count)
    assert came == list(range(1 + ACTIONS_BETWEEN))
    await finished.wait()
    pacer.close()
    assert came == list(range(count + 1))
    assert time.monotonic_ns() >= zero_ns + 20_000_000


@pytest.mark.skipif(not timerfd.available(), reason="this system has no timerfd")
def test_ctypes_and_native_timers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 3.12 the ctypes path is the only one; where both exist, both must fire at the same instant."""
    import os
    import select

    for hidden in (False, True):
        if hidden:
            monkeypatch.delattr(os, "timerfd_create", raising=False)
            monkeypatch.delattr(os, "timerfd_settime_ns", raising=False)
        timer = timerfd.TimerFd()
        at = time.monotonic_ns() + 5_000_000
        timer.arm(at)
        timer.acknowledge()  # not due yet: must not block, must not disarm
        ready, _, _ = select.select([timer.fileno()], [], [], 10)
        assert ready
        assert time.monotonic_ns() >= at
        timer.acknowledge()
        assert not select.select([timer.fileno()], [], [], 0)[0]
        timer.close()
