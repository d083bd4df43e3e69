"""The parts of one run's terminal report: facts, objectives, latency by group, checks."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replay.analysis.planning_values import Cost
from replay.analysis.values import (
    QUANTILES,
    Check,
    GroupSummary,
    MetricSummary,
    ObjectiveResult,
    RunSummary,
    ServerSide,
)
from replay.analysis.vocabulary import is_headline
from replay.report.figures import (
    format_count,
    format_ns,
    format_quantile,
    format_rate,
    format_ratio,
    format_seconds,
    relative,
)
from replay.report.peak_wording import (
    PHASE_HEADINGS,
    burn_text,
    peak_sentences,
    phase_rows,
    retry_after_text,
    shed_sentences,
    shed_text,
    slo_by_phase,
)
from replay.report.server_wording import (
    cost_rows,
    saturation_sentences,
    series_headings,
    series_rows,
)
from replay.report.telling import without_twin_groups
from replay.report.terminal_parts import bullets, indented, plain_table
from replay.report.wording import failures_by_kind, group_name, metric_name, objective_text

_NAME_WIDTH = 12
_FIGURE_WIDTH = 9


def facts(summary: RunSummary) -> RenderableType:
    """What was sent and what came back, with the failures by kind and the lateness."""
    table = plain_table()
    table.add_column(min_width=_NAME_WIDTH, style="dim", no_wrap=True)
    table.add_column()
    share_sent = format_ratio(relative(summary.sent, summary.scheduled))
    share_ok = format_ratio(relative(summary.ok, summary.scheduled))
    table.add_row(
        "requests",
        f"{format_count(summary.scheduled)} scheduled · {format_count(summary.sent)} sent ({share_sent})"
        f" · {format_count(summary.ok)} ok ({share_ok})"
        + (f" · {format_count(summary.aborted)} hung up as recorded" if summary.aborted else ""),
    )
    rate = f"{format_rate(summary.offered_per_s)} offered · {format_rate(summary.achieved_per_s)} achieved"
    if summary.objectives:
        rate += f" · {format_rate(summary.goodput_per_s)} goodput"
    table.add_row("rate", f"{rate} · {format_seconds(summary.duration_s)} · {summary.mode} loop")
    kinds = [f"{kind} {format_count(count)}" for kind, count in failures_by_kind(summary.groups)]
    table.add_row("failures", Text(" · ".join([format_ratio(summary.error_rate), *kinds])))
    if summary.shed:
        table.add_row("shed", f"{shed_text(summary.shed)} · {retry_after_text(summary.retry_after)}")
    table.add_row("lateness", _lateness(summary))
    table.add_row(
        "tokens", f"{format_count(summary.input_tokens)} in · {format_count(summary.output_tokens)} out"
    )
    table.add_row("sender", Text(f"{summary.sender} ({summary.sender_reason})"))
    if summary.steps:
        table.add_row("schedule", Text(" → ".join(summary.steps)))
    return indented(table)


def objectives(results: tuple[ObjectiveResult, ...]) -> RenderableType:
    """Each objective: met or missed, what was found, the share of scheduled requests within it, burn rate."""
    table = plain_table(header=True)
    for title in ("", "objective"):
        table.add_column(title)
    for title in ("found", "attained by", "burn"):
        table.add_column(title, justify="right")
    for result in results:
        mark = Text("✓ met", style="green") if result.met else Text("✗ missed", style="bold red")
        wanted, found = objective_text(result)
        table.add_row(mark, Text(wanted), found, format_ratio(result.attainment), burn_text(result.burn))
    return indented(table)


def phases(summary: RunSummary) -> list[RenderableType]:
    """Load, answers, requests in flight and failures by phase, then each peak in words, then SLO by phase."""
    table = plain_table(header=True)
    for index, title in enumerate(PHASE_HEADINGS):
        table.add_column(title, justify="right" if index else "left", no_wrap=index > 0)
    for row in phase_rows(summary.phases):
        table.add_row(*map(Text, row))
    sentences = (*peak_sentences(summary.peaks), *shed_sentences(summary.phases))
    parts: list[RenderableType] = [indented(table), *bullets(sentences)]
    headings, rows = slo_by_phase(summary)
    if rows:
        by_phase = plain_table(header=True)
        for index, title in enumerate(headings):
            by_phase.add_column(Text(title), justify="right" if index else "left")
        for row in rows:
            by_phase.add_row(*map(Text, row))
        parts.append(indented(by_phase))
    return parts


def server_side(summary: RunSummary, server: ServerSide) -> list[RenderableType]:
    """What the sampled endpoints said, by series and phase, and what gave out first."""
    parts: list[RenderableType] = []
    rows = series_rows(summary, server)
    if rows:
        table = plain_table(header=True)
        for index, title in enumerate(series_headings(summary)):
            table.add_column(Text(title), justify="right" if index > 1 else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        parts.append(indented(table))
    return [*parts, *bullets(saturation_sentences(server), mark=" ")]


def cost(found: Cost) -> RenderableType:
    """What the run cost, in the currency of the price."""
    table = plain_table()
    table.add_column(min_width=_NAME_WIDTH, style="dim", no_wrap=True)
    table.add_column(justify="right")
    for row in cost_rows(found):
        table.add_row(*row)
    return indented(table)


def latency(groups: tuple[GroupSummary, ...], clock: str = "due") -> list[RenderableType]:
    """Per group a line of counts and a line per metric: p50, p90, p95, p99, max; all columns aligned.

    `clock` is the one that the headline tells of.

    The service time (from sent) is shown for the group of all; a group of the same requests as an earlier
    one is not repeated.
    """
    titles = ["", "n", *(format_quantile(quantile) for quantile in QUANTILES), "max"]
    found: list[RenderableType] = [indented(_latency_table(titles, ()))]
    for group in without_twin_groups(groups):
        every = group.group.kind == "all"
        metrics = tuple(metric for metric in group.metrics if every or is_headline(metric, clock))
        title = Text.assemble((group_name(group.group), "bold"), (f"  {_counts(group)}", "dim"))
        found.append(Padding(title, (0, 0, 0, 2)))
        found.append(indented(_latency_table([""] * len(titles), metrics)))
    return found


def checks(found: tuple[Check, ...]) -> RenderableType:
    """Each check with what was found and wanted; below them, why the failed ones matter."""
    table = plain_table(header=True)
    for title in ("", "check", "found", "wanted"):
        table.add_column(title)
    for check in found:
        mark = Text("✓", style="green") if check.passed else Text("✗ FAILED", style="bold red")
        if check.passed and check.found.startswith("not judged"):
            mark = Text("–", style="dim")
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.wanted))
    failed = [f"{check.name}: {check.why}." for check in found if not check.passed]
    return Group(indented(table), *bullets(failed))


def _latency_table(titles: list[str], metrics: tuple[MetricSummary, ...]) -> Table:
    table = plain_table(header=any(titles))
    table.add_column(titles[0], width=_NAME_WIDTH + 2, no_wrap=True)
    table.add_column(titles[1], width=8, justify="right", no_wrap=True)
    for title in titles[2:]:
        table.add_column(title, width=_FIGURE_WIDTH, justify="right", no_wrap=True)
    for metric in metrics:
        if not metric.n:
            continue
        name = f"  {metric_name(metric.metric)}" + ("" if metric.clock == "due" else f" {metric.clock}")
        quantiles = [format_ns(metric.quantile_ns.get(q, float("nan"))) for q in QUANTILES]
        table.add_row(name, format_count(metric.n), *quantiles, format_ns(metric.max_ns))
    return table


def _counts(group: GroupSummary) -> str:
    failed = group.scheduled - group.ok - group.errors.get("aborted", 0)
    text = f"{format_count(group.scheduled)} scheduled, {format_count(group.ok)} ok"
    return f"{text}, {format_count(failed)} failed" if failed else text


def _lateness(summary: RunSummary) -> str:
    quantiles = [
        f"{format_quantile(q)} {format_ns(value)}"
        for q, value in sorted(summary.lateness_quantile_ns.items())
    ]
    if not summary.validity.judged:
        return "not known: no due times"
    return " · ".join([*quantiles, f"max {format_ns(summary.lateness_max_ns)}"])
