"""The values that analysis returns and reports show: plain frozen dataclasses, no behaviour, no I/O.

Instants and durations are float ns unless the name says otherwise; a quantity that can't be had is NaN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum

from replay.analysis.change_values import AnswerChange, BodyChange, ChangedRequest, Location, TailChange
from replay.analysis.distribution_values import Distribution, ShiftFunction
from replay.analysis.planning_values import Capacity, Cost
from replay.analysis.shed_values import RetryAfter
from replay.analysis.time_values import HeatMap, Waterfall
from replay.analysis.vocabulary import Group as Group
from replay.analysis.vocabulary import Verdict as Verdict

METRICS = ("ttft", "itl", "tpot", "e2e")
"""TTFT = first content token − start; E2E = end − start; TPOT = (E2E − TTFT)/(n − 1), n output tokens;
ITL = gaps between token-bearing reads. Start is due or sent, see `CLOCKS`."""

CLOCKS = ("due", "sent")
"""From `due`: what a user waited, the headline. From `sent`: service time. ITL and TPOT know no start, so
they appear once, under `due`."""

QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of validity: what was found, what was wanted, and in one line why it matters."""

    name: str
    passed: bool
    found: str
    wanted: str
    why: str


@dataclasses.dataclass(frozen=True)
class Validity:
    """Whether a run may carry a verdict; `warnings` are doubts that do not invalidate it."""

    valid: bool
    """No check failed."""
    checks: tuple[Check, ...]
    warnings: tuple[str, ...] = ()
    judged: bool = True
    """Whether it could be told that requests left when they were due: false where no due instant is known.
    Such a run is nowhere called valid."""


@dataclasses.dataclass(frozen=True)
class MetricSummary:
    """One metric of one group: count, mean, maximum and quantiles, all durations in ns."""

    metric: str
    clock: str
    n: int
    mean_ns: float
    max_ns: float
    quantile_ns: Mapping[float, float]


@dataclasses.dataclass(frozen=True)
class GroupSummary:
    """Counts and metrics of one group. `ok` means whole, no error, a status of 2xx or 304."""

    group: Group
    scheduled: int
    sent: int
    ok: int
    errors: Mapping[str, int]
    statuses: Mapping[int, int]
    metrics: tuple[MetricSummary, ...]


@dataclasses.dataclass(frozen=True)
class Objective:
    """One term of an SLO: a quantile of a latency (`quantile` set), else a rate or the time to recover.

    It speaks of the requests whose endpoint, model and phase match its patterns (shell style, `fnmatch`).
    """

    metric: str
    quantile: float | None
    limit: float
    """Limit in ns for a latency and for `recovery`, a fraction for `error_rate` and `shed_rate`."""
    endpoint: str = "*"
    model: str = "*"
    phase: str = "*"
    optional: bool = False
    """Whether it is left out, rather than missed, where no request of the run matches."""


@dataclasses.dataclass(frozen=True)
class ObjectiveResult:
    """An objective held against a run, over all *scheduled* requests (an unanswered one misses)."""

    objective: Objective
    found: float
    met: bool
    attainment: float
    """Fraction of scheduled requests that met the limit."""
    burn: float = math.nan
    """Error budget burn rate: the share of requests that missed over the share that may miss; 1 spends the
    budget exactly. NaN where there is no budget."""
    requests: int = 0
    """How many scheduled requests it speaks of."""


@dataclasses.dataclass(frozen=True)
class PhaseSummary:
    """What happened to the requests that were due in one phase, all its stretches together."""

    phase: str
    length_s: float
    scheduled: int
    ok: int
    failed: int
    shed: Mapping[int, int]
    """Requests that the service turned away, by status: 429 and 503."""
    retry_after: RetryAfter | None
    """None where none of them said when to come back."""
    offered_per_s: float
    answered_per_s: float
    """Whole good answers that *ended* in the phase, per second of it."""
    in_flight_mean: float
    in_flight_max: int
    goodput_per_s: float
    """Requests due in the phase that met every objective, per second of it; NaN without objectives."""
    objectives: tuple[ObjectiveResult, ...]


class Settled(StrEnum):
    """How a series came back from a peak."""

    HELD = "held"
    """It never left its band."""
    RECOVERED = "recovered"
    NOT_YET = "not recovered"
    """It was still outside when the watch ended."""
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Recovery:
    """How long a series took from the end of a peak until it was back within the base phase's band."""

    settled: Settled
    after_s: float
    """From the peak's end, in steps of `window_s`; 0 for a series that held, NaN where it can't be said."""
    left_at_s: float
    """When it left its band, from the run's zero; NaN if it never did."""
    base: float
    """The series' middle in the base phase."""
    band: float
    """The largest value that still counts as base."""
    worst: float
    """Its largest value from the peak's start on."""
    window_s: float
    why: str
    """Why it can't be said; "" where it can."""


@dataclasses.dataclass(frozen=True)
class Peak:
    """One stretch of load above base, what it did to the service, and the way back."""

    phase: str
    start_s: float
    end_s: float
    watched_until_s: float
    """The way back is watched up to the next peak, or the last due instant."""
    scheduled: int
    shed: int
    failed: int
    offered_per_s: float
    base_per_s: float
    in_flight_before: float
    """Mean in flight in the base phase."""
    in_flight_max: int
    in_flight_max_at_s: float
    growth_per_s: float
    """Requests by which those in flight grew, per second, from the peak's start to its end."""
    latency: Recovery
    """Of the slow tenth's time to answer, as a multiple of base: see `analysis.peaks`."""
    backlog: Recovery
    """Of requests in flight."""


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Buckets of `width_s` seconds from the run's zero; one value a bucket, NaN where there is none."""

    width_s: float
    scheduled_per_s: tuple[float, ...]
    sent_per_s: tuple[float, ...]
    errors_per_s: tuple[float, ...]
    in_flight: tuple[float, ...]
    e2e_p50_ns: tuple[float, ...]
    e2e_p90_ns: tuple[float, ...]
    e2e_p99_ns: tuple[float, ...]
    ttft_p50_ns: tuple[float, ...]
    ttft_p90_ns: tuple[float, ...]
    ttft_p99_ns: tuple[float, ...]
    phases: tuple[tuple[str, float, float], ...]
    """(phase, start_s, end_s) of every phase other than base."""


@dataclasses.dataclass(frozen=True)
class ScrapedSource:
    """One endpoint that was sampled during the replay: how often it was due, and how often it answered."""

    name: str
    url: str
    due: int
    asked: int
    answered: int
    slowest_s: float
    last_error: str


@dataclasses.dataclass(frozen=True)
class ServerSeries:
    """One quantity of one source over time: `engine.server_metrics.QUANTITIES`, or the name of a metric."""

    source: str
    quantity: str
    unit: str
    """One of "requests", "share" (of 1), "per_s", or "" for a metric's own."""
    at_s: tuple[float, ...]
    values: tuple[float, ...]
    mean: float
    """Over the replay, from its zero to its last answer."""
    largest: float
    by_phase: Mapping[str, float]
    """Mean by phase of the schedule."""


@dataclasses.dataclass(frozen=True)
class Saturation:
    """A quantity that reached its bound and stayed there for three samples or more."""

    source: str
    quantity: str
    bound: float
    since_s: float
    held_s: float
    """How long it was at its bound, all in all."""
    before_latency_s: float
    """By how much it came before answers left base's band; negative after it, NaN where they never did."""


@dataclasses.dataclass(frozen=True)
class ServerSide:
    """What servers said of themselves during the replay; `saturated` is in the order of time."""

    every_s: float
    resolution_s: float
    """What is closer together than this, a sample and a window of latencies, can't be told apart."""
    sources: tuple[ScrapedSource, ...]
    series: tuple[ServerSeries, ...]
    saturated: tuple[Saturation, ...]


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """All that one run says."""

    label: str
    target: str
    partial: bool
    mode: str
    sender: str
    sender_reason: str
    scheduled: int
    sent: int
    ok: int
    aborted: int
    """Requests whose client hung up, as it did when it was recorded: neither ok nor failed."""
    duration_s: float
    offered_per_s: float
    achieved_per_s: float
    error_rate: float
    input_tokens: int
    output_tokens: int
    goodput_per_s: float
    """Requests per second that met every objective; NaN without objectives."""
    lateness_quantile_ns: Mapping[float, float]
    lateness_max_ns: float
    groups: tuple[GroupSummary, ...]
    timeline: Timeline
    validity: Validity
    objectives: tuple[ObjectiveResult, ...]
    steps: tuple[str, ...]
    shed: Mapping[int, int]
    """As of a phase, of all requests."""
    retry_after: RetryAfter | None
    phases: tuple[PhaseSummary, ...] = ()
    """In the order of their first request; empty for a run of one phase."""
    peaks: tuple[Peak, ...] = ()
    server: ServerSide | None = None
    """None where no endpoint was sampled."""
    capacity: Capacity | None = None
    """None without objectives, or without a rising staircase."""
    cost: Cost | None = None
    """None where no price was given."""
    heat: tuple[HeatMap, ...] = ()
    """Of TTFT and E2E from due, where the run has any, over the timeline's buckets; for plots."""
    waterfall: Waterfall | None = None
    """Single requests, for plots; None where they were not asked for."""
    distributions: tuple[Distribution, ...] = ()
    """From due; empty where they were not asked for."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """Candidate − baseline of one quantile of one metric in one group, with its doubt."""

    group: Group
    metric: str
    clock: str
    quantile: float
    pairs: int
    baseline_ns: float
    candidate_ns: float
    effect_ns: float
    low_ns: float
    high_ns: float
    """95 % confidence interval of `effect_ns`, widened for the family (Holm)."""
    p_value: float
    """Holm-adjusted."""
    minimum_detectable_ns: float
    noise_floor_ns: float
    tolerance_ns: float
    verdict: Verdict
    pairs_needed: int | None
    """For an inconclusive effect about how many more pairs would decide it, or, without an interval, give it
    one; None where pairs can't decide, and for all others."""


@dataclasses.dataclass(frozen=True)
class OutcomeChange:
    """Change of a failure rate (errors, or a class of statuses) in one group, paired (McNemar)."""

    group: Group
    kind: str
    baseline_count: int
    candidate_count: int
    pairs: int
    p_value: float
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class DiffResult:
    """The comparison of two runs: one verdict, the sentences that say why, and all effects."""

    baseline: RunSummary
    candidate: RunSummary
    verdict: Verdict
    reasons: tuple[str, ...]
    effects: tuple[Effect, ...]
    outcome_changes: tuple[OutcomeChange, ...]
    pairs: int
    unpaired_baseline: int
    unpaired_candidate: int
    tolerance: float
    block_s: float
    resamples: int
    seed: int
    warnings: tuple[str, ...]
    locations: tuple[Location, ...] = ()
    """Where the decided effects are; empty where there is none."""
    changed_requests: tuple[ChangedRequest, ...] = ()
    tails: tuple[TailChange, ...] = ()
    answers: tuple[AnswerChange, ...] = ()
    bodies: tuple[BodyChange, ...] = ()
    """Fields of the answers' bodies that differ; empty unless both runs kept bodies or their hashes."""
    waterfall: Waterfall | None = None
    """Single requests of both runs, for plots."""
    shifts: tuple[ShiftFunction, ...] = ()
    """From due; empty where they were not asked for."""
