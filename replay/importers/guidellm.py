"""GuideLLM's reports (`benchmarks.json`): a benchmark a rate or strategy, each with its requests.

Read as GuideLLM 0.8 writes them (report version 2; `schemas/base/request_stats.py`, `info.py`). A request's
`targeted_start` is a due instant where the strategy lays down arrivals (constant, poisson, trace); of the
others it is only "as soon as possible". Single chunks have no instants there, so such runs have no ITL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from replay.engine.run_format import CLOSED, OPEN, UNSTATED
from replay.importers.foreign_run import ForeignRequest, ForeignRun, digest_of
from replay.importers.result_file import Watch, chosen, json_values, unwatched
from replay.importers.stated import count, member, optional_ns, rows, text_or_none
from replay.importers.stated_failure import failure

MADE_BY: Final = "guidellm"
WANTED: Final = "GuideLLM's benchmarks.json (`guidellm run --output kind=json,path=FILE`)"
_SCHEDULED: Final = frozenset({"constant", "poisson", "trace"})
_MODES: Final = {**dict.fromkeys(_SCHEDULED, OPEN), "synchronous": CLOSED, "concurrent": CLOSED}
_PLAN: Final = ("type_", "rate", "streams", "max_concurrency", "rampup_duration", "random_seed")
_UNENDED: Final = "under way, or not begun, when the benchmark ended"
_UNSENT: Final = "never sent"


def read_guidellm(path: Path, which: int | None = None, watch: Watch = unwatched) -> ForeignRun:
    """The run of a report; `which` chooses one of several benchmarks. Raises `BadInput`."""
    for _, report in json_values(path, WANTED, watch):
        if not isinstance(report, dict) or not isinstance(report.get("benchmarks"), list):
            raise BadInput(f"{path}: no list of benchmarks found, {WANTED} wanted")
        found = report["benchmarks"]
        benchmark = chosen(found, which, path, [_name(one) for one in found])
        place = f"{path}: benchmarks[{found.index(benchmark)}]"
        metadata = report.get("metadata")
        version = metadata.get("guidellm_version") if isinstance(metadata, dict) else None
        return _run(benchmark, str(version or ""), place)
    raise BadInput(f"{path}: nothing found in it, {WANTED} wanted")


def _name(benchmark: Any) -> str:
    plan = _plan(_config(benchmark).get("strategy"))
    return " ".join(plan[:2]).removeprefix("type_ ") or "?"


def _run(benchmark: Mapping[str, Any], version: str, place: str) -> ForeignRun:
    groups = member(benchmark, "requests", place, dict, f"{WANTED}")
    config = _config(benchmark)
    strategy, backend = _object(config.get("strategy")), _object(config.get("backend"))
    kind = str(strategy.get("type_"))
    scheduled = kind in _SCHEDULED
    requests, left_out = [], {_UNENDED: len(rows(groups, "incomplete", f"{place}.requests")), _UNSENT: 0}
    for group in ("successful", "errored"):
        for at, one in enumerate(rows(groups, group, f"{place}.requests")):
            request = _request(one, backend, scheduled, f"{place}.requests.{group}[{at}]")
            left_out[_UNSENT] += request is None
            if request is not None:
                requests.append(request)
    if not requests:
        raise BadInput(
            f"{place}: no request found in it; GuideLLM keeps them unless it is told a sample_size of 0"
        )
    return ForeignRun(
        made_by=MADE_BY,
        requests=requests,
        version=version,
        target=text_or_none(backend.get("target")) or "",
        plan=(*_plan(strategy), *_data(config)),
        mode=_MODES.get(kind, UNSTATED),
        notes=tuple(_notes(config, left_out)),
        left_out={cause: number for cause, number in left_out.items() if number},
    )


def _config(benchmark: Any) -> Mapping[str, Any]:
    return _object(_object(benchmark).get("config"))


def _request(one: Any, backend: Mapping[str, Any], scheduled: bool, place: str) -> ForeignRequest | None:
    """The request, None if it was never sent."""
    info = member(one, "info", place, dict)
    timings = member(info, "timings", f"{place}.info", dict)
    stamps = {
        name: optional_ns(timings.get(name), f"{place}.info.timings.{name}")
        for name in (
            *("targeted_start", "dequeued", "request_start", "first_request_iteration"),
            *("first_token_iteration", "request_end", "resolve_end"),
        )
    }
    sent_ns = stamps["request_start"]
    if sent_ns is None:
        return None
    stated = text_or_none(info.get("error"))
    failed = failure(stated or "no reason given") if stated or info.get("status") == "errored" else None
    return ForeignRequest(
        name=_digest(one, place),
        sent_ns=sent_ns,
        endpoint=str(backend.get("request_format") or "unstated"),
        model=text_or_none(backend.get("model")),
        stream=stamps["first_token_iteration"] is not None,
        due_ns=stamps["targeted_start"] if scheduled else None,
        dequeued_ns=stamps["dequeued"],
        first_byte_ns=stamps["first_request_iteration"],
        first_token_ns=stamps["first_token_iteration"],
        end_ns=stamps["request_end"] or (stamps["resolve_end"] if failed else None),
        session=text_or_none(info.get("conversation_id")),
        status=failed.status if failed else None,
        error=failed.error if failed else None,
        error_text=failed.error_text if failed else None,
        input_tokens=count(one.get("prompt_tokens"), f"{place}.prompt_tokens"),
        output_tokens=None if failed else count(one.get("output_tokens"), f"{place}.output_tokens"),
    )


def _digest(one: Mapping[str, Any], place: str) -> str:
    """What the request is called: a digest of what was asked, which is the same in another run."""
    asked = text_or_none(one.get("request_args"))
    if asked is None:
        return str(member(one, "request_id", place, str))
    return digest_of(asked)


def _plan(strategy: Any) -> tuple[str, ...]:
    stated = _object(strategy)
    return tuple(f"{name} {stated[name]}" for name in _PLAN if stated.get(name) not in (None, 0.0))


def _data(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What ends the benchmark: another count or duration is another load."""
    constraints = _object(config.get("constraints"))
    return tuple(
        f"{name} {arguments[key]}"
        for name, constraint in sorted(constraints.items())
        for arguments in [_object(_object(constraint).get("args"))]
        for key in ("count", "seconds", "duration")
        if key in arguments
    )


def _notes(config: Mapping[str, Any], left_out: Mapping[str, int]) -> Iterator[str]:
    yield "GuideLLM keeps no instants of single chunks: no ITL"
    if left_out[_UNENDED]:
        yield f"{left_out[_UNENDED]} requests {_UNENDED} are left out: the slowest may be among them"
    if config.get("sample_size") is not None:
        yield f"GuideLLM kept at most {config['sample_size']} requests of each outcome: a sample, not all"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
