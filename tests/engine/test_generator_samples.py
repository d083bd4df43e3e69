"""What a worker remembers of itself: bounded, and never losing the worst."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.engine.cpu_speed import CpuSpeed, work_ns
from replay.engine.watch import (
    BUSY,
    COLLECTING,
    MACHINE,
    MAX_SAMPLES,
    NO_CPU,
    SLOWED,
    STOPPED,
    Account,
    cause_of,
    keep_worst,
)


@given(st.integers(0, 3 * MAX_SAMPLES), st.randoms(use_true_random=False))
def test_the_worst_samples_stay_however_many_come(count: int, random) -> None:  # type: ignore[no-untyped-def]
    came = [random.randrange(10**9) for _ in range(count)]
    samples: list[int] = []
    for sample in came:
        keep_worst(samples, sample)
    assert len(samples) <= MAX_SAMPLES
    worst = sorted(came, reverse=True)[: MAX_SAMPLES // 2]
    assert sorted(samples, reverse=True)[: len(worst)] == worst


@pytest.mark.parametrize(
    ("after", "cause"),
    [
        (Account(0, 0, 0, 1), STOPPED),
        (Account(9, 0, 0, 1), STOPPED),
        (Account(6, 0, 6, 0), COLLECTING),
        (Account(1, 6, 1, 0), NO_CPU),
        (Account(6, 1, 1, 0), BUSY),
        (Account(1, 1, 1, 0), MACHINE),
    ],
)
def test_a_stall_is_named_by_what_took_half_of_it(after: Account, cause: str) -> None:
    assert cause_of(10, Account(0, 0, 0, 0), after, usual_cpu_ns=0) == cause


def test_a_loop_that_is_busy_while_the_cpu_is_slow_is_slowed() -> None:
    nothing = Account(0, 0, 0, 0)
    assert cause_of(10, nothing, Account(6, 1, 1, 0), usual_cpu_ns=0, slowed=True) == SLOWED
    assert cause_of(10, nothing, Account(1, 6, 1, 0), usual_cpu_ns=0, slowed=True) == NO_CPU


def test_the_cpu_is_slow_by_its_own_best() -> None:
    speed = CpuSpeed()
    assert speed.slow_share == 0
    found = []
    for took_ns in (7000, 5000, 9000, 10_001, 25_000, 5100):
        speed.add(took_ns)
        found.append(speed.is_slow)
    assert found == [False, False, False, True, True, False]
    assert speed.slow_share == pytest.approx(2 / 6)
    speed.begin()
    speed.add(10_001)
    assert speed.slow_share == 1


def test_the_work_that_is_timed_takes_time() -> None:
    assert 0 < work_ns() < 10**9


def test_what_the_loop_takes_anyway_is_no_cause() -> None:
    assert cause_of(10, Account(0, 0, 0, 0), Account(6, 0, 0, 0), usual_cpu_ns=3) == MACHINE
