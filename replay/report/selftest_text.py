"""A self-test as a table and one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from replay.analysis.punctuality import Punctuality
from replay.report.figures import format_count, format_ns


def selftest_report(found: Sequence[Punctuality], best: float | None) -> RenderableType:
    """The table of all rates, and up to which one the machine is punctual."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "requests/s",
        "sender",
        "workers",
        "late p50",
        "p99",
        "max",
        "CPU",
        "kept",
        "longest stall",
    ):
        table.add_column(title, justify="left" if title in ("sender", "longest stall") else "right")
    for one in found:
        table.add_row(
            f"{one.rate_per_s:g}",
            one.sender,
            str(one.workers),
            *map(format_ns, (one.p50_ns, one.p99_ns, one.max_ns)),
            f"{one.cpu_cores:.2f}",
            Text("yes", style="green") if one.kept else Text("no", style="bold red"),
            one.stall,
        )
    return Group(table, Text(), Text(_sentence(found, best), style="bold"))


def _sentence(found: Sequence[Punctuality], best: float | None) -> str:
    if best is None:
        return (
            f"On this machine, as busy as it is now, not even {found[0].rate_per_s:g} requests/s are sent on "
            "time (p99 within 1 ms): stop what else runs here, or replay from another machine."
        )
    further = "" if best >= found[-1].rate_per_s else f"; at the next rate, {_next(found, best)}"
    return (
        f"On this machine, as busy as it is now, 99 of 100 requests arrive within 1 ms of their due instant "
        f"up to {format_count(round(best))} requests/s{further}."
    )


def _next(found: Sequence[Punctuality], best: float) -> str:
    one = next(one for one in found if one.rate_per_s > best)
    return f"{one.rate_per_s:g}, p99 was {format_ns(one.p99_ns)}; try more --workers"
