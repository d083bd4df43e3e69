"""Doubts about a trace's clock, in words: too coarse, corrupt, with gaps, too short to judge; and what to do.

Each function takes arrivals (int64 ns, ascending, from about 0) or what a trace says of itself and returns
the doubts it has, none for a trace that gives no cause. Time that runs backwards between rows is refused by
`trace_reader`, which says where; answers that end before they began are counted here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.burst_curve import FEWEST_WINDOWS, WINDOWS_S
from replay.transform.gaps import BLOCK_ROWS, gap_blocks, some_gaps

Int64 = npt.NDArray[np.int64]

COARSE_TICK_NS: Final = 1_000_000_000
FINE_TICK_NS: Final = 10_000_000
YEAR_S: Final = 365.25 * 86400
LONGEST_SPAN_S: Final = 10 * YEAR_S
_ENOUGH: Final = 20
_MINUTE_NS: Final = 60_000_000_000
_LOST_FROM_S: Final = 10.0


def all_doubts(
    arrival_ns: Int64,
    stated_tick_ns: int = 1,
    recorded_ns: Sequence[tuple[int, int | None]] = (),
    ended_early: int = 0,
) -> tuple[str, ...]:
    """Every doubt of this module about one trace."""
    return (
        *span_warnings(arrival_ns),
        *clock_warnings(arrival_ns, stated_tick_ns),
        *repetition_warnings(arrival_ns),
        *gap_warnings(recorded_ns),
        *silence_warnings(arrival_ns, has_gaps=len(recorded_ns) > 1),
        *backwards_warnings(ended_early),
        *short_warnings(arrival_ns),
    )


def span_warnings(arrival_ns: Int64) -> tuple[str, ...]:
    """A doubt about a trace that spans more than `LONGEST_SPAN_S`: its instants are hardly offsets."""
    span_s = int(arrival_ns[-1] - arrival_ns[0]) / 1e9
    if span_s <= LONGEST_SPAN_S:
        return ()
    return (
        f"arrivals span {span_s / YEAR_S:,.0f} years: arrival_ns must be ns from the trace's zero; "
        "was it made with another unit, or with a wall clock?",
    )


def gap_warnings(recorded_ns: Sequence[tuple[int, int | None]]) -> tuple[str, ...]:
    """A doubt where recording was off between spans (start, end; None where unknown) in which it was on."""
    gaps_ns: list[int] = []
    until_ns: int | None = None
    for start_ns, end_ns in sorted(recorded_ns, key=lambda span: span[0]):
        if until_ns is not None and start_ns > until_ns:
            gaps_ns.append(start_ns - until_ns)
        if end_ns is None:
            break
        until_ns = end_ns if until_ns is None else max(until_ns, end_ns)
    if not gaps_ns:
        return ()
    times = "once" if len(gaps_ns) == 1 else f"{len(gaps_ns):,} times"
    return (
        f"recording was off {times}, {sum(gaps_ns) / 1e9:.3g} s in all: no arrivals there is no quiet; "
        "take a part without a gap with --slice",
    )


def clock_warnings(arrival_ns: Int64, stated_tick_ns: int = 1) -> tuple[str, ...]:
    """Doubts about a trace's clock: a coarse tick (as its source states, or as seen), or no time passing."""
    if len(arrival_ns) < _ENOUGH:
        return ()
    if arrival_ns[-1] == arrival_ns[0]:
        return (
            "all requests have the same arrival instant: the source's clock was lost; nothing about rate or "
            "bursts can be said, import from a source that has instants",
        )
    passed, tick_ns = 0, 0
    for _, gaps in gap_blocks(arrival_ns):
        passed += int(np.count_nonzero(gaps))
        tick_ns = math.gcd(tick_ns, int(np.gcd.reduce(gaps)))
    ties = 1 - passed / (len(arrival_ns) - 1)
    some = some_gaps(arrival_ns)
    typical_ns = int(np.median(some[some > 0])) if some.any() else tick_ns
    tick_ns = max(stated_tick_ns, tick_ns)
    if tick_ns < COARSE_TICK_NS and ties > 0.5 and typical_ns >= COARSE_TICK_NS / 2:
        tick_ns = typical_ns
    # A fine tick that nothing ties on, such as a load generator's constant pace, hides no burst.
    if tick_ns <= FINE_TICK_NS or (tick_ns < COARSE_TICK_NS / 2 and ties < 0.02):
        return ()
    from_s = FEWEST_WINDOWS * tick_ns / 1e9
    return (
        f"the clock ticks every {tick_ns / 1e9:.3g} s ({ties:.0%} of arrivals tie): bursts shorter than some "
        f"ticks are not real; judge windows of {from_s:g} s and longer, or import again with --unround",
    )


def repetition_warnings(arrival_ns: Int64) -> tuple[str, ...]:
    """Doubts about minutes that are too equal: the same instants in each, or the same number in each.

    Equal counts: Fisher's index of dispersion test, (n − 1)·variance/mean against the lower tail of χ² with
    n − 1 degrees of freedom, at one in a million.
    """
    from scipy.special import chdtr

    zero_ns = int(arrival_ns[0]) if len(arrival_ns) else 0
    whole = (int(arrival_ns[-1]) - zero_ns) // _MINUTE_NS if len(arrival_ns) else 0
    if whole < FEWEST_WINDOWS or whole > 10 * len(arrival_ns):
        return ()
    edges = np.searchsorted(arrival_ns, zero_ns + np.arange(whole + 1) * _MINUTE_NS)
    counts = np.diff(edges)
    filled = int(np.count_nonzero(counts >= 3))
    if filled >= FEWEST_WINDOWS:
        sums = np.concatenate(list(_minute_sums(arrival_ns, edges)))
        same = np.unique(sums, return_counts=True)[1].max() / filled
        if same >= 0.5:
            return (
                f"{same:.0%} of the minutes hold the same arrivals to the ns: a pattern was repeated, such "
                "as a load generator's pace, or the clock's minutes were lost; find the raw log",
            )
    mean = float(counts.mean())
    statistic = (whole - 1) * float(counts.var(ddof=1)) / mean
    if mean >= 1 and chdtr(whole - 1, statistic) < 1e-6:
        return (
            f"the minutes are almost equal ({counts.min():,} to {counts.max():,} requests; chance makes "
            f"±{np.sqrt(mean):.2g}): a load generator's traffic, or sums per minute that were spread out, "
            "not users'; amplifying it makes no peak, add bursts or capture real traffic",
        )
    return ()


def _minute_sums(arrival_ns: Int64, edges: Int64) -> Iterator[npt.NDArray[np.uint64]]:
    """A number for each minute with at least three arrivals, equal for equal instants in it; in blocks.

    Minute k holds the arrivals from edges[k] to edges[k + 1].
    """
    low, whole = 0, len(edges) - 1
    while low < whole:
        high = int(np.searchsorted(edges, edges[low] + BLOCK_ROWS, side="right")) - 1
        high = min(max(high, low + 1), whole)
        offset = ((arrival_ns[edges[low] : edges[high]] - arrival_ns[0]) % _MINUTE_NS).astype(np.uint64)
        mixed = (offset ^ (offset >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        counts = np.diff(edges[low : high + 1])
        if len(mixed):
            starts = (edges[low:high] - edges[low])[counts > 0]
            yield np.add.reduceat(mixed ^ (mixed >> np.uint64(32)), starts)[counts[counts > 0] >= 3]
        low = high


def silence_warnings(arrival_ns: Int64, *, has_gaps: bool = False) -> tuple[str, ...]:
    """A doubt about silences that neither the rate nor the other gaps explain: was recording off?

    A silence counts from 10 s, when it is 20 times as long as all but one gap in a thousand and would come
    once in a billion such traces by chance at the trace's own rate. Not asked where the trace tells its gaps.
    """
    if has_gaps or len(arrival_ns) < 100:
        return ()
    usual_s = float(np.quantile(some_gaps(arrival_ns) / 1e9, 0.999))
    longest_s = max(int(gaps.max()) for _, gaps in gap_blocks(arrival_ns)) / 1e9
    span_s = int(arrival_ns[-1] - arrival_ns[0]) / 1e9
    rate = (len(arrival_ns) - 1) / max(span_s - longest_s, 1e-9)
    by_chance_s = (np.log(len(arrival_ns) - 1) + np.log(1e9)) / rate
    least_s = max(_LOST_FROM_S, 20 * usual_s, by_chance_s)
    silences = [first + np.flatnonzero(gaps / 1e9 >= least_s) for first, gaps in gap_blocks(arrival_ns)]
    silent = np.concatenate(silences)
    if not len(silent):
        return ()
    lengths_ns = arrival_ns[silent + 1] - arrival_ns[silent]
    longest = int(silent[np.argmax(lengths_ns)])
    at_s = float(arrival_ns[longest] - arrival_ns[0]) / 1e9
    more = f" and {len(silent) - 1} more such silences" if len(silent) > 1 else ""
    return (
        f"no arrivals for {longest_s:,.3g} s from {at_s:,.1f} s on{more}, at {rate:,.3g}/s otherwise: "
        "was recording off, or the service down? take the part before or after with --slice",
    )


def backwards_warnings(ended_early: int) -> tuple[str, ...]:
    """A doubt about answers that ended, or began, before their request arrived."""
    if not ended_early:
        return ()
    return (
        f"{ended_early:,} answers ended or began before their request arrived: the source's clock ran "
        "backwards, or was mixed from two hosts; trust arrivals, but no durations of this trace",
    )


def short_warnings(arrival_ns: Int64) -> tuple[str, ...]:
    """A doubt about a trace with too few windows, or too few requests, to tell its bursts."""
    n, span_s = len(arrival_ns), int(arrival_ns[-1] - arrival_ns[0]) / 1e9
    if span_s <= 0:  # another doubt's matter, or one instant alone
        return (
            () if n >= _ENOUGH else ("too short to judge: one instant only; capture for ten minutes or more",)
        )
    missing = [w for w in WINDOWS_S if span_s // w < FEWEST_WINDOWS]
    if not missing:
        return ()
    named = ", ".join(f"{w:g} s" for w in missing)
    return (
        f"too short to judge bursts of {named}: {span_s:,.3g} s of traffic, at least "
        f"{FEWEST_WINDOWS * max(missing):g} s wanted; capture for longer",
    )
