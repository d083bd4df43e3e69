"""Up to which rate is a sender punctual? Rates are doubled until it is not, and then halved in between."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from loads import constant
from pacing import run_once
from senders import Places, Sender
from server import BenchmarkError
from table import COLUMNS, Figures, ratio, shown, table

P99_US = 5_000.0
LEAST_SHARE = 0.99
"""Of the requests, and of the rate: a tool that leaves some out, or falls behind, does not hold the rate."""
TRIES = 2
FIRST_RATE_PER_S = {True: 100.0, False: 500.0}
MOST_RATE_PER_S = 64_000.0
TITLES = ("sender", "holds /s", "p99 µs there", "CPU µs each there", "not", "because", "ours ÷ it")


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """The highest rate that held with its figures, and the lowest that did not, with what was wrong."""

    held_per_s: float = math.nan
    held: Figures | None = None
    failed_per_s: float = math.nan
    failure: str = ""


def fault(figures: Figures, rate_per_s: float) -> str:
    """What keeps a run from holding its rate; empty if it does."""
    values = dict(zip(COLUMNS, figures.values, strict=True))
    if figures.arrived < LEAST_SHARE * figures.expected:
        return f"{figures.arrived} of {figures.expected} arrived"
    if values["rate/s"] < LEAST_SHARE * rate_per_s:
        return f"{shown(values['rate/s'])}/s achieved"
    return f"p99 {shown(values['p99 µs'])} µs" if values["p99 µs"] >= P99_US else ""


def _tried(places: Places, program: str, sender: Sender, rate_per_s: float, seconds: float) -> Figures | str:
    """The figures of the first try that held, else what was wrong with the last."""
    wrong = ""
    for _ in range(TRIES):
        try:
            figures = run_once(places, program, sender, constant(rate_per_s, seconds))
        except BenchmarkError as failure:
            wrong = str(failure)
            continue
        if not (wrong := fault(figures, rate_per_s)):
            return figures
    return wrong


def ceiling_of(
    places: Places,
    program: str,
    sender: Sender,
    seconds: float,
    most_between: int,
    tell: Callable[[str], None],
) -> Ceiling:
    """Doubling from a low rate, then bisecting by ratio; a rate holds if one of `TRIES` does."""
    found, between = Ceiling(), 0
    rate_per_s = FIRST_RATE_PER_S[sender.slow]
    while rate_per_s <= MOST_RATE_PER_S and between <= most_between:
        held = _tried(places, program, sender, rate_per_s, seconds)
        tell(f"{sender.name} {rate_per_s:g}/s: {held if isinstance(held, str) else 'holds'}")
        if isinstance(held, str):
            found = dataclasses.replace(found, failed_per_s=rate_per_s, failure=held)
        else:
            found = dataclasses.replace(found, held_per_s=rate_per_s, held=held)
        if math.isnan(found.failed_per_s):
            rate_per_s *= 2
            continue
        between += 1
        if math.isnan(found.held_per_s):
            rate_per_s /= 2
        else:
            rate_per_s = float(round(math.sqrt(found.held_per_s * found.failed_per_s)))
    return found


def ceiling_section(
    places: Places,
    senders: Sequence[tuple[Sender, str]],
    seconds: float,
    most_between: int,
    ours: str,
    tell: Callable[[str], None],
) -> str:
    """A heading and a table of all senders' ceilings; the ratio is of rates, to the sender named `ours`."""
    found = {
        sender.name: ceiling_of(places, program, sender, seconds, most_between, tell)
        for sender, program in senders
    }
    best = found.get(ours, Ceiling()).held_per_s
    rows = []
    for name, one in found.items():
        values = (math.nan,) * len(COLUMNS) if one.held is None else one.held.values
        p99, each = values[COLUMNS.index("p99 µs")], values[COLUMNS.index("CPU µs each")]
        columns = (shown(one.held_per_s), shown(p99), shown(each), shown(one.failed_per_s), one.failure)
        rows.append([name, *columns, ratio(best, one.held_per_s)])
    head = (
        f"## The highest rate with p99 lateness under {P99_US / 1e3:g} ms, constant, {seconds:g} s each\n\n"
        f"Rates are doubled until one does not hold, then {most_between} between are tried; each up to "
        f"{TRIES} times. To hold: {LEAST_SHARE:.0%} of the requests arrive, at {LEAST_SHARE:.0%} of the rate "
        "or more. One core for each tool with all its processes but GuideLLM.\n\n"
    )
    return head + table(TITLES, rows)
