"""Service level objectives: reading them, holding a run against them, and the requests that met them all.

The population is what was *scheduled*: a request that failed or was never sent is infinitely late.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from capture.failures import BadInput
from replay.analysis.metrics import Latencies, Sample
from replay.analysis.run_table import Bools, Floats, Labels, RunTable
from replay.analysis.values import METRICS, Objective, ObjectiveResult, Peak, Settled

RATES: Final = ("error_rate", "shed_rate")
"""Shares of the scheduled requests: those that failed, those that were turned away (429, 503)."""

RECOVERY: Final = "recovery"
"""The longest time until answers were as quick as in base again, of all peaks: see `peaks`."""

SHED: Final = (429, 503)
"""Statuses by which a service turns load away: Too Many Requests (RFC 6585, 4), Service Unavailable
(RFC 9110, 15.6.4)."""

_UNITS_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}  # both signs for micro
_LATENCY = re.compile(r"(?P<metric>[a-z0-9_]+):p(?P<percent>\d+(?:\.\d+)?)=(?P<limit>[^=]+)")
_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[^\d\s]*)")
_PERCENT = re.compile(r"\d+(?:\.\d+)?")
_WANTED = "ttft:p99=500ms or error_rate=1% wanted"


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """Objectives from a text like `ttft:p99=500ms,error_rate=1%`; raises `BadInput` naming the wrong piece.

    A latency objective is METRIC:pPERCENT=LIMIT with metric ttft, itl, tpot or e2e and a limit in ns, us,
    ms or s; `error_rate` and `shed_rate` take a percentage or a fraction, `recovery` a duration. The clock
    is due.
    """
    pieces = [piece.strip() for piece in text.split(",")]
    if not any(pieces):
        raise BadInput(f"slo: nothing found, {_WANTED}")
    objectives = tuple(_parse(piece) for piece in pieces)
    terms = [(objective.metric, objective.quantile) for objective in objectives]
    for index, term in enumerate(terms):
        if term in terms[:index]:
            raise BadInput(f"slo: {pieces[index]!r} states a term for the second time; state each once")
    return objectives


def _parse(piece: str) -> Objective:
    name, equals, limit = (part.strip() for part in piece.partition("="))
    try:
        if equals and name in (*RATES, RECOVERY):
            return share_or_time(name, limit)
        match = _LATENCY.fullmatch(piece)
        if match is None:
            raise ValueError(_WANTED)
        return latency_objective(match["metric"], match["percent"], match["limit"].strip())
    except ValueError as error:
        raise BadInput(f"slo: {piece!r} found, {error}") from error


def share_or_time(metric: str, limit: str) -> Objective:
    """An objective of `RATES` or `RECOVERY`; raises `ValueError` that says what was wanted."""
    if metric == RECOVERY:
        return Objective(metric, None, _duration_ns(limit))
    return Objective(metric, None, _fraction(limit))


def latency_objective(metric: str, percent: str, limit: str) -> Objective:
    """An objective of one quantile of a latency; raises `ValueError` that says what was wanted."""
    if metric not in METRICS:
        raise ValueError(f"one of {', '.join(METRICS)} wanted instead of {metric!r}")
    if not _PERCENT.fullmatch(percent) or not 0.0 < float(percent) <= 100.0:
        raise ValueError(f"a quantile above p0 and up to p100 wanted instead of p{percent}")
    return Objective(metric, float(percent) / 100.0, _duration_ns(limit))


def _duration_ns(text: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match["unit"] not in _UNITS_NS or float(match["number"]) == 0.0:
        raise ValueError(f"a duration like 500ms or 1.5s wanted instead of {text!r}")
    return float(match["number"]) * _UNITS_NS[match["unit"]]


def _fraction(text: str) -> float:
    match = _NUMBER.fullmatch(text)
    value = float(match["number"]) / (100.0 if match["unit"] == "%" else 1.0) if match else 2.0
    if match is None or match["unit"] not in ("", "%") or value > 1.0:
        raise ValueError(f"a share like 1% or 0.01 wanted instead of {text!r}")
    return value


def evaluate(
    latencies: Latencies,
    objectives: Sequence[Objective],
    *,
    peaks: Sequence[Peak] = (),
    within: Bools | None = None,
) -> tuple[ObjectiveResult, ...]:
    """Each objective held against the run, or the requests `within` (bool per row), in the given order.

    `found` is the smallest value that a share `quantile` of the population does not exceed (the inverse of
    the empirical distribution), so that it is met exactly when `attainment` reaches the quantile. A metric
    that no request of the run can show is found NaN, and an objective that can't be measured is not met; an
    optional one that no request matches is left out. `burn` is the burn rate of the Google SRE Workbook,
    chapter 5, over the run: (share that missed) / (1 − quantile), or rate / limit.
    """
    everything = np.ones(len(latencies.run), dtype=np.bool_) if within is None else within
    results = (_evaluate(latencies, objective, peaks, everything) for objective in objectives)
    return tuple(result for result in results if result.requests or not result.objective.optional)


def _evaluate(
    latencies: Latencies, objective: Objective, peaks: Sequence[Peak], within: Bools
) -> ObjectiveResult:
    if objective.metric == RECOVERY:
        return _evaluate_recovery(objective, peaks)
    chosen = within & chosen_by(latencies.run, objective)
    if objective.quantile is None:
        return _evaluate_rate(latencies.run, objective, chosen)
    sample = population(latencies, objective.metric)
    of_chosen = chosen[sample.row]
    values = np.sort(sample.values_ns[of_chosen])
    # Only of ITL does a request have several values.
    requests = len(np.unique(sample.row[of_chosen])) if objective.metric == "itl" else len(values)
    if len(values) == 0:
        nan = float("nan")
        return ObjectiveResult(objective, nan, False, nan)
    attainment = float(np.searchsorted(values, objective.limit, side="right")) / len(values)
    burn = _over(1.0 - attainment, 1.0 - objective.quantile)
    rank = max(int(np.ceil(objective.quantile * len(values) - 1e-9)), 1)
    found = float(values[rank - 1]) if np.isfinite(values[0]) else float("inf")
    return ObjectiveResult(objective, found, found <= objective.limit, attainment, burn, requests)


def _evaluate_rate(run: RunTable, objective: Objective, chosen: Bools) -> ObjectiveResult:
    missed = run.failed if objective.metric == "error_rate" else np.isin(run.status, SHED)
    requests = int(chosen.sum())
    rate = float(np.count_nonzero(missed & chosen)) / requests if requests else float("nan")
    burn = _over(rate, objective.limit)
    return ObjectiveResult(objective, rate, rate <= objective.limit, 1.0 - rate, burn, requests)


def _evaluate_recovery(objective: Objective, peaks: Sequence[Peak]) -> ObjectiveResult:
    """Of all peaks whose phase matches: one that was not over yet took ∞, one that can't be said NaN."""
    seen = [peak for peak in peaks if _matches_any(peak.phase, objective.phase)]
    times = [
        float("inf") if peak.latency.settled is Settled.NOT_YET else peak.latency.after_s * 1e9
        for peak in seen
    ]
    found = float(np.max(times)) if times else float("nan")  # NaN wins
    in_time = sum(time <= objective.limit for time in times)
    attainment = in_time / len(times) if times else float("nan")
    requests = sum(peak.scheduled for peak in seen)
    return ObjectiveResult(objective, found, found <= objective.limit, attainment, requests=requests)


def _matches_any(phases: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(phase, pattern) for phase in phases.split(", "))


def _over(missed: float, allowed: float) -> float:
    if np.isnan(missed):
        return missed
    if allowed <= 0.0:
        return 0.0 if missed <= 0.0 else float("inf")
    return max(missed, 0.0) / allowed


def chosen_by(run: RunTable, objective: Objective) -> Bools:
    """The scheduled requests that an objective's patterns match, bool per row."""
    chosen = np.ones(len(run), dtype=np.bool_)
    for labels, pattern in (
        (run.endpoint, objective.endpoint),
        (run.model, objective.model),
        (run.phase, objective.phase),
    ):
        if pattern != "*":
            chosen &= _matching(labels, pattern)
    return chosen


def _matching(labels: Labels, pattern: str) -> Bools:
    known = np.array([*(fnmatch.fnmatchcase(name, pattern) for name in labels.names), False])
    return np.asarray(known[labels.codes])  # −1, a missing text, is the last


def applies(latencies: Latencies, metric: str) -> Bools:
    """The scheduled requests that a metric speaks of, bool per row.

    E2E: all but those whose client hung up as recorded. TTFT, ITL, TPOT: those that asked for a stream, so
    that embeddings and whole answers are left out; of these, one that was answered well and still has no
    value (no token, a single one, no usage) is left out too, while one that failed stays in.
    """
    if metric == "e2e":
        return ~latencies.run.aborted
    shown = np.zeros(len(latencies.run), dtype=np.bool_)
    shown[latencies.sample(metric, "due").row] = True
    return latencies.run.stream & (shown | latencies.run.failed)


def population(latencies: Latencies, metric: str) -> Sample:
    """The values of a metric from due, with +inf (one each) for the failed requests it applies to."""
    sample = latencies.sample(metric, "due")
    failed = np.flatnonzero(applies(latencies, metric) & latencies.run.failed)
    values = np.concatenate([sample.values_ns, np.full(len(failed), np.inf)])
    return Sample(values, np.concatenate([sample.row, failed]))


def met_all(latencies: Latencies, objectives: Sequence[Objective]) -> Bools:
    """Goodput's requests: answered well and within every latency limit that applies to them, bool per row.

    As DistServe (Zhong et al., OSDI'24). Of ITL, a request's own quantile of gaps must be within the limit.
    """
    good = latencies.ok.copy()
    for objective in objectives:
        if objective.quantile is None:
            continue
        chosen = chosen_by(latencies.run, objective)
        worst = np.full(len(latencies.run), -np.inf)
        if objective.metric == "itl":
            row, values = _own_quantile(latencies.itl, objective.quantile)
            worst[row] = values
        else:
            values = latencies.per_request_ns(objective.metric, "due")
            worst = np.where(np.isnan(values), worst, values)
        good &= ~chosen | (worst <= objective.limit)
    return good


def _own_quantile(sample: Sample, quantile: float) -> tuple[np.ndarray, Floats]:
    """Rows that have values, and each one's own quantile (inverse of its empirical distribution)."""
    order = np.lexsort((sample.values_ns, sample.row))
    rows, first, count = np.unique(sample.row[order], return_index=True, return_counts=True)
    rank = np.maximum(np.ceil(quantile * count - 1e-9).astype(np.int64), 1)
    return rows, sample.values_ns[order][first + rank - 1]
