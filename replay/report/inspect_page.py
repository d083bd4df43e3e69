"""The page of an inspection: one trace or schedule, or two with the burst curve that B should have."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from capture.choice import shares_told
from replay.report.figures import (
    MISSING,
    format_change_ratio,
    format_count,
    format_number,
    format_rate,
    format_ratio,
    format_seconds,
)
from replay.report.inspect_charts import inspection_charts
from replay.report.inspect_plots import short_names
from replay.report.page_frame import build_keys, chart, fact_list, legend, page, section, select, table
from replay.report.page_tables import banner, text
from replay.report.trace_text import counted, sampled_text, target_row, times_of_day
from replay.report.wording import Headline, side_by_side
from replay.transform.burst_curve import WINDOWS_S
from replay.transform.burst_target import BurstTarget
from replay.transform.content_facts import LENGTHS
from replay.transform.inspection import Facts, InspectedSchedule, TraceFacts

_MOST_NAMED = 12
_HIDDEN = '<span class="hidden">Key figures</span>'


def inspect_page(
    one: Facts,
    other: Facts | None,
    target: BurstTarget | None,
    doubts: Sequence[str],
    command: tuple[str, ...],
) -> str:
    """The page; `doubts` are those about both together, `command` is the command line that made it."""
    both = (one,) if other is None else (one, other)
    names = short_names(both)
    charts = inspection_charts(both, names, target)
    warnings = [
        f"{name}: {warning}" if other is not None else warning
        for facts, name in zip(both, names, strict=True)
        for warning in (sampled_text(facts), *facts.warnings)
        if warning
    ]
    lines = build_keys(names)
    sections = [
        banner(_headline(one, target), list(_reasons(both, names, target)), [*doubts, *warnings]),
        section(
            "Key figures",
            table(_HIDDEN, ["", *map(text, names)], _figures(both), "figures"),
        ),
        section("Rate", legend(lines) + chart("rate", "Requests per second over time")),
        _bursts_section(both, names, target, lines) if "bursts" in charts else "",
        _gaps_section(lines) if "gaps" in charts else "",
        _lengths_section(lines, list(charts["lengths"])) if "lengths" in charts else "",
        _sessions_section(lines, think="think" in charts) if "turns" in charts else "",
        section("What it is", _origins(both, names, command)),
    ]
    return page("inspect", " and ".join(names), sections, charts)


def _headline(one: Facts, target: BurstTarget | None) -> Headline:
    if target is None:
        known = one.dispersion
        worst = max(known.values(), default=None)
        if worst is None:
            return Headline("inconclusive", "?", "Too short to tell its bursts", "")
        word = (
            "Bursty" if worst > 2 else "Steadier than chance" if worst < 0.5 else "About as bursty as chance"
        )
        return Headline("equivalent", "~", word, one.name)
    if not target.points:
        return Headline("inconclusive", "?", "No burst curve to hold it against", "")
    users = f"{format_number(target.factor)} times as many users"
    judged = [point for point in target.points if point.window_s in WINDOWS_S]
    if not judged:
        return Headline("inconclusive", "?", "Too short to compare bursts", "")
    if any(point.misses for point in judged):
        return Headline("regression", "✗", f"Not the bursts of {users}", "")
    if not all(point.holds for point in judged):
        return Headline("inconclusive", "?", f"Too short to tell the bursts of {users}", "")
    return Headline("equivalent", "✓", f"The bursts of {users}", "")


def _reasons(both: Sequence[Facts], names: Sequence[str], target: BurstTarget | None) -> Iterator[str]:
    if target is not None:
        for point in target.points:
            if point.window_s in WINDOWS_S:
                numbers = f"{format_number(point.found)}, target {format_number(point.target)}"
                chance = format_change_ratio(point.error).lstrip("+")
                off = f"{format_change_ratio(point.off)}, ±{chance} by chance"
                yield f"index of dispersion over {point.window_s:g} s: {numbers} ({off})"
        yield from target.notes
        return
    for facts, name in zip(both, names, strict=True):
        known = ", ".join(f"{format_number(value)} over {w}" for w, value in facts.dispersion.items())
        if known:
            yield f"index of dispersion {known}; 1 is what independent users make at a constant rate"
        else:
            yield f"{name} spans {format_seconds(facts.arrivals.span_s)}"


def _figures(both: Sequence[Facts]) -> list[list[str]]:
    return [list(map(text, row)) for row in side_by_side([dict(_figures_of(facts)) for facts in both])]


def _figures_of(facts: Facts) -> Iterator[tuple[str, str]]:
    arrivals = facts.arrivals
    yield "requests", format_count(arrivals.rows)
    yield "span", format_seconds(arrivals.span_s)
    yield "mean rate", format_rate(arrivals.mean_per_s)
    yield "busiest second", format_rate(arrivals.peak_1s_per_s)
    if isinstance(facts, TraceFacts) and sampled_text(facts):
        yield "share recorded", shares_told(facts.samples)
    if arrivals.gaps_s is not None:
        yield "gap p50", format_seconds(arrivals.gaps_s.at(0.5))
        yield "gap CV", format_number(arrivals.gap_cv)
        yield "gaps of 0", format_ratio(arrivals.ties)
    if facts.content is None:
        return
    sessions = facts.content.sessions
    yield "sessions", format_count(sessions.sessions)
    yield "with several turns", f"{format_count(sessions.several_turns)} (longest {sessions.longest})"
    if sessions.think_s is not None:
        yield "think time p50", format_seconds(sessions.think_s.at(0.5))
    for name, lengths in facts.content.lengths.items():
        yield f"{LENGTHS[name]}, mean", format_number(lengths.mean)
        yield f"{LENGTHS[name]}, p50 · p99", " · ".join(format_number(lengths.at(q)) for q in (0.5, 0.99))
    if facts.content.prefix is not None:
        yield "prompt blocks seen before", format_ratio(facts.content.prefix.share)


def _bursts_section(
    both: Sequence[Facts], names: Sequence[str], target: BurstTarget | None, lines: list[tuple[str, str]]
) -> str:
    note = (
        "Variance over mean of the requests per window: 1 is what independent users make at a constant rate, "
        "more is bursts. "
    )
    keys = [*lines, ("dotted", "chance alone")]
    if target is not None and target.points:
        note += (
            "f times as many users under the same rate curve have C + f·(IDC − C), C being what a session's "
            "own requests make, 1 where it has one."
        )
        keys = [*lines, ("dotted", "target"), ("band", "within 10 % of it")]
    body = f'<p class="note">{note}</p>' + legend(keys)
    body += chart("bursts", "Index of dispersion by window; the table below holds the same figures")
    if target is not None and target.points:
        headings = ["", "source", "target", "found", "off", "chance", ""]
        cells = [list(map(text, target_row(point))) for point in target.points]
        body += table("Index of dispersion against its target", headings, cells, "numbers")
    fullest = {p.window_s: [MISSING] * len(both) for facts in both for p in facts.arrivals.bursts}
    for i, facts in enumerate(both):
        for point in facts.arrivals.bursts:
            fullest[point.window_s][i] = f"{point.fullest:,}"
    cells = [[f"{window:g} s", *map(text, counts)] for window, counts in sorted(fullest.items())]
    body += table("Requests in the fullest window", ["", *map(text, names)], cells, "numbers")
    return section("Bursts", body)


def _gaps_section(lines: list[tuple[str, str]]) -> str:
    return section(
        "Gaps between requests",
        legend([*lines, ("dotted", "independent users of the same rate")])
        + chart("gaps", "Share of the gaps between requests at or below a time"),
    )


def _lengths_section(lines: list[tuple[str, str]], columns: list[str]) -> str:
    choice = select("lengths-of", "Of", [(column, LENGTHS[column]) for column in columns], chart="lengths")
    return section(
        "Lengths",
        f'<div class="choices">{choice}</div>'
        + legend(lines)
        + chart("lengths", "Share at or below a length"),
    )


def _sessions_section(lines: list[tuple[str, str]], *, think: bool) -> str:
    body = legend(lines) + chart("turns", "Share of sessions by their number of turns")
    if think:
        body += '<h2 class="small">Think time</h2>' + chart(
            "think", "Share of think times at or below a time"
        )
    return section("Sessions", body)


def _origins(both: Sequence[Facts], names: Sequence[str], command: tuple[str, ...]) -> str:
    found = [("command", f"<code>{text(shlex.join(command))}</code>")] if command else []
    for one, name in zip(both, names, strict=True):
        told = list(_trace_origin(one) if isinstance(one, TraceFacts) else _schedule_origin(one))
        told += [("note", note) for note in one.notes]
        prefix = f"{name}: " if len(both) > 1 else ""
        found += [(f"{prefix}{what}", text(value)) for what, value in told]
    return fact_list((text(what), value) for what, value in found)


def _trace_origin(facts: TraceFacts) -> Iterator[tuple[str, str]]:
    yield "source", facts.source
    yield from times_of_day(facts)
    yield "endpoints", counted(facts.endpoints, _MOST_NAMED)
    yield "models", counted(facts.models, _MOST_NAMED)
    yield "outcomes", counted(facts.outcomes, _MOST_NAMED)
    yield "statuses", counted(facts.statuses, _MOST_NAMED)


def _schedule_origin(facts: InspectedSchedule) -> Iterator[tuple[str, str]]:
    yield "made from", f"{facts.lineage.trace_path} ({facts.lineage.trace_rows:,} requests)"
    yield "steps", f"{' → '.join(facts.lineage.steps) or 'none'} · seed {facts.lineage.seed}"
    yield "phases", counted(facts.phases)
