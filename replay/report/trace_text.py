"""Traces and schedules as lines of text, for `inspect` and `transform`. Computes nothing.

Plots are in `inspect_plots`, the page in `inspect_page`, JSON in `trace_json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capture.choice import shares_told
from replay.report.figures import (
    format_bound,
    format_change_ratio,
    format_number,
    format_ratio,
    format_seconds,
)
from replay.transform.arrival_facts import ArrivalFacts, Distribution
from replay.transform.burst_target import TOLERANCE, BurstTarget, TargetPoint
from replay.transform.content_facts import LENGTHS, ContentFacts
from replay.transform.inspection import Facts, InspectedSchedule, TraceFacts
from replay.transform.schedule_facts import ScheduleFacts
from replay.transform.schedule_format import Lineage
from replay.transform.wall_clock import show_instant

_CLONED: Final = re.compile(r"(amplify \S+) \(sessions cloned whole, (.+?)(?:, half of them within|;|\)$)")
_EXPECTED: Final = re.compile(r"expected within ([\d.]+%)")


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
    yield f"  steps: {'; '.join(map(brief_step, lineage.steps)) or 'none'} · seed {lineage.seed}"


def brief_step(step: str) -> str:
    """A step of a lineage for one line: how far clones are shifted at most, and how well that fits."""
    found = _CLONED.match(step)
    if found is None:
        return step
    close = _EXPECTED.search(step)
    fits = f", bursts expected within {close[1]} of their target" if close else ""
    return f"{found[1]} ({found[2]}{fits})"


def facts_lines(facts: Facts) -> Iterator[str]:
    """A trace or a schedule in some twenty lines, warnings last."""
    yield from _arrival_lines(facts.name, facts.arrivals, facts.dispersion, sampled_text(facts))
    yield from _trace_lines(facts) if isinstance(facts, TraceFacts) else _schedule_lines(facts)
    for note in facts.notes:
        yield f"  note       {note}"
    for warning in facts.warnings:
        yield f"  WARNING    {warning}"


def target_lines(target: BurstTarget) -> Iterator[str]:
    """The burst curve against its target, a line a window, and what stands against it."""
    of = f" of its part {target.slice_s[0]:g}s..{target.slice_s[1]:g}s" if target.slice_s else ""
    faster = f", {format_number(target.speed)} times as fast" if target.speed != 1 else ""
    if not target.points:
        yield from (f"Bursts: {note}" for note in target.notes)
        return
    yield f"Bursts: {format_number(target.factor)} times as many users{of}{faster}"
    yield "  index of dispersion should be C + f·(IDC − C), C by a session's own requests: 1 where it has one"
    rows = [("window", "source", "target", "found", "off", "chance", ""), *map(target_row, target.points)]
    if target.points:
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        for row in rows:
            cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=False))
            yield f"  {'  '.join(cells)}  {row[6]}".rstrip()
    for note in target.notes:
        yield f"  note: {note}"


def target_row(point: TargetPoint) -> tuple[str, ...]:
    """Window, source, target, found, how far off, what chance may do, and a word where it is too far."""
    return (
        f"{point.window_s:g} s",
        *map(format_number, (point.source, point.target, point.found)),
        format_change_ratio(point.off),
        f"±{format_change_ratio(point.error).lstrip('+')}",
        "" if point.holds else f"✗ beyond {format_bound(TOLERANCE)}" if point.misses else "? may be chance",
    )


def sampled_text(facts: Facts) -> str:
    """Which share of the sessions the rates are of, and what production had; "" where all were recorded."""
    if not isinstance(facts, TraceFacts) or facts.samples == (1.0,):
        return ""
    recorded = f"recorded at {shares_told(facts.samples)} of sessions"
    if len(facts.samples) > 1:
        return f"{recorded}, in parts: rates of one can't be held against those of another"
    rate = format_number(facts.arrivals.mean_per_s * facts.production_factor)
    return f"{recorded}: production had some {facts.production_factor:.3g}x of this, {rate}/s"


def _arrival_lines(
    name: str, arrivals: ArrivalFacts, dispersion: Mapping[str, float], sampled: str
) -> Iterator[str]:
    yield f"{name}: {arrivals.rows:,} requests over {format_number(arrivals.span_s)} s"
    busiest = f"{arrivals.peak_1s_per_s:,.0f} in the busiest second"
    yield f"  rate       {format_number(arrivals.mean_per_s)}/s on average, {busiest}"
    if sampled:
        yield f"  sampled    {sampled}"
    if dispersion:
        named = ", ".join(f"{window} {format_number(value)}" for window, value in dispersion.items())
        yield f"  burstiness index of dispersion {named} (1 is Poisson)"
    if arrivals.gaps_s is not None:
        at = ", ".join(f"p{100 * q:g} {format_seconds(arrivals.gaps_s.at(q))}" for q in (0.5, 0.9, 0.99))
        ties = f", {format_ratio(arrivals.ties)} tie" if arrivals.ties else ""
        yield f"  gaps       {at}, CV {format_number(arrivals.gap_cv)}{ties}"


def _content_lines(content: ContentFacts) -> Iterator[str]:
    sessions = content.sessions
    turns = f"{sessions.several_turns:,} with several turns (longest {sessions.longest})"
    think = f", think time p50 {format_seconds(sessions.think_s.at(0.5))}" if sessions.think_s else ""
    yield f"  sessions   {sessions.sessions:,}, {turns}{think}"
    for name, lengths in content.lengths.items():
        yield f"  lengths    {LENGTHS[name]}: {quantiles_text(lengths)}"
    if content.prefix is not None:
        over = f"over {content.prefix.prompts:,} prompts"
        yield f"  prefixes   {format_ratio(content.prefix.share)} of prompt blocks were seen before, {over}"


def quantiles_text(lengths: Distribution) -> str:
    """A distribution in one line."""
    at = ", ".join(f"p{100 * q:g} {format_number(lengths.at(q))}" for q in (0.5, 0.9, 0.99))
    return f"{at}, mean {format_number(lengths.mean)}"


def _trace_lines(facts: TraceFacts) -> Iterator[str]:
    yield from _content_lines(facts.content)
    yield f"  endpoints  {counted(facts.endpoints)}"
    yield f"  models     {counted(facts.models)}"
    yield f"  outcomes   {counted(facts.outcomes)}"
    yield f"  statuses   {counted(facts.statuses)}"
    yield f"  streams    {facts.streams:,}"
    stated = f"stated for {facts.rows_with_usage:,} requests"
    yield f"  tokens     {facts.input_tokens:,} in, {facts.output_tokens:,} out, {stated}"
    yield f"  bodies     {facts.request_body_bytes:,} bytes of requests"
    if times := [f"{what} {instant}" for what, instant in times_of_day(facts)]:
        yield f"  times      {', '.join(times)}"
    yield f"  source     {facts.source}" + (f", from {', '.join(facts.upstreams)}" if facts.upstreams else "")
    dropped = facts.counts.get("dropped") or {}
    yield f"  capture    {_capture(facts.counts)}, dropped {counted(dropped) if dropped else 'none'}"
    if chosen := _chosen(facts):
        yield f"  only       {', '.join(chosen)}"


def times_of_day(facts: TraceFacts) -> Iterator[tuple[str, str]]:
    """When a trace began and ended, and its busiest second, as `--slice` takes them, if anybody knows."""
    if facts.began_wall_ns is None or facts.ended_wall_ns is None:
        return
    yield "began", show_instant(facts.began_wall_ns)
    yield "busiest second", show_instant(facts.began_wall_ns + round(facts.arrivals.peak_1s_at_s * 1e9))
    yield "ended", show_instant(facts.ended_wall_ns)


def _schedule_lines(facts: InspectedSchedule) -> Iterator[str]:
    if facts.content is not None:
        yield from _content_lines(facts.content)
    yield f"  phases     {counted(facts.phases)}"
    yield f"  from       {facts.lineage.trace_path} ({facts.lineage.trace_rows:,} requests)"
    yield f"  steps      {'; '.join(facts.lineage.steps) or 'none'} · seed {facts.lineage.seed}"


def _chosen(facts: TraceFacts) -> list[str]:
    """What part of the traffic the trace is, nothing where it is all of it."""
    named = {"filter": "filter {}", "max_body_bytes": "bodies of up to {:,} bytes"}
    by_rule = [text.format(facts.choice[name]) for name, text in named.items() if name in facts.choice]
    return by_rule + ([facts.sampling] if facts.sampling != "all" else [])


def counted(counts: Mapping[str, int], most: int = 6) -> str:
    """Names with their counts, `most` of them."""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _capture(counts: Mapping[str, Any]) -> str:
    passed = counts.get("not_chosen") or {}
    not_chosen = f", not chosen {counted(passed)}" if passed else ""
    return f"seen {counts.get('seen', 0):,}, recorded {counts.get('recorded', 0):,}{not_chosen}"
