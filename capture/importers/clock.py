"""Clocks that were rounded: how coarse a source's clock is, and what is done about it. Pure.

A trace that stamps many requests with one instant shows bursts that never were. So a rounded clock is told
in the trace's notes, spread (`--unround`), or refused (`--refuse-rounded`). Every importer whose source may
be rounded asks here.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from capture.failures import BadInput

FINE_NS: Final = 10_000_000
"""A clock that steps by no more than this counts as fine."""
_STREAM: Final = 3
_ENOUGH: Final = 20


class Rounded(enum.Enum):
    """What to do about a rounded clock."""

    KEEP = "keep"
    SPREAD = "spread"
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True)
class Clock:
    """A source's clock and what was decided about it: the tick that the trace states, and its notes."""

    source_tick_ns: int
    tick_ns: int
    notes: tuple[str, ...]
    spread: bool


def decided(source_tick_ns: int, rounded: Rounded, place: Path, *, finest_ns: int) -> Clock:
    """What `rounded` makes of a clock that steps by `source_tick_ns`.

    `finest_ns` is the tick once it is spread. Raises `BadInput` where a rounded clock is to be refused.
    """
    tick_s = f"{source_tick_ns / 1e9:g} s"
    if source_tick_ns <= FINE_NS:
        idle = ("--unround changed nothing: the source's clock isn't rounded",)
        return Clock(source_tick_ns, source_tick_ns, idle if rounded is Rounded.SPREAD else (), spread=False)
    if rounded is Rounded.REFUSE:
        raise BadInput(
            f"{place}: a clock that ticks every {tick_s} found, one of {FINE_NS / 1e9:g} s or finer wanted; "
            "add --unround to spread the requests of each tick over it"
        )
    if rounded is Rounded.SPREAD:
        told = f"arrivals were un-rounded: uniform within the source clock's tick of {tick_s}"
        return Clock(source_tick_ns, finest_ns, (told,), spread=True)
    told = (
        f"the source's clock ticks every {tick_s}, with many requests on the same instant; "
        "add --unround to spread them before you replay or measure bursts"
    )
    return Clock(source_tick_ns, source_tick_ns, (told,), spread=False)


def clock_tick_ns(arrivals_ns: Iterable[int], stated_ns: int) -> int:
    """The step of the clock that stamped ascending arrivals: the commonest gap between distinct instants.

    `stated_ns`, the step in which they are written, unless the clock is plainly rounded: at least two
    requests per distinct instant on average, and no gap below `FINE_NS`.
    """
    rows, before = 0, None
    gaps: Counter[int] = Counter()
    for arrival in arrivals_ns:
        rows += 1
        if before is not None and arrival != before:
            gaps[arrival - before] += 1
        before = arrival
    if not gaps or min(gaps) < FINE_NS or rows < 2 * (1 + gaps.total()):
        return stated_ns
    return gaps.most_common(1)[0][0]


def written_tick_ns(stamps_ns: Iterable[int], finest_ns: int = 1000) -> int:
    """The coarsest of 1 s, 100 ms, 10 ms … `finest_ns` that all the stamps are multiples of.

    Between 1 s and 1 ms only where there are enough stamps for that to be no chance.
    """
    tick, stamps = 1_000_000_000, 0
    for stamps, stamp in enumerate(stamps_ns, start=1):  # noqa: B007 - how many there were
        while tick > finest_ns and stamp % tick:
            tick //= 10
        if tick <= finest_ns:
            break
    if stamps < _ENOUGH and 1_000_000 < tick < 1_000_000_000:
        tick = 1_000_000
    return max(tick, finest_ns)


def chance_of(seed: int) -> np.random.Generator:
    """The source of chance for un-rounding under a user's seed."""
    return np.random.default_rng([seed, _STREAM])


def unrounded[T](
    items: Iterable[T],
    tick_ns: int,
    chance: np.random.Generator,
    *,
    at: Callable[[T], int],
    later: Callable[[T, int], T],
) -> Iterator[T]:
    """Items spread uniformly over the tick that follows their instant, and not past a later instant.

    `at` gives an item's instant, `later` the item that many ns later. Items that stand together on one
    instant keep their order. Holds one tick's items at a time.
    """
    held: list[T] = []
    instant = 0
    for item in items:
        stamp = at(item)
        if held and stamp != instant:
            gap = stamp - instant
            yield from _spread(held, min(tick_ns, gap) if gap > 0 else tick_ns, chance, later)
            held = []
        instant = stamp
        held.append(item)
    yield from _spread(held, tick_ns, chance, later)


def _spread[T](
    held: list[T], width_ns: int, chance: np.random.Generator, later: Callable[[T, int], T]
) -> Iterator[T]:
    offsets = np.sort(chance.integers(0, width_ns, len(held)))
    for item, offset in zip(held, offsets.tolist(), strict=True):
        yield later(item, offset)
