"""Figures of repeats as one row: medians, ranges, ratios. Markdown, which reads as well on a terminal."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

COLUMNS = (
    *("p50 µs", "p99 µs", "max µs", "rate/s", "CPU µs each", "CPU s in all"),
    *("steady p50 µs", "steady p99 µs", "steady %"),
)


@dataclasses.dataclass(frozen=True)
class Figures:
    """One run of one sender. `values` stand in the order of `COLUMNS`; NaN where not known."""

    arrived: int
    expected: int
    values: tuple[float, ...]
    remark: str = ""


def shown(value: float) -> str:
    """Three digits or all of the whole ones; "–" for what is not known."""
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Iterable[float]) -> str:
    """The median and, in brackets, the range."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    middle = shown(statistics.median(known))
    return f"{middle} ({shown(min(known))}–{shown(max(known))})"


def median_of(runs: Sequence[Figures], column: str) -> float:
    """The median over repeats; NaN without any."""
    values = [run.values[COLUMNS.index(column)] for run in runs]
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def ratio(value: float, reference: float) -> str:
    """E.g. "12×"."""
    return "–" if math.isnan(value) or math.isnan(reference) or not reference else f"{value / reference:.2g}×"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for those who read it as it is."""
    everything = [list(titles), *map(list, rows)]
    widths = [max(len(row[at]) for row in everything) for at in range(len(titles))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in everything]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def pacing_table(
    found: dict[str, dict[str, list[Figures]]], limit: str, ours: str, failed: dict[tuple[str, str], str]
) -> str:
    """Rows by load and sender. Ratios are of medians: p99 to the machine's limit, p99 and CPU to ours."""
    ratios_of = ("p99 ÷ limit", "p99 ÷ ours", "steady p99 ÷ limit", "steady p99 ÷ ours", "CPU ÷ ours")
    titles = ("load", "sender", "arrived", *COLUMNS, *ratios_of)
    rows = []
    for load, senders in found.items():
        base, best = senders.get(limit, []), senders.get(ours, [])
        for sender, runs in senders.items():
            if not runs:
                rows.append(
                    [load, sender, f"no run: {failed.get((load, sender), '?')}", *[""] * (len(titles) - 3)]
                )
                continue
            p99, each = median_of(runs, "p99 µs"), median_of(runs, "CPU µs each")
            steady = median_of(runs, "steady p99 µs")
            arrived = sorted({f"{run.arrived}/{run.expected}{run.remark}" for run in runs})
            ratios = (
                ratio(p99, median_of(base, "p99 µs")),
                ratio(p99, median_of(best, "p99 µs")),
                ratio(steady, median_of(base, "steady p99 µs")),
                ratio(steady, median_of(best, "steady p99 µs")),
                ratio(each, median_of(best, "CPU µs each")),
            )
            columns = (spread(run.values[at] for run in runs) for at in range(len(COLUMNS)))
            rows.append([load, sender, ", ".join(arrived), *columns, *ratios])
    return table(titles, rows)
