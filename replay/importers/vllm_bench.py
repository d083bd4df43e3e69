"""Results of `vllm bench serve --save-result --save-detailed` (and of `benchmark_serving.py` before it).

Read as vLLM 0.33 writes them (`vllm/benchmarks/serve.py`, `lib/endpoint_request_func.py`): one JSON object
with a list per quantity, one entry a request, in the order of the data. Earlier files lack `latencies` and
`queue_times`; the former is then what vLLM itself makes it of, TTFT and all gaps.

A result holds no due instants, no address, no seed and no name of the data. Its E2E ends at the last token.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from replay.engine.run_format import CLOSED, OPEN
from replay.importers.foreign_run import NO_CHUNKS, ForeignRequest, ForeignRun, Ints, instants_of
from replay.importers.result_file import Watch, chosen, json_values, started_before, unwatched
from replay.importers.stated import (
    count,
    many_ns,
    member,
    number,
    optional_number,
    seconds_ns,
    text_or_none,
)
from replay.importers.stated_failure import Failure, failure

MADE_BY: Final = "vllm bench serve"
WANTED: Final = "a result of `vllm bench serve --save-result --save-detailed`"
_NEEDED: Final = ("start_times", "ttfts", "itls", "errors")
_LISTS: Final = (*_NEEDED, "input_lens", "output_lens", "latencies", "queue_times")
_PLAN: Final = (
    *("num_prompts", "request_rate", "burstiness", "max_concurrency"),
    *("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps"),
)
_WAITED_S: Final = 1e-3
_OK: Final = 200  # vLLM takes nothing else for a success


def read_vllm_bench(path: Path, which: int | None = None, watch: Watch = unwatched) -> ForeignRun:
    """The run of a result file; `which` chooses one of a file of `--append-result`. Raises `BadInput`."""
    found = [value for _, value in json_values(path, WANTED, watch)]
    for value in found:
        if not isinstance(value, dict) or "request_throughput" not in value:
            raise BadInput(f"{path}: no request_throughput found, {WANTED} wanted")
    result = chosen(found, which, path, [str(value.get("date", "?")) for value in found])
    lists = _lists(result, path)
    requests = tuple(_requests(result, lists, str(path)))
    waited_s = max((number(value, f"{path}: queue_times") for value in lists["queue_times"]), default=0.0)
    rate, limit = result.get("request_rate"), result.get("max_concurrency")
    span_ns = max((one.end_ns or one.sent_ns) - one.sent_ns for one in requests)
    span_ns += max(one.sent_ns for one in requests) - min(one.sent_ns for one in requests)
    return ForeignRun(
        made_by=MADE_BY,
        requests=requests,
        wall_zero_ns=_ended(result, path, span_ns) - min(one.sent_ns for one in requests),
        label=text_or_none(result.get("label")) or "",
        plan=tuple(f"{name} {result[name]}" for name in _PLAN if result.get(name) is not None),
        mode=CLOSED if limit is not None and rate == "inf" else OPEN,
        notes=tuple(_notes(waited_s, limit)),
    )


def _lists(result: Mapping[str, Any], path: Path) -> dict[str, list[Any]]:
    """The lists of the result by name, all of one length, empty where an optional one is missing."""
    missing = [name for name in _NEEDED if not isinstance(result.get(name), list)]
    if missing == ["start_times"]:
        raise BadInput(
            f"{path}: no start_times found: a vLLM that did not keep them; run a newer one's bench"
        )
    if missing:
        raise BadInput(
            f"{path}: no {', '.join(missing)} found: a summary without requests, or of a pooling model, "
            "which has no instants; save it with `vllm bench serve --save-result --save-detailed`"
        )
    lists = {name: found for name in _LISTS if isinstance(found := result.get(name, []), list)}
    for name, found in lists.items():
        if len(found) != len(lists["start_times"]) and (found or name in _NEEDED):
            raise BadInput(
                f"{path}: {len(found)} {name} found, {len(lists['start_times'])} as start_times wanted: the "
                "file was changed or cut"
            )
    if not lists["start_times"]:
        raise BadInput(f"{path}: no request found in it")
    return lists


def _requests(
    result: Mapping[str, Any], lists: Mapping[str, list[Any]], place: str
) -> Iterator[ForeignRequest]:
    endpoint = str(result.get("backend") or result.get("endpoint_type") or "unstated")
    model = text_or_none(result.get("model_id"))
    for at in range(len(lists["start_times"])):
        one = {name: found[at] for name, found in lists.items() if found}
        where = {name: f"{place}: {name}[{at}]" for name in _LISTS}
        sent_ns = seconds_ns(one["start_times"], where["start_times"])
        failed = _failure(one, where["errors"])
        chunk_ns = NO_CHUNKS if failed else _chunks(one, sent_ns, where)
        queued_ns = seconds_ns(one["queue_times"], where["queue_times"]) if "queue_times" in one else None
        yield ForeignRequest(
            name=f"prompt {at:06}",
            sent_ns=sent_ns,
            endpoint=endpoint,
            stream=True,  # vLLM asks for nothing else here
            dequeued_ns=None if queued_ns is None else sent_ns - queued_ns,
            first_token_ns=int(chunk_ns[0]) if len(chunk_ns) else None,
            chunk_ns=chunk_ns,
            end_ns=None if failed else _end(one, sent_ns, chunk_ns, where["latencies"]),
            model=model,
            status=failed.status if failed else _OK,
            error=failed.error if failed else None,
            error_text=failed.error_text if failed else None,
            input_tokens=count(one.get("input_lens"), where["input_lens"]),
            output_tokens=None if failed else _output_tokens(one, len(chunk_ns), where["output_lens"]),
        )


def _failure(one: Mapping[str, Any], place: str) -> Failure | None:
    """How the request failed; a request without a first token did, whatever else stands there."""
    text = one["errors"]
    if text is not None and not isinstance(text, str):
        raise BadInput(f"{place}: {text!r} found, a text wanted")
    return failure(text or "no reason given") if text or not one["ttfts"] else None


def _chunks(one: Mapping[str, Any], sent_ns: int, where: Mapping[str, str]) -> Ints:
    """Instants of the content-bearing events: TTFT, then the sum of gaps."""
    first_ns = sent_ns + seconds_ns(one["ttfts"], where["ttfts"])
    return instants_of(first_ns, many_ns(one["itls"], where["itls"]))


def _end(one: Mapping[str, Any], sent_ns: int, chunk_ns: Ints, place: str) -> int:
    stated = optional_number(one.get("latencies"), place)
    return int(chunk_ns[-1]) if stated is None else sent_ns + seconds_ns(stated, place)


def _output_tokens(one: Mapping[str, Any], events: int, place: str) -> int | None:
    """The count that is stated; 1 is what vLLM puts where neither server nor tokeniser gave one."""
    found = count(one.get("output_lens"), place)
    return None if found == 1 and events > 1 else found


def _notes(waited_s: float, limit: Any) -> Iterator[str]:
    yield "E2E ends at the last token, as vllm bench has it; ITL is by event, also of events read at once"
    yield "paths, seed and data are not in the file; tokens are the server's count, or the tokeniser's"
    if limit is not None and waited_s > _WAITED_S:
        yield (
            f"up to {waited_s:.3f} s were spent waiting for one of the {limit} places that --max-concurrency "
            "gives: no latency here has that time in it"
        )


def _ended(result: Mapping[str, Any], path: Path, span_ns: int) -> int:
    """Unix ns of the run's start: `date`, when it was saved, in this machine's zone, less what it lasted."""
    if "date" not in result:
        return started_before(path, span_ns)
    place = f"{path}: date"
    text = member(result, "date", str(path), str)
    try:
        saved = datetime.datetime.strptime(text, "%Y%m%d-%H%M%S").astimezone()
    except ValueError as error:
        raise BadInput(f"{place}: {text!r} found, YYYYMMDD-hhmmss wanted") from error
    lasted_ns = seconds_ns(result.get("duration", span_ns / 1e9), f"{path}: duration")
    return round(saved.timestamp() * 1e9) - lasted_ns
