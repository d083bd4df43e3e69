"""OpenTelemetry GenAI spans: every spelling of the conventions, one row per call, prompts as far as known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from capture.failures import BadInput
from capture.importers.otlp import open_otlp
from capture.importers.pending_trace import write_pending
from capture.importers.synthetic_prompt import SyntheticPrompts, count_tokens
from capture.importers.synthetic_request import ChatRequests
from capture.trace_reader import open_trace

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def value_of(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [value_of(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": value_of(v)} for key, v in value.items()]}}
    return {"stringValue": value}


def attributes(pairs: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value_of(value)} for key, value in pairs.items()]


CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "llama",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 7,
}


def span(
    ident: str = "a", at_ms: int = 0, *, parent: str = "", trace: str = "t", events: Any = (), **more: Any
) -> dict[str, Any]:
    told = more.pop("told", CALL)
    return {
        "traceId": trace,
        "spanId": ident,
        "parentSpanId": parent,
        "startTimeUnixNano": str(START_NS + at_ms * MS),
        "endTimeUnixNano": str(START_NS + (at_ms + 500) * MS),
        "attributes": attributes(told),
        "events": [{"name": name, "attributes": attributes(pairs)} for name, pairs in events],
        **more,
    }


def exported(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def otlp(folder: Path, *requests: Any) -> Path:
    path = folder / "traces.jsonl"
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in requests))
    return path


def rows_of(source: Path, **options: Any) -> list[dict[str, Any]]:
    output = source.with_name("t.parquet")
    pending = open_otlp(source, SyntheticPrompts(), ChatRequests(), **options)
    write_pending(pending, output, overwrite=True)
    return [row for batch in open_trace(output).iter_batches() for row in batch.to_pylist()]


def body_of(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["request_body"])
    return found


def test_a_call_without_prompt_becomes_a_request_of_its_length(tmp_path: Path) -> None:
    told = CALL | {"server.address": "llm.test", "server.port": 8000, "gen_ai.conversation.id": "c1"}
    told |= {"gen_ai.request.temperature": 0.5, "gen_ai.latency.time_to_first_token": 0.125}
    (row,) = rows_of(otlp(tmp_path, exported(span(told=told))))
    body = body_of(row)
    assert count_tokens(body["messages"][0]["content"]) == 12
    assert (body["model"], body["max_tokens"], body["temperature"], body["stream"]) == ("llama", 7, 0.5, True)
    assert (row["request_id"], row["input_tokens"], row["output_tokens"]) == ("otlp-a", 12, 7)
    assert (row["host"], row["path"], row["session_id"]) == ("llm.test:8000", "/v1/chat/completions", "c1")
    assert (row["first_byte_ns"], row["end_ns"], row["outcome"]) == (125 * MS, 500 * MS, "complete")
    metadata = open_trace(tmp_path / "t.parquet").metadata
    assert metadata.wall_zero_ns == START_NS
    assert any("1 spans hold no prompt: prompts are synthetic" in note for note in metadata.notes)


PARTS = [{"role": "user", "parts": [{"type": "text", "content": "hi"}, {"type": "blob", "data": "x"}]}]
WANTED = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
SPELLINGS = {
    "attributes as JSON text": (
        {
            "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "be"}]),
            "gen_ai.input.messages": json.dumps(PARTS),
        },
        (),
    ),
    "attributes with structure": (
        {"gen_ai.system_instructions": [{"type": "text", "content": "be"}], "gen_ai.input.messages": PARTS},
        (),
    ),
    "one event": (
        {},
        [
            (
                "gen_ai.client.inference.operation.details",
                {"gen_ai.system_instructions": ["be"], "gen_ai.input.messages": PARTS},
            )
        ],
    ),
    "an event per message": (
        {},
        [
            ("gen_ai.system.message", {"content": "be"}),
            ("gen_ai.user.message", {"content": "hi"}),
            ("gen_ai.choice", {"content": "no"}),
        ],
    ),
    "an event with a prompt": ({}, [("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps(WANTED)})]),
    "indexed attributes": (
        {
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "hi",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be",
        },
        (),
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_recorded_prompts_in_every_spelling(tmp_path: Path, name: str) -> None:
    told, events = SPELLINGS[name]
    (row,) = rows_of(otlp(tmp_path, exported(span(told=CALL | told, events=events))))
    assert body_of(row)["messages"] == WANTED
    assert any("recorded ones" in note for note in open_trace(tmp_path / "t.parquet").metadata.notes)


def test_older_names_of_counts(tmp_path: Path) -> None:
    vllm = {
        "gen_ai.usage.prompt_tokens": 3,
        "gen_ai.usage.completion_tokens": 4,
        "gen_ai.response.model": "q",
    }
    traceloop = {"llm.request.type": "completion", "llm.usage.prompt_tokens": 5, "llm.is_streaming": False}
    first, second = rows_of(otlp(tmp_path, exported(span("a", told=vllm), span("b", 1, told=traceloop))))
    assert (first["input_tokens"], first["output_tokens"], first["model"]) == (3, 4, "q")
    assert (second["path"], second["stream"], second["output_tokens"]) == ("/v1/completions", False, None)
    assert "max_tokens" not in body_of(second)
    assert count_tokens(body_of(second)["prompt"]) == 5


def test_an_embedding_is_asked_for_as_one(tmp_path: Path) -> None:
    (row,) = rows_of(otlp(tmp_path, exported(span(told=CALL | {"gen_ai.operation.name": "embeddings"}))))
    assert (row["path"], row["stream"]) == ("/v1/embeddings", False)
    assert count_tokens(body_of(row)["input"]) == 12


def test_a_call_within_a_call_counts_once_and_other_spans_not_at_all(tmp_path: Path) -> None:
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 9}
    lines = [
        exported(span("inner", 3, parent="http")),
        exported(span("http", 2, parent="outer", told={"http.request.method": "POST"})),
        exported(span("outer", 1, parent="agent"), span("agent", 0, told=agent), span("other", 4, trace="u")),
    ]
    assert [row["request_id"] for row in rows_of(otlp(tmp_path, *lines))] == ["otlp-outer", "otlp-other"]
    assert open_trace(tmp_path / "t.parquet").metadata.counts["dropped"] == {
        "span that is no call to a model": 2,
        "span within the same call": 1,
    }


def test_a_failed_call_keeps_its_error(tmp_path: Path) -> None:
    told = CALL | {"error.type": "RateLimitError", "http.response.status_code": 429}
    by_status = span("b", 1, status={"code": 2, "message": "gone"})
    first, second = rows_of(otlp(tmp_path, exported(span(told=told), by_status)))
    assert (first["outcome"], first["error"], first["status"]) == ("server_error", "RateLimitError", 429)
    assert (second["outcome"], second["error"]) == ("server_error", "gone")


def test_one_pretty_document_other_signals_and_gzip(tmp_path: Path) -> None:
    source = tmp_path / "traces.json.gz"
    text = json.dumps(exported(span()), indent=2) + "\n" + json.dumps({"resourceLogs": []})
    source.write_bytes(gzip.compress(text.encode()))
    assert len(rows_of(source)) == 1


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    (row,) = rows_of(otlp(tmp_path, exported(span())), model="mine")
    assert (row["model"], body_of(row)["model"]) == ("mine", "mine")


BROKEN = {
    "no JSON": (["{"], ":2: no JSON"),
    "cut off": ([exported(span()), '{"resourceSpans": ['], ":3: no JSON"),
    "something else": (['{"traces": []}'], ':1: {"traces": []} found, an OTLP export request'),
    "no list": (['{"resourceSpans": {}}'], ":1: resourceSpans {} found, a list of objects wanted"),
    "no instant": (
        [exported(span(startTimeUnixNano="soon"))],
        ":1: startTimeUnixNano 'soon' found, ns since",
    ),
    "no calls": ([exported(span(told={}))], "no GenAI call found (1 span that is no call to a model)"),
    "no lengths": (
        [exported(span(told={"gen_ai.operation.name": "chat"}))],
        "no GenAI call found (1 call without prompt and token count)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    lines, wanted = BROKEN[name]
    source = otlp(tmp_path, *lines)
    with pytest.raises(BadInput) as caught:
        rows_of(source)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["traces.jsonl"]
