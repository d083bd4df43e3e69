"""The words for the server's side of a run and for its cost, that terminal, page and Markdown share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from replay.analysis.planning_values import Cost
from replay.analysis.values import RunSummary, Saturation, ScrapedSource, ServerSeries, ServerSide
from replay.report.figures import (
    MISSING,
    format_bound,
    format_count,
    format_number,
    format_ratio,
    format_seconds,
)

QUANTITY_NAMES: Final[Mapping[str, str]] = {
    "waiting": "requests waiting",
    "running": "requests running",
    "slots": "batch slots in use",
    "kv_cache": "KV cache in use",
    "gpu": "GPU utilisation",
    "gpu_memory": "GPU memory in use",
    "cpu": "CPU utilisation",
    "memory": "memory in use",
    "preemptions": "preemptions",
}


def quantity_name(quantity: str) -> str:
    """A quantity's name in print; a metric that was asked for by name keeps it."""
    return QUANTITY_NAMES.get(quantity, quantity)


def format_quantity(value: float, unit: str) -> str:
    """A value of a series with its unit: a share as "93.0 %", a rate as "1.20/s"."""
    if unit == "share":
        return format_ratio(value)
    return f"{format_number(value)}/s" if unit == "per_s" and math.isfinite(value) else format_number(value)


def series_headings(summary: RunSummary) -> tuple[str, ...]:
    """The headings of `series_rows`: mean, most, and the mean of each phase."""
    return ("source", "quantity", "mean", "most", *(phase.phase for phase in summary.phases))


def series_rows(summary: RunSummary, server: ServerSide) -> list[tuple[str, ...]]:
    """A row per series: what it was on average, at most, and on average in each phase."""
    return [
        (
            series.source,
            quantity_name(series.quantity),
            format_quantity(series.mean, series.unit),
            format_quantity(series.largest, series.unit),
            *(_in_phase(series, phase.phase) for phase in summary.phases),
        )
        for series in server.series
    ]


def saturation_sentences(server: ServerSide) -> tuple[str, ...]:
    """What gave out, first one first, with when it did and how long it lasted."""
    if not server.saturated:
        return (
            ("Nothing that was sampled reached its bound for three samples in a row.",)
            if server.series
            else ()
        )
    units = {(series.source, series.quantity): series.unit for series in server.series}
    found = []
    for place, one in enumerate(server.saturated, start=1):
        unit = units.get((one.source, one.quantity), "")
        bound = format_bound(one.bound) if unit == "share" else f"{one.bound:.3g}"
        found.append(
            f"{place}. {quantity_name(one.quantity)} ({one.source}): {bound} or more from "
            f"{one.since_s:,.1f} s, for {format_seconds(one.held_s)}{_against_latency(one, server)}."
        )
    return tuple(found)


def scrape_doubts(summary: RunSummary) -> tuple[str, ...]:
    """What was asked of endpoints and not answered."""
    if summary.server is None:
        return ()
    return tuple(told for source in summary.server.sources for told in _doubts(source))


def cost_rows(cost: Cost) -> tuple[tuple[str, str], ...]:
    """(name, value) of what the run cost, in the currency of the price."""
    rows = [
        ("price per hour", format_number(cost.price_per_hour)),
        ("this run", format_number(cost.total)),
        ("per 1,000 answers", format_number(cost.per_1000_answers)),
        ("per 1,000 good answers", format_number(cost.per_1000_good_answers)),
        ("per million output tokens", format_number(cost.per_million_output_tokens)),
        ("per million tokens", format_number(cost.per_million_tokens)),
    ]
    return tuple(row for row in rows if row[1] != MISSING)


def _in_phase(series: ServerSeries, phase: str) -> str:
    return format_quantity(series.by_phase.get(phase, math.nan), series.unit)


def _against_latency(one: Saturation, server: ServerSide) -> str:
    if math.isnan(one.before_latency_s):
        return ""
    if abs(one.before_latency_s) <= server.resolution_s:
        return f", as answers became slow (within {format_seconds(server.resolution_s)})"
    when = "before" if one.before_latency_s > 0 else "after"
    return f", {format_seconds(abs(one.before_latency_s))} {when} answers became slow"


def _doubts(source: ScrapedSource) -> Sequence[str]:
    missed = source.due - source.answered
    if not source.answered:
        why = f" ({source.last_error})" if source.last_error else ""
        return [f"server metrics: {source.name} never answered{why}: {source.url}"]
    if missed > max(1, 0.05 * source.due):
        answered = f"{format_count(source.answered)} of {format_count(source.due)} scrapes"
        why = f", last error: {source.last_error}" if source.last_error else ""
        slow = f", the slowest took {format_seconds(source.slowest_s)}"
        return [f"server metrics: {source.name} answered {answered}{slow}{why}"]
    return []
