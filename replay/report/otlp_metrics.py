"""A run as OpenTelemetry metrics: one `ExportMetricsServiceRequest` in OTLP/JSON per interval.

One object a line is what the Collector's file exporter writes and its `otlpjsonfile` receiver reads. Names,
units and bucket bounds are those of the semantic conventions for GenAI and HTTP metrics; histograms and sums
are deltas. OTLP/JSON is protobuf's JSON mapping: 64-bit integers are strings, enums are numbers.

Latencies count from due, unless the caller chose another clock, and are measured at the client, those of
`gen_ai.server.*` too. What the conventions have no name for begins with `peaktape.`; `gen_ai.provider.name`
is left out, since no run knows it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from capture.__about__ import VERSION
from replay.analysis.intervals import by_interval
from replay.analysis.metrics import Latencies, Sample
from replay.analysis.run_table import Floats, Ints
from replay.analysis.values import Validity

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
DELTA: Final = 1
"""AGGREGATION_TEMPORALITY_DELTA of opentelemetry/proto/metrics/v1/metrics.proto."""

_OPERATION_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TTFT_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08),
    *(0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_TPOT_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS: Final = tuple(float(4**power) for power in range(14))
_HTTP_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_OPERATIONS: Final = (
    (re.compile(r"/chat/completions$|/messages$|/responses$|/api/chat$"), "chat"),
    (re.compile(r"/completions$|/api/generate$|/generate(_stream)?$"), "text_completion"),
    (re.compile(r"/embeddings$|/embed$"), "embeddings"),
)
_NO_STATUS: Final = 0

type Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Instrument:
    """One histogram: `values(latencies, clock)` gives a value per row of the run, NaN where there is none."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]
    values: Callable[[Latencies, str], Floats]
    only_gen_ai: bool = True
    more: tuple[tuple[str, str], ...] = ()
    """Further attributes of each point."""


def _ended_s(latencies: Latencies, clock: str) -> Floats:
    """Start to end of whatever was sent, failed or not: `error.type` tells them apart."""
    run = latencies.run
    start = run.due_ns if clock == "due" else run.sent_ns
    return np.where(run.sent, run.end_ns - start, np.nan) / 1e9


def _usage(attribute: str) -> Callable[[Latencies, str], Floats]:
    return lambda latencies, _: getattr(latencies.run, attribute)


INSTRUMENTS: Final = (
    Instrument("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _OPERATION_S, _ended_s),
    Instrument(
        *("gen_ai.server.time_to_first_token", "s", "Time to generate first token for successful responses."),
        _TTFT_S,
        lambda latencies, clock: latencies.ttft_ns(clock) / 1e9,
    ),
    Instrument(
        *("gen_ai.server.time_per_output_token", "s", "Time per output token after the first one."),
        _TPOT_S,
        lambda latencies, _: latencies.tpot_ns() / 1e9,
    ),
    *(
        Instrument(
            *("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used."),
            _TOKENS,
            _usage(f"{kind}_tokens"),
            more=(("gen_ai.token.type", kind),),
        )
        for kind in ("input", "output")
    ),
    Instrument(
        *("http.client.request.duration", "s", "Duration of HTTP client requests."),
        _HTTP_S,
        _ended_s,
        only_gen_ai=False,
    ),
)

REQUESTS: Final = "peaktape.requests"
"""A sum: every scheduled request, sent or not, by what became of it."""

OUTCOMES: Final = ("ok", "aborted", "failed", "not_sent")
"""Of `peaktape.outcome`: answered whole; hung up on as recorded; sent and not answered well; never sent."""


def metric_lines(
    latencies: Latencies, validity: Validity, width_ns: int, clock: str = "due"
) -> Iterator[Json]:
    """One request per interval of `width_ns` in which something was due, in the order of time.

    A point holds what was *due* in its interval. Empty for a run without requests.
    """
    kinds = _Kinds.of(latencies)
    intervals: dict[int, dict[str, Json]] = {}
    for instrument in INSTRUMENTS:
        values = instrument.values(latencies, clock)
        row = np.flatnonzero(~np.isnan(values))
        for interval, said, inside in _points(kinds, instrument, Sample(values[row], row), width_ns):
            metric = intervals.setdefault(interval, {}).setdefault(instrument.name, _histogram(instrument))
            point = {**_span(latencies, interval, width_ns), **_buckets(inside, instrument.bounds)}
            metric["histogram"]["dataPoints"].append({"attributes": said, **point})
    every = Sample(np.zeros(len(latencies.run)), np.arange(len(latencies.run)))
    for interval, said, inside in _points(kinds, None, every, width_ns):
        metric = intervals.setdefault(interval, {}).setdefault(REQUESTS, _sum())
        point = {**_span(latencies, interval, width_ns), "asInt": str(len(inside))}
        metric["sum"]["dataPoints"].append({"attributes": said, **point})
    resource = _resource(latencies, validity, clock)
    for interval in sorted(intervals):
        yield {"resourceMetrics": [{**resource, "scopeMetrics": [_scope([*intervals[interval].values()])]}]}


def _points(
    kinds: _Kinds, instrument: Instrument | None, sample: Sample, width_ns: int
) -> Iterator[tuple[int, list[Json], Floats]]:
    """(interval, attributes, values) of each point; no two of an interval have the same attributes."""
    distinct: dict[tuple[tuple[str, str | int], ...], int] = {}
    series = np.full(len(kinds.first) + 1, -1)
    for code in range(len(kinds.first)):
        said = kinds.attributes(code, instrument)
        if said is not None:
            series[code] = distinct.setdefault(tuple(said.items()), len(distinct))
    attributes = [_attributes(dict(said)) for said in distinct]
    for interval, one, inside in by_interval(kinds.latencies.run, sample, width_ns, series[kinds.code]):
        yield interval, attributes[one], np.asarray(inside, dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class _Kinds:
    """Rows that are alike in all that attributes are made of have one code; `first` is a row of each."""

    latencies: Latencies
    code: Ints
    first: Ints

    @classmethod
    def of(cls, latencies: Latencies) -> _Kinds:
        run = latencies.run
        outcome = np.select([latencies.ok, run.aborted, run.sent], [0, 1, 2], len(OUTCOMES) - 1)
        parts = (run.endpoint.codes, run.model.codes, run.phase.codes, run.status, run.error.codes, outcome)
        _, first, code = np.unique(np.stack(parts, axis=1), axis=0, return_index=True, return_inverse=True)
        return cls(latencies, code.reshape(-1).astype(np.int64), first.astype(np.int64))

    def attributes(self, code: int, instrument: Instrument | None) -> dict[str, str | int] | None:
        """Those of a point of an instrument, of the sum for None; None where it says nothing of such rows."""
        run, row = self.latencies.run, int(self.first[code])
        endpoint = run.endpoint.names[run.endpoint.codes[row]]
        target = urlsplit(run.metadata.target)
        found: dict[str, str | int] = {"server.address": target.hostname or run.metadata.target}
        if target.port is not None:
            found["server.port"] = target.port
        if instrument is not None and instrument.only_gen_ai:
            if (operation := _operation(endpoint)) is None:
                return None
            found |= {"gen_ai.operation.name": operation, **dict(instrument.more)}
        else:
            method, _, path = endpoint.partition(" ")
            found |= {"http.request.method": method, "url.template": path}
            if run.status[row] != _NO_STATUS:
                found["http.response.status_code"] = int(run.status[row])
        if run.model.codes[row] >= 0:
            found["gen_ai.request.model"] = run.model.names[run.model.codes[row]]
        if (error := self._error(row)) is not None:
            found["error.type"] = error
        if instrument is None:
            found["peaktape.outcome"] = self._outcome(row)
        return found | {"peaktape.phase": run.phase.names[run.phase.codes[row]]}

    def _error(self, row: int) -> str | None:
        """By the conventions: what went wrong, or the status where that says so."""
        run = self.latencies.run
        if run.error.codes[row] >= 0:
            return str(run.error.names[run.error.codes[row]])
        if self.latencies.ok[row]:
            return None
        return str(run.status[row]) if run.status[row] != _NO_STATUS else "_OTHER"

    def _outcome(self, row: int) -> str:
        run = self.latencies.run
        found = (self.latencies.ok[row], run.aborted[row], run.sent[row], True)
        return next(name for name, holds in zip(OUTCOMES, found, strict=True) if holds)


def _operation(endpoint: str) -> str | None:
    """`gen_ai.operation.name` of "METHOD /path"; None where the path is none of a GenAI API known here."""
    return next((name for path, name in _OPERATIONS if path.search(endpoint.rstrip("/"))), None)


def _buckets(values: Floats, bounds: tuple[float, ...]) -> Json:
    """Count, sum, extremes and buckets; each bucket holds its upper bound (metrics.proto)."""
    counts = np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds) + 1)
    return {
        "count": str(len(values)),
        "sum": float(values.sum()),
        "min": float(values.min()),
        "max": float(values.max()),
        "bucketCounts": [str(count) for count in counts.tolist()],
        "explicitBounds": list(bounds),
    }


def _span(latencies: Latencies, interval: int, width_ns: int) -> Json:
    start_ns = latencies.run.metadata.zero_wall_ns + interval * width_ns
    return {"startTimeUnixNano": str(start_ns), "timeUnixNano": str(start_ns + width_ns)}


def _histogram(instrument: Instrument) -> Json:
    return {
        "name": instrument.name,
        "unit": instrument.unit,
        "description": instrument.description,
        "histogram": {"aggregationTemporality": DELTA, "dataPoints": []},
    }


def _sum() -> Json:
    return {
        "name": REQUESTS,
        "unit": "{request}",
        "description": "Scheduled requests, sent or not.",
        "sum": {"aggregationTemporality": DELTA, "isMonotonic": True, "dataPoints": []},
    }


def _scope(metrics: Sequence[Json]) -> Json:
    return {"scope": {"name": "peaktape", "version": VERSION}, "metrics": metrics, "schemaUrl": SCHEMA_URL}


def _resource(latencies: Latencies, validity: Validity, clock: str) -> Json:
    about = latencies.run.metadata
    failed = ", ".join(check.name for check in validity.checks if not check.passed)
    said: dict[str, str | int | bool] = {
        "service.name": "peaktape",
        "service.version": about.tool_version or VERSION,
        "peaktape.run.label": about.label,
        "peaktape.run.target": about.target,
        "peaktape.run.valid": validity.valid,
        "peaktape.run.partial": about.partial,
        "peaktape.run.mode": about.mode,
        "peaktape.schedule.fingerprint": about.schedule_fingerprint,
        "peaktape.clock": clock,
    }
    if failed:
        said["peaktape.run.failed_checks"] = failed
    return {"resource": {"attributes": _attributes(said)}, "schemaUrl": SCHEMA_URL}


def _attributes(said: Mapping[str, str | int | bool]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in said.items()]


def _value(value: str | int | bool) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
