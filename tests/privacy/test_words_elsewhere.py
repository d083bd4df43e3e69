"""Where words of a prompt or an answer stand besides their JSON, and that none is left where contents go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from canaries import canary

from capture.privacy.audit import Audit
from capture.redaction import RedactionPolicy, redact
from capture.trace_format import TRACE_SCHEMA

WORDS = "zebra crossing"
POLICIES = [RedactionPolicy(prompts=one, completions=one) for one in ("drop", "hash", "pseudonymise")]


def delta(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def row(**columns: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(TRACE_SCHEMA.names),
        "path": "/v1/chat/completions",
        "request_headers": [("content-type", "application/json")],
        "request_body": b"{}",
        "response_headers": [("content-type", "text/event-stream")],
        "response_body": b"",
        **columns,
    }


def stream(body: bytes) -> dict[str, Any]:
    return {"response_body": body}


PLACES = {
    "events that end in CRLF, as sse-starlette writes them": stream(b"data: " + delta(WORDS) + b"\r\n\r\n"),
    "events that end in CR": stream(b"data: " + delta(WORDS) + b"\r\r"),
    "an event after a byte order mark": stream(b"\xef\xbb\xbfdata:" + delta(WORDS) + b"\n\n"),
    "a comment": stream(b": the " + WORDS.encode() + b" it is\n\ndata: {}\n\n"),
    "a name of an event": stream(b"event: " + WORDS.encode() + b"\ndata: {}\n\n"),
    "an id of an event": stream(b"data: {}\nid: " + WORDS.encode() + b"\n\n"),
    "a stream that is none": stream(b"The " + WORDS.encode() + b" is over there\n"),
    "a model's name": {"model": WORDS},
    "what a gRPC call failed of": {"error": f"grpc-status 3 (INVALID_ARGUMENT): not {WORDS}"},
    "what a WebSocket was closed for": {"error": f"websocket closed with 1008: not {WORDS}"},
    "a trailer of gRPC": {"response_trailers": [("grpc-status", "3"), ("grpc-message", WORDS)]},
    "a file's name": {"response_headers": [("Content-Disposition", f'attachment; filename="{WORDS}"')]},
    "a path": {"path": "/complete/zebra%20crossing"},
    "a path in Chinese": {"path": "/complete/%E6%96%91%E9%A6%ACzebra"},
    "a parameter of any name": {"path": "/complete?user_text=zebra+crossing"},
    "where a client came from": {"request_headers": [("referer", "http://h/zebra%20crossing")]},
    "a session's id": {"session_id": WORDS},
}
LEFT_ALONE = {
    "ids, names and times of events": stream(b"event: message_start\nid: 7-a\nretry: 10\ndata: {}\n\n: \n\n"),
    "paths of APIs": {
        "path": "/v1beta/models/gemini-2.0:generateContent?alt=sse&key[]=a,b&t=2026-11-28T10:00:00"
    },
    "a model": {"model": "org/model-7b:latest"},
    "how a gRPC call failed": {"error": "grpc-status 8 (RESOURCE_EXHAUSTED)"},
    "how a connection broke": {"error": "HTTP/1 protocol error: peer closed connection (received 4 bytes)"},
}


@pytest.mark.parametrize("policy", POLICIES, ids=[policy.prompts for policy in POLICIES])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_no_word_is_left_there_and_an_audit_finds_those_that_are(
    place: dict[str, Any], policy: RedactionPolicy
) -> None:
    kept = row(**place)
    if "session_id" not in place:  # hashed or kept, which an audit can't tell
        found = Audit(policy)
        found.row(kept)
        assert found.findings() != []
    redact(kept, policy)
    assert not any(word in repr(kept).lower() for word in WORDS.split())
    clean = Audit(policy)
    clean.row(kept)
    assert clean.findings() == []


@pytest.mark.parametrize("place", LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_is_no_content_stays(place: dict[str, Any]) -> None:
    kept = row(**place)
    redact(kept, POLICIES[-1])
    assert {name: kept[name] for name in place} == place


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_secret_that_is_split_over_events_is_found_however_their_lines_end(end: bytes) -> None:
    import random

    secret = canary("openai_key", random.Random(1)).text
    body = b"".join(b"data: " + delta(part) + 2 * end for part in (secret[:12], secret[12:]))
    kept = row(response_body=body, chunk_bytes=[len(body)])
    found = Audit(RedactionPolicy())
    found.row(kept)
    assert [one.kind for one in found.findings()] == ["openai_key"]
    redact(kept, RedactionPolicy())
    assert secret[12:] not in kept["response_body"].decode()
    assert kept["response_body"].count(2 * end) == 2


def test_a_secret_in_a_quoted_path_is_found() -> None:
    kept = row(path="/files/sk%2Dproj%2D7abcdefghijklmnopqrstuvwxyz0123q/x")
    redact(kept, RedactionPolicy())
    assert kept["path"] == "/files/REDACTED/x"
