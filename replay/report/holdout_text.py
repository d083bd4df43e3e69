"""A hold-out of amplification as a table and one sentence. Computes nothing."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from replay.report.figures import format_number
from replay.transform.amplification.holdout import BY_CHANCE, OFF, WITHIN, HeldOut

_STYLES: Final = {WITHIN: "green", BY_CHANCE: "yellow", OFF: "bold red"}


def holdout_report(found: HeldOut) -> RenderableType:
    """The table of what was compared, how it was amplified, and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("measure")
    for title in ("truth", "amplified", "ratio", "± error", "single thinnings"):
        table.add_column(title, justify="right")
    table.add_column("")
    for one in found.compared:
        table.add_row(
            one.name,
            format_number(one.truth),
            format_number(one.amplified),
            f"{one.ratio:.3f}",
            f"{one.error:.3f}",
            f"{one.lowest:.2f} to {one.highest:.2f}",
            Text(one.verdict, style=_STYLES[one.verdict]),
        )
    told = f"{found.requests:,} requests, thinned to 1/{found.factor:g} by sessions {found.thinnings} times"
    return Group(table, Text(), Text(f"{told}; the last: {found.step}"), Text(_sentence(found), style="bold"))


def _sentence(found: HeldOut) -> str:
    off = [one.name for one in found.compared if one.verdict == OFF]
    if off:
        return f"Amplified by {found.method}, this traffic is not what so many users make: {', '.join(off)}."
    unsure = [one.name for one in found.compared if one.verdict == BY_CHANCE]
    if unsure:
        return f"Nothing is off by more than chance; too little traffic to be sure of: {', '.join(unsure)}."
    return "Amplified traffic is what so many users make, in all that was compared."
