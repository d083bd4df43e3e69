"""Interleaved runs for the terminal and for scripts: the verdict so far, its figures, what more would take.

What the figures amount to is decided by `replay.analysis.interleaved`.
"""

from __future__ import annotations

import math
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from capture.__about__ import VERSION
from replay.analysis.interleaved import InterleavedResult, PairedFigure
from replay.analysis.values import Verdict
from replay.report.figures import (
    MISSING,
    format_change_ratio,
    format_ns,
    format_quantile,
    format_ratio,
    format_seconds,
)
from replay.report.terminal_parts import TONES, indented, plain_table
from replay.report.wording import metric_name

SCHEMA_VERSION: Final = 1


def ab_report(
    result: InterleavedResult, labels: tuple[str, str], pair_s: float, left_out: int = 0
) -> RenderableType:
    """The verdict, then a line a figure; a pair of runs takes `pair_s`, and so many were left out."""
    word = Text(result.verdict.value.upper(), style=TONES[result.verdict.value])
    told = f"  {labels[1]} against {labels[0]}, {_pairs(result.pairs)}"
    without = f"; {left_out} more left out, with a run that stayed INVALID" if left_out else ""
    head = Text.assemble(word, (told, "bold"), without)
    table = plain_table(header=True)
    for name in ("figure", labels[0], labels[1], "change", f"{1 - result.alpha:.0%} interval", "verdict"):
        table.add_column(name, no_wrap=True)
    for figure in result.figures:
        table.add_row(*_cells(figure))
    return Group(head, indented(table), Text(what_next(result, pair_s)))


def what_next(result: InterleavedResult, pair_s: float) -> str:
    """One sentence: decided, or how many more minutes it would take."""
    if result.decided:
        return "The intervals hold at every look together, so stopping here costs nothing of their certainty."
    if result.pairs < 2:
        return "Two pairs are the least that show how runs differ from each other."
    if result.pairs_needed is None:
        return "More pairs would hardly decide it: the change lies at the edge of the tolerance."
    took = format_seconds(result.pairs_needed * pair_s)
    return (
        f"About {_pairs(result.pairs_needed)} more would decide it, some {took}, if things stay as they are."
    )


def _cells(figure: PairedFigure) -> tuple[str, str, str, str, str, Text]:
    verdict = Text(figure.verdict.value, style=TONES[figure.verdict.value])
    if figure.quantile is None:
        values = format_ratio(figure.baseline), format_ratio(figure.candidate)
        return "error rate", *values, format_change_ratio(figure.change), _interval(figure), verdict
    name = f"{metric_name(figure.metric)} {format_quantile(figure.quantile)}"
    values = format_ns(figure.baseline), format_ns(figure.candidate)
    return name, *values, format_change_ratio(figure.change), _interval(figure), verdict


def _interval(figure: PairedFigure) -> str:
    if not (math.isfinite(figure.low) and math.isfinite(figure.high)) or figure.low <= -1:
        return MISSING
    low, high = (format_change_ratio(end, unit=False) for end in (figure.low, figure.high))
    return f"{low} … {high} %"


def _pairs(count: int) -> str:
    return f"{count} pair of runs" if count == 1 else f"{count} pairs of runs"


def ab_json(
    result: InterleavedResult, labels: tuple[str, str], pair_s: float, left_out: int = 0
) -> dict[str, Any]:
    """The same for scripts; an end of an interval that can't be had is null."""
    return {
        "schema": "peaktape.ab",
        "schema_version": SCHEMA_VERSION,
        "tool_version": VERSION,
        "baseline": labels[0],
        "candidate": labels[1],
        "verdict": result.verdict.value,
        "decided": result.decided,
        "pairs": result.pairs,
        "pairs_left_out": left_out,
        "pairs_needed": result.pairs_needed,
        "seconds_needed": None if result.pairs_needed is None else result.pairs_needed * pair_s,
        "alpha": result.alpha,
        "figures": [
            {
                "metric": figure.metric,
                "quantile": None if figure.quantile is None else format_quantile(figure.quantile),
                "unit": "ratio" if figure.quantile is None else "ns",
                "pairs": figure.pairs,
                "baseline": figure.baseline,
                "candidate": figure.candidate,
                "change_ratio": figure.change,
                "low_ratio": figure.low if math.isfinite(figure.low) and figure.low > -1 else None,
                "high_ratio": figure.high if math.isfinite(figure.high) else None,
                "tolerance_ratio": figure.tolerance,
                "verdict": figure.verdict.value,
                "pairs_needed": figure.pairs_needed,
            }
            for figure in result.figures
        ],
    }


def is_regression(result: InterleavedResult) -> bool:
    """Whether the exit code is that of a regression."""
    return result.verdict is Verdict.REGRESSION
