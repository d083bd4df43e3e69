"""OpenTelemetry GenAI spans (OTLP JSON, as the collector's file exporter writes it) → a trace.

Each line is one export request: resourceSpans, scopeSpans, spans. Calls to a model become rows; where a
framework and the client below it both wrote a span of the same call, only the outer one. Prompts are the
recorded ones where the spans hold them, else synthetic.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from capture.importers.captured_rows import Watch, unwatched
from capture.importers.json_stream import JsonText, NotJson
from capture.importers.otlp_span import (
    CHAT,
    EMBEDDINGS,
    BadSpan,
    Messages,
    attributes_of,
    call_of,
    operation_of,
)
from capture.importers.pending_trace import PendingTrace
from capture.importers.sorted_spool import SortedSpool
from capture.importers.source_file import SourceFile, reading
from capture.importers.synthetic_prompt import RULE, SyntheticPrompts
from capture.importers.synthetic_request import HOST, ChatRequests
from capture.sessions import SessionFinder

CLOCK_TICK_NS: Final = 1000
_PATHS: Final = {CHAT: "/v1/chat/completions", EMBEDDINGS: "/v1/embeddings"}
_WANTED: Final = 'an OTLP export request {"resourceSpans": [...]} wanted'


def open_otlp(
    path: Path,
    prompts: SyntheticPrompts,
    requests: ChatRequests,
    *,
    model: str | None = None,
    folder: Path | None = None,
    watch: Watch = unwatched,
) -> PendingTrace:
    """Begin to import the spans at `path`; reads them once, through spools in `folder`.

    `model` stands in for the recorded ones. Raises `BadInput` with line, found and wanted.
    """
    dropped: Counter[str] = Counter()
    by_trace = SortedSpool(folder)
    for trace_id, span_id, parent_id, call in read_spans(SourceFile(path), watch):
        by_trace.add(trace_id, (trace_id, span_id, parent_id, call), _size_bytes(call))
    calls = SortedSpool(folder)
    known = Counter[str]()
    zero_ns: int | None = None
    for span_id, call in _outermost(by_trace, dropped):
        if not call["messages"] and call["input_tokens"] is None:
            dropped["call without prompt and token count"] += 1
            continue
        known["recorded" if call["messages"] else "synthetic"] += 1
        known["hosts"] += call["host"] is not None
        zero_ns = call["start_ns"] if zero_ns is None else min(zero_ns, call["start_ns"])
        calls.add(call["start_ns"], (span_id, call), _size_bytes(call))
    if zero_ns is None:
        causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items())
        raise BadInput(
            f"{path}: no GenAI call found{f' ({causes})' if causes else ''}; spans of calls wanted"
        )
    return PendingTrace(
        place=path,
        source="import:otlp",
        wall_zero_ns=zero_ns,
        rows=_rows(calls, prompts, requests, model, zero_ns),
        fraction_read=calls.fraction,
        clock_tick_ns=CLOCK_TICK_NS,
        notes=tuple(_notes(known)),
        dropped=dropped,
    )


def read_spans(
    source: SourceFile, watch: Watch = unwatched
) -> Iterator[tuple[str, str, str, dict[str, Any] | None]]:
    """(trace id, span id, parent's id, the GenAI call or None) of every span. Raises `BadInput`."""
    with source, reading(source.path):
        try:
            for line, request in JsonText(source.text()).values():
                watch(source.fraction_read())
                try:
                    for span in _spans(request):
                        yield _span(span)
                except BadSpan as trouble:
                    raise BadInput(f"{source.path}:{line}: {trouble}") from None
        except NotJson as trouble:
            raise BadInput(f"{source.path}:{trouble.line}: no JSON ({trouble}) found, {_WANTED}") from None


def _spans(request: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(request, dict) or not ("resourceSpans" in request or "resource_spans" in request):
        if isinstance(request, dict) and ("resourceLogs" in request or "resourceMetrics" in request):
            return  # the file exporter may write all three signals to one file
        raise BadSpan(f"{json.dumps(request)[:40]} found, {_WANTED}")
    for resource in _list(request, "resourceSpans", "resource_spans"):
        for scope in _list(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
            yield from _list(scope, "spans")


def _list(holder: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    found = next((holder[name] for name in names if name in holder), ())
    if not (isinstance(found, list | tuple) and all(isinstance(item, dict) for item in found)):
        raise BadSpan(f"{names[0]} {found!r:.40} found, a list of objects wanted")
    return list(found)


def _span(span: Mapping[str, Any]) -> tuple[str, str, str, dict[str, Any] | None]:
    attributes = attributes_of(span)
    operation = operation_of(attributes)
    call = None if operation is None else call_of(span, attributes, operation)
    return (*(str(span.get(name) or "") for name in ("traceId", "spanId", "parentSpanId")), call)  # type: ignore[return-value]


def _outermost(by_trace: SortedSpool, dropped: Counter[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The calls of each trace that don't happen within another call."""
    for _, group in itertools.groupby(by_trace, key=lambda entry: entry[0]):
        spans = list(group)
        parents = {span_id: parent_id for _, span_id, parent_id, _ in spans}
        called = {span_id for _, span_id, _, call in spans if call is not None}
        for _, span_id, _, call in spans:
            if call is None:
                dropped["span that is no call to a model"] += 1
            elif called & set(_ancestors(span_id, parents)):
                dropped["span within the same call"] += 1
            else:
                yield span_id, call


def _ancestors(span_id: str, parents: Mapping[str, str]) -> Iterator[str]:
    seen = {span_id}
    while (span_id := parents.get(span_id, "")) and span_id not in seen:
        seen.add(span_id)
        yield span_id


def _rows(
    calls: SortedSpool, prompts: SyntheticPrompts, requests: ChatRequests, model: str | None, zero_ns: int
) -> Iterator[dict[str, Any]]:
    sessions = SessionFinder()
    for number, (span_id, call) in enumerate(calls, start=1):
        messages: Messages = call["messages"]
        if not messages:
            messages = [{"role": "user", "content": prompts.of_row(number, call["input_tokens"])}]
        asked = model or call["model"] or requests.model
        stream = requests.stream if call["stream"] is None else call["stream"]
        stream = stream and call["operation"] != EMBEDDINGS
        named = sessions.by_header([("session-id", call["session"] or "")])
        row = requests.row(
            f"otlp-{span_id or number}",
            call["start_ns"] - zero_ns,
            "",
            input_tokens=call["input_tokens"],
            output_tokens=call["output_tokens"],
        )
        first_byte_ns = call["first_byte_ns"]
        yield row | {
            "session_id": named[0] if named else None,
            "turn": named[1] if named else 0,
            "scheme": "https" if (call["host"] or HOST).endswith(":443") else "http",
            "host": call["host"] or HOST,
            "path": _PATHS.get(call["operation"], "/v1/completions"),
            "request_body": body_of(call, messages, asked, stream, requests),
            "outcome": call["outcome"],
            "error": call["error"],
            "status": call["status"],
            "first_byte_ns": None if first_byte_ns is None else first_byte_ns - zero_ns,
            "end_ns": call["end_ns"] - zero_ns,
            "model": asked,
            "stream": stream,
        }


def body_of(
    call: Mapping[str, Any], messages: Messages, model: str, stream: bool, requests: ChatRequests
) -> bytes:
    """The JSON body that asks an OpenAI-compatible server for the same again, UTF-8."""
    text = "\n".join(message["content"] for message in messages)
    if call["operation"] == EMBEDDINGS:
        return json.dumps({"model": model, "input": text}, separators=(",", ":")).encode()
    said: dict[str, Any] = {"messages": messages} if call["operation"] == CHAT else {"prompt": text}
    fields = {"model": model, **said, **call["settings"]}
    most = call["max_tokens"] if call["output_tokens"] is None else call["output_tokens"]
    if most is not None:
        fields["max_tokens"] = max(1, most)
        if requests.ignore_eos:
            fields |= {"ignore_eos": True, "min_tokens": max(1, most)}
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(fields, separators=(",", ":")).encode()


def _size_bytes(call: Mapping[str, Any] | None) -> int:
    return 400 if call is None else 2500 + sum(200 + len(m["content"]) for m in call["messages"])


def _notes(known: Counter[str]) -> Iterator[str]:
    yield "spans hold no answers' bytes and no chunk instants; requests go to an OpenAI-compatible server"
    if known["synthetic"]:
        yield f"{known['synthetic']:,} spans hold no prompt: {RULE}"
    if known["recorded"]:
        yield f"{known['recorded']:,} prompts are the recorded ones, as text, without tool calls and images"
