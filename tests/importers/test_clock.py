"""Rounded clocks: found where they are plainly rounded, and spread without changing order or counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.importers.clock import Rounded, clock_tick_ns, decided, unrounded, written_tick_ns

MS = 1_000_000
TICK_NS = 3000 * MS


def spread(stamps_ns: list[int], tick_ns: int, seed: int) -> list[tuple[int, int]]:
    """(place, un-rounded instant) of each stamp."""
    return list(
        unrounded(
            list(enumerate(stamps_ns)),
            tick_ns,
            np.random.default_rng(seed),
            at=lambda item: item[1],
            later=lambda item, by_ns: (item[0], item[1] + by_ns),
        )
    )


@given(
    ticks=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=20),
    seed=st.integers(0, 2**32 - 1),
)
def test_unrounded_arrivals_ascend_and_stay_within_their_tick(
    ticks: list[tuple[int, int]], seed: int
) -> None:
    stamps, instant = [], 0
    for gap, count in ticks:
        instant += gap * 1000 * MS
        stamps += [instant] * count
    moved = spread(stamps, TICK_NS, seed)
    assert [place for place, _ in moved] == list(range(len(stamps)))
    assert [after for _, after in moved] == sorted(after for _, after in moved)
    assert all(0 <= after - before < TICK_NS for (_, after), before in zip(moved, stamps, strict=True))


@given(stamps=st.lists(st.integers(0, 5).map(lambda s: s * 1000 * MS)), seed=st.integers(0, 2**32 - 1))
def test_stamps_in_any_order_stay_within_their_tick(stamps: list[int], seed: int) -> None:
    moved = spread(stamps, 1000 * MS, seed)
    assert [after // (1000 * MS) for _, after in moved] == [stamp // (1000 * MS) for stamp in stamps]


def test_unrounded_offsets_are_uniform_over_the_tick() -> None:
    moved = spread([tick * TICK_NS for tick in range(500) for _ in range(10)], TICK_NS, 4)
    shares = np.sort([after % TICK_NS / TICK_NS for _, after in moved])
    distance = np.abs(shares - (np.arange(5000) + 0.5) / 5000).max()
    assert distance < 1.63 / np.sqrt(5000)  # Kolmogorov, 1 %


@pytest.mark.parametrize(
    ("arrivals_ms", "tick_ms"),
    [
        ([0, 0, 0, 3000, 3000, 3000, 6000, 6000, 9000], 3000),
        ([0, 0, 2999, 2999, 6000, 6000, 9000, 9000], 3000),
        ([0, 3000, 6000, 9000], 1),
        ([0, 0, 0, 0, 5, 5, 5, 3000], 1),
        ([0, 0, 0, 0], 1),
        ([], 1),
    ],
    ids=["3 s", "3 s within a few ms", "regular, not rounded", "fine clock", "one instant", "nothing"],
)
def test_the_tick_is_found_where_the_clock_is_plainly_rounded(arrivals_ms: list[int], tick_ms: int) -> None:
    found = clock_tick_ns((arrival * MS for arrival in arrivals_ms), MS)
    assert abs(found - tick_ms * MS) <= MS


@pytest.mark.parametrize(
    ("stamps_ns", "tick_ns"),
    [
        ([0, 5_000_000_000], 10**9),
        ([1_500_000_000], MS),
        ([1_500_000_000] * 20, 10**8),
        ([7 * 10**9, 7_001_000_000], MS),
        ([1], 1000),
    ],
)
def test_the_tick_of_a_written_clock_is_the_coarsest_that_fits(stamps_ns: list[int], tick_ns: int) -> None:
    assert written_tick_ns(stamps_ns) == tick_ns


def test_what_is_decided_about_a_clock() -> None:
    place = Path("access.log")
    kept = decided(10**9, Rounded.KEEP, place, finest_ns=1000)
    assert (kept.tick_ns, kept.spread) == (10**9, False)
    assert "--unround" in kept.notes[0]
    moved = decided(10**9, Rounded.SPREAD, place, finest_ns=1000)
    assert (moved.tick_ns, moved.spread) == (1000, True)
    fine = decided(MS, Rounded.REFUSE, place, finest_ns=1000)
    assert (fine.tick_ns, fine.spread, fine.notes) == (MS, False, ())
    with pytest.raises(BadInput, match=r"access.log: a clock that ticks every 1 s found"):
        decided(10**9, Rounded.REFUSE, place, finest_ns=1000)
