"""Records of AIPerf: `profile_export.jsonl`, an object a request, with the summary beside it if it is there.

Read as AIPerf 0.13 writes them (`MetricRecordInfo` in `common/models/record_models.py`); earlier versions
lack some members, which are null then. E2E is AIPerf's `request_latency`, which ends at the last content; a
request without one ends at `request_end_ns`. The summary (`profile_export_aiperf.json`) says address, load
and version. `credit_issued_ns` is when the rate limiter let a request go, which in a closed loop waits for an
answer: it is no due instant, and a fixed schedule's instants stand in neither file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from replay.engine.run_format import CLOSED, OPEN, UNSTATED
from replay.importers.foreign_run import NO_CHUNKS, ForeignRequest, ForeignRun, Ints, instants_of
from replay.importers.result_file import Watch, json_values, unwatched
from replay.importers.stated import count, duration_ns, many_ns, member, text_or_none
from replay.importers.stated_failure import Failure, failure

MADE_BY: Final = "aiperf profile"
WANTED: Final = "AIPerf's profile_export.jsonl (`aiperf profile --export-level records`)"
_UNITS_NS: Final = {"ns": 1.0, "us": 1e3, "ms": 1e6, "sec": 1e9, "s": 1e9}
_WARM_UP: Final = "of the warm-up"
_OPEN_KINDS: Final = frozenset({"constant", "poisson", "gamma", "fixed_schedule"})
_CLOSED_KINDS: Final = frozenset({"concurrency", "user_centric"})
"""AIPerf's types of phase (`config/phases.py`); an open one with a cap on concurrency may be either."""


def read_aiperf(path: Path, which: int | None = None, watch: Watch = unwatched) -> ForeignRun:
    """The run of a file of records; `which` has nothing to choose from. Raises `BadInput`."""
    if which not in (None, 1):
        raise BadInput(f"{path}: run {which} wanted, one found: AIPerf writes a file a run")
    summary = _summary(path)
    config = _object(summary.get("input_config"))
    endpoint, models = _object(config.get("endpoint")), _object(config.get("models")).get("items") or [{}]
    model = text_or_none(_object(models[0]).get("name")) if len(models) == 1 else None
    requests: list[ForeignRequest] = []
    left_out: Counter[str] = Counter()
    for line, record in json_values(path, WANTED, watch):
        place = f"{path}:{line}"
        metadata = _metadata(record, place)
        if metadata.get("benchmark_phase") == "warmup":
            left_out[_WARM_UP] += 1
        else:
            requests.append(_request(record, metadata, str(endpoint.get("type") or "unstated"), model, place))
    if not requests:
        raise BadInput(f"{path}: no request of the measured phase found, {WANTED} wanted")
    urls = endpoint.get("urls") or []
    plan, mode = _load(config)
    return ForeignRun(
        made_by=MADE_BY,
        requests=requests,
        version=str(summary.get("aiperf_version") or ""),
        target=str(urls[0]) if len(urls) == 1 else "",
        plan=plan,
        mode=mode,
        partial=summary.get("was_cancelled") is True,
        notes=tuple(_notes(requests, plan)),
        left_out=left_out,
    )


def _summary(path: Path) -> Mapping[str, Any]:
    """AIPerf's summary of the same run, {} where it is not beside the records."""
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    for beside in (path.with_name(f"{name}_aiperf.json"), path.with_name(f"{name}_aiperf.json.gz")):
        if beside.exists():
            for _, value in json_values(beside, "AIPerf's summary"):
                return _object(value)
    return {}


def _metadata(record: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(record, dict) or "metadata" not in record:
        summary = isinstance(record, dict) and "input_config" in record
        said = "a summary without requests" if summary else "no metadata"
        raise BadInput(f"{place}: {said} found, {WANTED} wanted")
    found: Mapping[str, Any] = member(record, "metadata", place, dict)
    return found


def _request(
    record: Mapping[str, Any], metadata: Mapping[str, Any], endpoint: str, model: str | None, place: str
) -> ForeignRequest:
    metrics = _object(record.get("metrics"))
    sent_ns = _instant(metadata, "request_start_ns", place)
    failed = _failure(record.get("error"), metadata)
    first_ns, lasted_ns = (
        _duration(metrics, name, place) for name in ("time_to_first_token", "request_latency")
    )
    first_token_ns = None if first_ns is None else sent_ns + first_ns
    reused = _value(metrics, "http_req_connection_reused")
    conversation = text_or_none(metadata.get("conversation_id"))
    turn = metadata.get("turn_index")
    session = text_or_none(metadata.get("x_correlation_id"))
    return ForeignRequest(
        name=f"{conversation or f'session {metadata.get("session_num")}'}, turn {turn or 0}",
        sent_ns=sent_ns,
        endpoint=endpoint,
        model=model,
        stream=first_token_ns is not None,
        dequeued_ns=_instant_or_none(metadata, "credit_issued_ns", place),
        first_byte_ns=_instant_or_none(metadata, "request_ack_ns", place),
        first_token_ns=first_token_ns,
        chunk_ns=_chunks(metrics, first_token_ns, place),
        end_ns=_instant(metadata, "request_end_ns", place) if lasted_ns is None else sent_ns + lasted_ns,
        session=session,
        status=failed.status if failed else None,
        error=failed.error if failed else None,
        error_text=failed.error_text if failed else None,
        input_tokens=_tokens(metrics, ("usage_prompt_tokens", "input_sequence_length"), place),
        output_tokens=_tokens(metrics, ("usage_completion_tokens", "output_sequence_length"), place),
        connection_reused=None if reused is None else bool(reused),
    )


def _failure(error: Any, metadata: Mapping[str, Any]) -> Failure | None:
    """How the request failed; one that AIPerf was told to cancel is a client's hang-up."""
    if metadata.get("was_cancelled") is True:
        return Failure(None, "aborted", "cancelled by AIPerf")
    if not isinstance(error, dict):
        return None
    code, text = error.get("code"), f"{error.get('type') or ''}: {error.get('message') or ''}"
    return failure(text.strip(": "), code if isinstance(code, int) else None)


def _instant_or_none(metadata: Mapping[str, Any], name: str, place: str) -> int | None:
    return None if metadata.get(name) is None else _instant(metadata, name, place)


def _instant(metadata: Mapping[str, Any], name: str, place: str) -> int:
    value = metadata.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise BadInput(f"{place}: metadata.{name}: {value!r} found, ns since 1970 wanted")
    return value


def _value(metrics: Mapping[str, Any], name: str) -> Any:
    return _object(metrics.get(name)).get("value")


def _duration(metrics: Mapping[str, Any], name: str, place: str) -> int | None:
    value = _value(metrics, name)
    if value is None:
        return None
    return duration_ns(value, f"{place}: metrics.{name}", _unit_ns(metrics, name, place))


def _unit_ns(metrics: Mapping[str, Any], name: str, place: str) -> float:
    unit = _object(metrics.get(name)).get("unit")
    if not isinstance(unit, str) or unit not in _UNITS_NS:
        raise BadInput(f"{place}: metrics.{name}: unit {unit!r} found, one of {', '.join(_UNITS_NS)} wanted")
    return _UNITS_NS[unit]


def _chunks(metrics: Mapping[str, Any], first_ns: int | None, place: str) -> Ints:
    """Instants of content-bearing chunks: the first token, then the sum of `inter_chunk_latency`."""
    gaps = _value(metrics, "inter_chunk_latency")
    if first_ns is None or gaps is None:
        return NO_CHUNKS
    unit_ns = _unit_ns(metrics, "inter_chunk_latency", place)
    return instants_of(first_ns, many_ns(gaps, f"{place}: metrics.inter_chunk_latency", unit_ns))


def _tokens(metrics: Mapping[str, Any], names: Sequence[str], place: str) -> int | None:
    """The first of `names` that is stated: the server's usage before AIPerf's own tokeniser."""
    for name in names:
        if (value := _value(metrics, name)) is not None:
            return count(value, f"{place}: metrics.{name}")
    return None


def _load(config: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """What load was asked for, in words, and the mode of the run."""
    phases = [phase for phase in config.get("phases") or () if _object(phase).get("kind") != "warmup"]
    plan = [
        f"{name} {value}"
        for phase in phases
        for name, value in _object(phase).items()
        if name not in ("name", "kind") and isinstance(value, int | float | str)
    ]
    for data in config.get("datasets") or ():
        plan += [f"data {name} {value}" for name, value in _object(data).items() if name in _DATA]
    kinds = {str(_object(phase).get("type")) for phase in phases}
    limited = any("concurrency" in _object(phase) for phase in phases)
    if kinds and kinds <= _CLOSED_KINDS:
        return tuple(plan), CLOSED
    return tuple(plan), OPEN if kinds and kinds <= _OPEN_KINDS and not limited else UNSTATED


_DATA: Final = ("type", "entries", "random_seed", "path", "file")


def _notes(requests: Sequence[ForeignRequest], plan: Sequence[str]) -> Iterator[str]:
    yield "E2E ends at the last content, as AIPerf has it"
    yield "token counts are the server's usage where it gave one, else AIPerf's own tokeniser's"
    if not plan:
        yield "load, target and model are not known: AIPerf's summary is not beside the records"
    cancelled = sum(one.error == "aborted" for one in requests)
    if cancelled:
        yield f"{cancelled} requests were cancelled by AIPerf: they count as hung up on, not as failed"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
