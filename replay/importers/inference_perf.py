"""inference-perf's `per_request_lifecycle_metrics.json`: a list of requests, in the order of their ends.

Read as inference-perf 0.7 writes it (`build_per_request_lifecycle_entry` in `reportgen/base.py`). It knows
when each request was scheduled, but does not write it there; nor status, address or model. The load stands in
the `config.yaml` beside it, if it is there. Instants are of a monotonic clock without a date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from capture.failures import BadInput
from replay.engine.run_format import CLOSED, OPEN, UNSTATED
from replay.importers.foreign_run import ForeignRequest, ForeignRun, Ints, digest_of
from replay.importers.result_file import Watch, json_values, started_before, unwatched
from replay.importers.stated import count, many_ns, seconds_ns, text_or_none
from replay.importers.stated_failure import Failure, failure

MADE_BY: Final = "inference-perf"
WANTED: Final = (
    "inference-perf's per_request_lifecycle_metrics.json (report.request_lifecycle.per_request: true)"
)
_OPEN_KINDS: Final = frozenset({"constant", "poisson", "trace_replay"})
_CLOSED_KINDS: Final = frozenset({"concurrent"})
_LOAD: Final = ("type", "stages", "sweep", "num_workers", "worker_max_concurrency", "base_seed")


def read_inference_perf(path: Path, which: int | None = None, watch: Watch = unwatched) -> ForeignRun:
    """The run of a per-request report; `which` has nothing to choose from. Raises `BadInput`."""
    if which not in (None, 1):
        raise BadInput(f"{path}: run {which} wanted, one found: inference-perf writes a file a run")
    found = [value for _, value in json_values(path, WANTED, watch)]
    if len(found) != 1 or not isinstance(found[0], list):
        raise BadInput(f"{path}: no list of requests found, {WANTED} wanted")
    config = _config(path)
    server, api, load = (_object(config.get(name)) for name in ("server", "api", "load"))
    about = str(api.get("type") or "unstated"), text_or_none(server.get("model_name"))
    requests = [_request(one, about, f"{path}: [{at}]") for at, one in enumerate(found[0])]
    if not requests:
        raise BadInput(f"{path}: no request found in it")
    start_ns = min(one.sent_ns for one in requests)
    span_ns = max(one.end_ns or one.sent_ns for one in requests) - start_ns
    kind = str(load.get("type"))
    return ForeignRun(
        made_by=MADE_BY,
        requests=requests,
        wall_zero_ns=started_before(path, span_ns) - start_ns,
        target=text_or_none(server.get("base_url")) or "",
        plan=tuple(
            f"{name} {value if isinstance(value, str | int) else json.dumps(value)}"
            for name in _LOAD
            if (value := load.get(name)) is not None
        ),
        mode=OPEN if kind in _OPEN_KINDS else CLOSED if kind in _CLOSED_KINDS else UNSTATED,
        notes=tuple(_notes(requests, load)),
    )


def _config(path: Path) -> Mapping[str, Any]:
    """The configuration that inference-perf writes beside its reports, {} where there is none."""
    beside = path.with_name("config.yaml")
    if not beside.exists():
        return {}
    from capture.yaml_file import load_yaml

    return _object(load_yaml(beside, "inference-perf's configuration"))


def _request(one: Any, about: tuple[str, str | None], place: str) -> ForeignRequest:
    if not isinstance(one, dict) or "start_time" not in one or "end_time" not in one:
        raise BadInput(f"{place}: no start_time and end_time found, {WANTED} wanted")
    info = _object(one.get("info"))
    response = _object(info.get("response_metrics"))
    chunk_ns = _chunks(response, f"{place}.info.response_metrics")
    failed = _failure(one.get("error"))
    prompt = _object(_object(info.get("request_metrics")).get("text")).get("input_tokens")
    usage = _object(response.get("server_usage"))
    output = usage.get("completion_tokens", response.get("output_tokens"))
    return ForeignRequest(
        name=_name(one, place),
        sent_ns=seconds_ns(one["start_time"], f"{place}.start_time"),
        endpoint=about[0],
        model=about[1],
        stream="output_token_times" in response,
        first_token_ns=int(chunk_ns[0]) if len(chunk_ns) else None,
        chunk_ns=chunk_ns,
        end_ns=seconds_ns(one["end_time"], f"{place}.end_time"),
        status=failed.status if failed else None,
        error=failed.error if failed else None,
        error_text=failed.error_text if failed else None,
        input_tokens=count(usage.get("prompt_tokens", prompt), f"{place}.info: input tokens"),
        output_tokens=None if failed else count(output, f"{place}.info: output tokens"),
    )


def _chunks(response: Mapping[str, Any], place: str) -> Ints:
    """Instants of content-bearing chunks: `chunk_times`, since `output_token_times` repeats a chunk's instant
    for each token that the tokeniser sees in it."""
    times = response.get("chunk_times") or response.get("output_token_times") or []
    return np.rint(many_ns(times, f"{place}.chunk_times")).astype(np.int64)


def _failure(error: Any) -> Failure | None:
    if error is None:
        return None
    stated = _object(error)
    kind, message = (str(stated.get(name) or "") for name in ("error_type", "error_msg"))
    return failure(f"{kind}: {message}".strip(": "))


def _name(one: Mapping[str, Any], place: str) -> str:
    """What the request is called: a digest of what was asked, which is the same in another run."""
    asked = text_or_none(one.get("request"))
    return digest_of(asked) if asked else place.rpartition(" ")[2]


def _notes(requests: list[ForeignRequest], load: Mapping[str, Any]) -> Iterator[str]:
    yield "tokens are the server's usage where it gave one, else inference-perf's own tokeniser's"
    if not load:
        yield "load, target and model are not known: inference-perf's config.yaml is not beside the report"
    if any(one.name.startswith("[") for one in requests):
        yield (
            "requests have no content in the report (per_request_fields.request: false): they pair by the "
            "order in which they ended, which another run may not keep"
        )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
