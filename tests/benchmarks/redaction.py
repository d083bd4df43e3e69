"""What redaction costs per row, beside what reading its JSON costs: `python tests/benchmarks/redaction.py`.

A row is a chat of 11 KB, with the answer once whole and once as a stream of 200 events. Each figure is the
median of several batches, in µs of one core; the ratio is to `json.loads` of the same bodies in the same run.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from capture.importers.synthetic_prompt import WORDS
from capture.privacy.json_paths import PathRule
from capture.redaction import RedactionPolicy, redact, redact_answer, redact_request
from capture.trace_format import TRACE_SCHEMA

KEY = "sk-proj-7abcdefgh1234567890"
CHANCE = random.Random(1)


def prose(words: int) -> str:
    return "".join(CHANCE.choice(WORDS) + CHANCE.choice((" ", " ", " ", ", ", ".\n")) for _ in range(words))


def chat(more: str = "") -> bytes:
    messages = [{"role": ("user", "assistant")[i % 2], "content": prose(95)} for i in range(21)]
    messages[-1]["content"] += more
    return json.dumps(
        {"model": "meta-llama/Llama-3.1-8B-Instruct", "stream": True, "messages": messages}
    ).encode()


def stream(more: str = "") -> list[bytes]:
    fixed = {"id": "chatcmpl-9f8b7c6d5e4f", "object": "chat.completion.chunk", "created": 1732492800}
    deltas = [f" {CHANCE.choice(WORDS)}" for _ in range(200)] + [more[:9], more[9:]]
    events = [
        fixed | {"model": "m", "choices": [{"index": 0, "delta": {"content": d}, "finish_reason": None}]}
        for d in deltas
    ]
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]


def row(request: bytes | None, answer: list[bytes]) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(TRACE_SCHEMA.names)
    agent = ("user-agent", "OpenAI/Python 1.60.0")
    return columns | {
        "path": "/v1/chat/completions",
        "request_headers": [("content-type", "application/json"), ("authorization", f"Bearer {KEY}"), agent],
        "request_body": request,
        "response_headers": [
            ("content-type", "text/event-stream" if len(answer) > 1 else "application/json")
        ],
        "response_body": b"".join(answer),
        "chunk_bytes": [len(piece) for piece in answer],
    }


def cost_us(work: Callable[[dict[str, Any]], object], of: dict[str, Any], rows: int = 40) -> float:
    """Median µs per row over nine batches; each row is a copy, as `redact` changes it."""
    batches = []
    for _ in range(9):
        copies = [dict(of) for _ in range(rows)]
        began_ns = time.process_time_ns()
        for one in copies:
            work(one)
        batches.append((time.process_time_ns() - began_ns) / rows / 1000)
    return statistics.median(batches)


def main() -> None:
    whole = [json.dumps({"choices": [{"message": {"content": prose(200)}}]}).encode()]
    plain, secret = row(chat(), whole), row(chat(f" {KEY} "), whole)
    streamed, split = row(None, stream()), row(None, stream(KEY))
    default = RedactionPolicy()
    strict = RedactionPolicy(paths=(PathRule("$.user", "hash"), PathRule("$..ssn", "drop")))
    pseudo = RedactionPolicy(prompts="pseudonymise", completions="pseudonymise")
    fresh = lambda one: redact(one, RedactionPolicy(prompts="pseudonymise", completions="pseudonymise"))  # noqa: E731
    parse = cost_us(lambda one: json.loads(one["request_body"]), plain)
    events = cost_us(
        lambda one: [json.loads(e[6:]) for e in one["response_body"].split(b"\n\n") if e], streamed
    )
    print(f"{'11 KB chat, answer in one piece':52s}{'µs':>8s}{'× json.loads':>14s}")
    for name, work, of in (
        ("default policy, nothing to redact", lambda one: redact(one, default), plain),
        ("default policy, one secret", lambda one: redact(one, default), secret),
        ("JSON paths", lambda one: redact(one, strict), plain),
        ("pseudonymise, conversation known", lambda one: redact(one, pseudo), plain),
        ("pseudonymise, nothing known", fresh, plain),
        ("request alone, default", lambda one: redact_request(one, default), plain),
    ):
        took = cost_us(work, of)
        print(f"{name:52s}{took:8.0f}{took / parse:14.1f}")
    print(f"\n{'stream of 200 events':52s}{'µs':>8s}{'× json.loads':>14s}")
    for name, work, of in (
        ("default policy, nothing to redact", lambda one: redact_answer(one, default), streamed),
        ("default policy, a secret over two events", lambda one: redact_answer(one, default), split),
        ("pseudonymise", lambda one: redact_answer(one, pseudo), streamed),
    ):
        took = cost_us(work, of, 10)
        print(f"{name:52s}{took:8.0f}{took / events:14.1f}")


if __name__ == "__main__":
    main()
