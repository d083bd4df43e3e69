"""The values that analysis returns and reports show: plain frozen dataclasses, no behaviour, no I/O.

Instants and durations are float ns unless the name says otherwise; a quantity that can't be had is NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum

METRICS = ("ttft", "itl", "tpot", "e2e")
"""TTFT = first content token − start; E2E = end − start; TPOT = (E2E − TTFT)/(n − 1), n output tokens;
ITL = gaps between token-bearing reads. Start is due or sent, see `CLOCKS`."""

CLOCKS = ("due", "sent")
"""From `due`: what a user waited, the headline. From `sent`: service time. ITL and TPOT know no start, so
they appear once, under `due`."""

QUANTILES = (0.5, 0.9, 0.95, 0.99)


class Verdict(StrEnum):
    """What a comparison says, of one effect and of the whole."""

    REGRESSION = "regression"
    IMPROVED = "improved"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclasses.dataclass(frozen=True)
class Group:
    """A set of requests: `kind` is all | endpoint | model | phase, `name` its value ("" for all)."""

    kind: str
    name: str


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
    checks: tuple[Check, ...]
    warnings: tuple[str, ...] = ()


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
    """One term of an SLO: a quantile of a metric (`quantile` set) or an error rate (`quantile` None)."""

    metric: str
    quantile: float | None
    limit: float
    """Limit in ns for a latency, a fraction for `error_rate`."""


@dataclasses.dataclass(frozen=True)
class ObjectiveResult:
    """An objective held against a run, over all *scheduled* requests (an unanswered one misses)."""

    objective: Objective
    found: float
    met: bool
    attainment: float
    """Fraction of scheduled requests that met the limit."""


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Buckets of `width_s` seconds from the run's zero; one value a bucket, NaN where there is none."""

    width_s: float
    scheduled_per_s: tuple[float, ...]
    sent_per_s: tuple[float, ...]
    errors_per_s: tuple[float, ...]
    in_flight: tuple[float, ...]
    e2e_p50_ns: tuple[float, ...]
    e2e_p99_ns: tuple[float, ...]
    ttft_p50_ns: tuple[float, ...]
    ttft_p99_ns: tuple[float, ...]
    phases: tuple[tuple[str, float, float], ...]
    """(phase, start_s, end_s) of every phase other than base."""


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
    distributions: Mapping[str, tuple[float, ...]]
    """Per metric (from due), a sorted sample of at most 2,000 values in ns, for plots."""


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
