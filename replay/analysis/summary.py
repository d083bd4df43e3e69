"""All that one run says: counts, rates, latencies by group, the timeline, validity, objectives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from replay.analysis.capacity import find_capacity
from replay.analysis.distribution_values import Distribution
from replay.analysis.grouping import groups_of
from replay.analysis.heat_map import heat_map
from replay.analysis.latency_shapes import Frame
from replay.analysis.metrics import Latencies, Sample, clocks_of
from replay.analysis.peaks import find_peaks
from replay.analysis.phases import InFlight, retry_after, shed_by_status, summarise_phases
from replay.analysis.quantiles import harrell_davis_of_ordered
from replay.analysis.run_table import Bools, Floats, RunTable
from replay.analysis.server_side import server_side
from replay.analysis.slo import evaluate, met_all
from replay.analysis.time_values import HeatMap
from replay.analysis.timeline import duration_s, timeline
from replay.analysis.validity import judge
from replay.analysis.values import (
    METRICS,
    QUANTILES,
    Group,
    GroupSummary,
    MetricSummary,
    Objective,
    RunSummary,
    Timeline,
)

LATENESS_QUANTILES = (0.5, 0.9, 0.99, 0.999)


def summarise(
    run: RunTable,
    objectives: tuple[Objective, ...] = (),
    latencies: Latencies | None = None,
    bucket_s: float | None = None,
    *,
    distributed: bool = False,
) -> RunSummary:
    """The summary of a run; an empty one gives zero counts and NaN figures.

    `latencies` are the run's, where they are at hand already. `bucket_s` is the width of the timeline's
    buckets, where another run's are to be as wide. With `distributed`, whole distributions are found too.

    Rates are (n − 1) requests over the time from the first to the last of them, due for the offered rate and
    sent for the achieved one. Tokens are summed over the answers that stated them.
    """
    latencies = latencies or Latencies(run)
    ok, sent = latencies.ok, run.sent
    length_s = duration_s(run)
    lateness = run.lateness_ns[sent & run.due_stated]
    in_flight = InFlight(run)
    everything = np.ones(len(run), dtype=np.bool_)
    found_peaks = find_peaks(latencies, in_flight)
    by_phase = summarise_phases(latencies, objectives, in_flight)
    over_time = timeline(latencies, bucket_s)
    frame = Frame.of(latencies) if distributed else None
    drawn: list[Distribution] = []
    groups = tuple(_summarise_group(latencies, group, mask, frame, drawn) for group, mask in groups_of(run))
    good = float(np.count_nonzero(met_all(latencies, objectives)))
    return RunSummary(
        label=run.metadata.label,
        target=run.metadata.target,
        partial=run.metadata.partial,
        mode=run.metadata.mode,
        sender=run.metadata.sender,
        sender_reason=run.metadata.sender_reason,
        scheduled=len(run),
        sent=int(sent.sum()),
        ok=int(ok.sum()),
        aborted=int(run.aborted.sum()),
        duration_s=length_s,
        offered_per_s=_rate(run.due_ns),
        achieved_per_s=_rate(run.sent_ns[sent]),
        error_rate=float(np.mean(run.failed)) if len(run) else float("nan"),
        input_tokens=int(np.nansum(run.input_tokens[ok])),
        output_tokens=int(np.nansum(run.output_tokens[ok])),
        goodput_per_s=good / length_s if objectives and length_s else float("nan"),
        lateness_quantile_ns=_plain_quantiles(lateness, LATENESS_QUANTILES),
        lateness_max_ns=float(lateness.max()) if len(lateness) else float("nan"),
        groups=groups,
        timeline=over_time,
        validity=judge(run),
        objectives=evaluate(latencies, objectives, peaks=found_peaks),
        steps=run.metadata.steps,
        shed=shed_by_status(run, everything),
        retry_after=retry_after(run, everything),
        phases=by_phase,
        peaks=found_peaks,
        server=server_side(run, found_peaks),
        capacity=find_capacity(by_phase),
        heat=tuple(_heat(latencies, over_time)),
        distributions=tuple(sorted(drawn, key=lambda one: METRICS.index(one.metric))),
    )


def _heat(latencies: Latencies, over_time: Timeline) -> Iterator[HeatMap]:
    buckets = len(over_time.scheduled_per_s)
    for metric in ("e2e", "ttft"):
        sample = latencies.ordered(metric, "due")
        found = heat_map(metric, sample, latencies.run.due_ns, over_time.width_s, buckets)
        if found is not None:
            yield found


def _rate(instants_ns: Floats) -> float:
    span_s = float(np.ptp(instants_ns)) / 1e9 if len(instants_ns) else 0.0
    return (len(instants_ns) - 1) / span_s if span_s > 0 else float("nan")


def _plain_quantiles(values: Floats, quantiles: tuple[float, ...]) -> dict[float, float]:
    """As validity takes them: what the generator did, not an estimate of what it would do."""
    found = np.quantile(values, quantiles) if len(values) else np.full(len(quantiles), np.nan)
    return dict(zip(quantiles, found.tolist(), strict=True))


def _summarise_group(
    latencies: Latencies, group: Group, mask: Bools, frame: Frame | None, drawn: list[Distribution]
) -> GroupSummary:
    """The group's summary; with a `frame`, its distributions are added to `drawn`."""
    run = latencies.run
    errors = run.error.codes[mask & (run.error.codes >= 0)]
    statuses, counts = np.unique(run.status[mask & (run.status > 0)], return_counts=True)
    kinds, times = np.unique(errors, return_counts=True)
    by_metric = []
    for metric in METRICS:
        clocks = clocks_of(metric, due_stated=run.due_stated)
        for clock in clocks:
            sample = latencies.ordered(metric, clock, mask)
            by_metric.append(_summarise_metric(metric, clock, sample))
            if frame is not None and clock == clocks[0] and (group, metric) in frame.shown:
                found = frame.distribution(group, metric, sample)
                drawn += [found] if found is not None else []
    return GroupSummary(
        group=group,
        scheduled=int(mask.sum()),
        sent=int((mask & run.sent).sum()),
        ok=int((mask & latencies.ok).sum()),
        errors={run.error.names[kind]: int(n) for kind, n in zip(kinds, times, strict=True)},
        statuses={int(status): int(n) for status, n in zip(statuses, counts, strict=True)},
        metrics=tuple(metric for metric in by_metric if metric.n),
    )


def _summarise_metric(metric: str, clock: str, sample: Sample) -> MetricSummary:
    """Of a sample in ascending order."""
    values = sample.values_ns
    return MetricSummary(
        metric=metric,
        clock=clock,
        n=len(values),
        mean_ns=float(values.mean(dtype=np.float64)) if len(values) else float("nan"),
        max_ns=float(values[-1]) if len(values) else float("nan"),
        quantile_ns=dict(zip(QUANTILES, harrell_davis_of_ordered(values, QUANTILES).tolist(), strict=True)),
    )
