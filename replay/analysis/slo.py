"""Service level objectives: reading them, holding a run against them, and the requests that met them all.

The population is what was *scheduled*: a request that failed or was never sent is infinitely late.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from capture.failures import BadInput
from replay.analysis.metrics import Latencies, Sample
from replay.analysis.run_table import Bools, Floats
from replay.analysis.values import METRICS, Objective, ObjectiveResult

_UNITS_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}  # both signs for micro
_LATENCY = re.compile(r"(?P<metric>[a-z0-9_]+):p(?P<percent>\d+(?:\.\d+)?)=(?P<limit>[^=]+)")
_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[^\d\s]*)")
_WANTED = "ttft:p99=500ms or error_rate=1% wanted"


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """Objectives from a text like `ttft:p99=500ms,error_rate=1%`; raises `BadInput` naming the wrong piece.

    A latency objective is METRIC:pPERCENT=LIMIT with metric ttft, itl, tpot or e2e and a limit in ns, us,
    ms or s; `error_rate` takes a percentage or a fraction. The clock is due.
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
    name, equals, limit = piece.partition("=")
    if equals and name.strip() == "error_rate":
        return Objective("error_rate", None, _fraction(limit.strip(), piece))
    match = _LATENCY.fullmatch(piece)
    if match is None:
        raise BadInput(f"slo: {piece!r} found, {_WANTED}")
    if match["metric"] not in METRICS:
        raise BadInput(
            f"slo: {piece!r}: metric {match['metric']!r} found, one of {', '.join(METRICS)} wanted"
        )
    quantile = float(match["percent"]) / 100.0
    if not 0.0 < quantile <= 1.0:
        raise BadInput(f"slo: {piece!r}: p{match['percent']} found, above p0 and up to p100 wanted")
    return Objective(match["metric"], quantile, _duration_ns(match["limit"].strip(), piece))


def _duration_ns(text: str, piece: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match["unit"] not in _UNITS_NS or float(match["number"]) == 0.0:
        raise BadInput(f"slo: {piece!r}: limit {text!r} found, a duration like 500ms or 1.5s wanted")
    return float(match["number"]) * _UNITS_NS[match["unit"]]


def _fraction(text: str, piece: str) -> float:
    match = _NUMBER.fullmatch(text)
    value = float(match["number"]) / (100.0 if match["unit"] == "%" else 1.0) if match else 2.0
    if match is None or match["unit"] not in ("", "%") or value > 1.0:
        raise BadInput(f"slo: {piece!r}: rate {text!r} found, a share like 1% or 0.01 wanted")
    return value


def evaluate(latencies: Latencies, objectives: Sequence[Objective]) -> tuple[ObjectiveResult, ...]:
    """Each objective held against the run, in the given order.

    `found` is the smallest value that a share `quantile` of the population does not exceed (the inverse of
    the empirical distribution), so that it is met exactly when `attainment` reaches the quantile. A metric
    that no request of the run can show is found NaN, and an objective that can't be measured is not met.
    """
    return tuple(_evaluate(latencies, objective) for objective in objectives)


def _evaluate(latencies: Latencies, objective: Objective) -> ObjectiveResult:
    if objective.quantile is None:
        scheduled = len(latencies.run)
        rate = float(np.count_nonzero(latencies.run.failed)) / scheduled if scheduled else float("nan")
        return ObjectiveResult(objective, rate, rate <= objective.limit, 1.0 - rate)
    values = np.sort(population(latencies, objective.metric).values_ns)
    if len(values) == 0 or np.isinf(values[0]):
        nothing = float("inf") if len(values) else float("nan")
        return ObjectiveResult(objective, nothing, False, 0.0 if len(values) else float("nan"))
    rank = max(int(np.ceil(objective.quantile * len(values) - 1e-9)), 1)
    found = float(values[rank - 1])
    attainment = float(np.searchsorted(values, objective.limit, side="right")) / len(values)
    return ObjectiveResult(objective, found, found <= objective.limit, attainment)


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
        worst = np.full(len(latencies.run), -np.inf)
        if objective.metric == "itl":
            row, values = _own_quantile(latencies.itl, objective.quantile)
            worst[row] = values
        else:
            values = latencies.per_request_ns(objective.metric, "due")
            worst = np.where(np.isnan(values), worst, values)
        good &= worst <= objective.limit
    return good


def _own_quantile(sample: Sample, quantile: float) -> tuple[np.ndarray, Floats]:
    """Rows that have values, and each one's own quantile (inverse of its empirical distribution)."""
    order = np.lexsort((sample.values_ns, sample.row))
    rows, first, count = np.unique(sample.row[order], return_index=True, return_counts=True)
    rank = np.maximum(np.ceil(quantile * count - 1e-9).astype(np.int64), 1)
    return rows, sample.values_ns[order][first + rank - 1]
