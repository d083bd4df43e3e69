"""Traces and schedules as lines of text and as JSON, for `inspect` and `transform`. Computes nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from replay.report.figures import format_number
from replay.transform.inspection import TraceFacts
from replay.transform.schedule_facts import ScheduleFacts
from replay.transform.schedule_format import Lineage


def schedule_lines(name: str, facts: ScheduleFacts, lineage: Lineage) -> Iterator[str]:
    """A schedule in a few lines: size, span, rate, phases, lineage."""
    span_s = facts.span_ns / 1e9
    rate = facts.rows / span_s if span_s > 0 else math.nan
    yield f"{name}: {facts.rows:,} requests over {format_number(span_s)} s, {format_number(rate)}/s"
    if facts.phases[1:].any():
        named = zip(lineage.phases, facts.phases.tolist(), strict=False)
        yield "  phases: " + ", ".join(f"{phase} {count:,}" for phase, count in named if count)
    yield f"  sessions: {'' if facts.sessions_exact else 'about '}{facts.sessions:,}"
    yield f"  from {lineage.trace_path} ({lineage.trace_rows:,} requests)"
    yield f"  steps: {'; '.join(lineage.steps) or 'none'} · seed {lineage.seed}"


def trace_lines(facts: TraceFacts) -> Iterator[str]:
    """A trace in some twenty lines, warnings last."""
    yield f"{facts.name}: {facts.rows:,} requests over {format_number(facts.span_s)} s"
    busiest = f"{facts.peak_1s_per_s:,.0f} in the busiest second"
    yield f"  rate       {format_number(facts.mean_per_s)}/s on average, {busiest}"
    if facts.dispersion:
        named = ", ".join(f"{window} {format_number(value)}" for window, value in facts.dispersion.items())
        yield f"  burstiness index of dispersion {named} (1 is Poisson)"
    turns = f"{facts.multi_turn_sessions:,} with several turns (longest {facts.longest_session_turns})"
    yield f"  sessions   {facts.sessions:,}, {turns}"
    yield f"  endpoints  {_counted(facts.endpoints)}"
    yield f"  models     {_counted(facts.models)}"
    yield f"  outcomes   {_counted(facts.outcomes)}"
    yield f"  statuses   {_counted(facts.statuses)}"
    yield f"  streams    {facts.streams:,}"
    stated = f"stated for {facts.rows_with_usage:,} requests"
    yield f"  tokens     {facts.input_tokens:,} in, {facts.output_tokens:,} out, {stated}"
    yield f"  bodies     {facts.request_body_bytes:,} bytes of requests"
    yield f"  source     {facts.source}" + (f", from {', '.join(facts.upstreams)}" if facts.upstreams else "")
    dropped = facts.counts.get("dropped") or {}
    yield f"  capture    {_capture(facts.counts)}, dropped {_counted(dropped) if dropped else 'none'}"
    if chosen := _chosen(facts):
        yield f"  only       {', '.join(chosen)}"
    for note in facts.notes:
        yield f"  note       {note}"
    for warning in facts.warnings:
        yield f"  WARNING    {warning}"


def trace_json(facts: TraceFacts) -> dict[str, Any]:
    """The facts as JSON values; NaN becomes null."""
    fields = dataclasses.asdict(facts)
    rate = fields.pop("rate")
    fields["rate"] = {
        "width_s": rate["width_s"],
        "start_s": [float(value) for value in rate["start_s"]],
        "per_s": [float(value) for value in rate["per_s"]],
    }
    fields["mean_per_s"] = None if math.isnan(facts.mean_per_s) else facts.mean_per_s
    return {"schema": "peaktape.trace/1", **fields}


def _chosen(facts: TraceFacts) -> list[str]:
    """What part of the traffic the trace is, nothing where it is all of it."""
    named = {"filter": "filter {}", "max_body_bytes": "bodies of up to {:,} bytes"}
    by_rule = [text.format(facts.choice[name]) for name, text in named.items() if name in facts.choice]
    return by_rule + ([facts.sampling] if facts.sampling != "all" else [])


def _counted(counts: Mapping[str, int], most: int = 6) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _capture(counts: Mapping[str, Any]) -> str:
    passed = counts.get("not_chosen") or {}
    not_chosen = f", not chosen {_counted(passed)}" if passed else ""
    elsewhere = f" and {counts['elsewhere']:,} in segments not here" if counts.get("elsewhere") else ""
    recorded = f"recorded {counts.get('recorded', 0):,}{elsewhere}"
    return f"seen {counts.get('seen', 0):,}, {recorded}{not_chosen}"
