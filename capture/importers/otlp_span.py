"""One OpenTelemetry span of a GenAI call → what a request needs. Pure.

Reads the GenAI semantic conventions of 2024 to 2026, and what came before them (OpenLLMetry's indexed
`gen_ai.prompt.0.content`, vLLM's `gen_ai.usage.prompt_tokens` and latencies).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from capture.importers.synthetic_prompt import MOST_TOKENS
from capture.sse import storable
from capture.trace_format import COMPLETE, SERVER_ERROR

CHAT, COMPLETION, EMBEDDINGS = "chat", "text_completion", "embeddings"
_OPERATIONS: Final = {
    "chat": CHAT,
    "generate_content": CHAT,
    "text_completion": COMPLETION,
    "completion": COMPLETION,
    "embeddings": EMBEDDINGS,
    "embedding": EMBEDDINGS,
}
_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
_OUTPUT: Final = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
)
_MODEL: Final = ("gen_ai.request.model", "gen_ai.response.model", "llm.request.model")
_SESSION: Final = ("gen_ai.conversation.id", "session.id", "langfuse.session.id", "gen_ai.thread.id")
_STREAMED: Final = ("gen_ai.request.stream", "llm.is_streaming", "gen_ai.is_streaming")
_FIRST_TOKEN_S: Final = ("gen_ai.latency.time_to_first_token", "gen_ai.response.time_to_first_chunk")
_SETTINGS: Final = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.seed": "seed",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.stop_sequences": "stop",
}
_INDEXED: Final = re.compile(r"gen_ai\.prompt\.(\d{1,6})\.(role|content)")
_EVENT: Final = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_LEAST_NS, _MOST_NS = -(10**18), 7_258_118_400 * 10**9

type Attributes = dict[str, Any]
type Messages = list[dict[str, str]]


class BadSpan(ValueError):  # noqa: N818 - its text says what was found and what was wanted
    """A span that is not built as OTLP says."""


def attributes_of(holder: Mapping[str, Any]) -> Attributes:
    """The attributes of a span or event (OTLP JSON: a list of key and typed value) as a dictionary."""
    pairs = holder.get("attributes") or []
    if not isinstance(pairs, list):
        raise BadSpan(f"attributes {pairs!r:.40} found, a list of key and value wanted")
    return {str(pair.get("key")): _plain(pair.get("value")) for pair in pairs if isinstance(pair, dict)}


def _plain(value: Any) -> Any:
    """An OTLP AnyValue as Python's own: integers may be written as text."""
    if not isinstance(value, dict):
        return value
    for kind, found in value.items():
        if kind == "intValue":
            return int(found) if re.fullmatch(r"-?\d{1,19}", str(found)) else None
        if kind == "arrayValue":
            return [_plain(item) for item in (found or {}).get("values", ())]
        if kind == "kvlistValue":
            return {
                str(pair.get("key")): _plain(pair.get("value")) for pair in (found or {}).get("values", ())
            }
        return found
    return None


def instant_ns(span: Mapping[str, Any], name: str) -> int:
    """A stamp of the span, ns since 1970; raises `BadSpan`."""
    found = span.get(name)
    if not re.fullmatch(r"\d{1,19}", str(found)) or not _LEAST_NS < int(str(found)) < _MOST_NS:
        raise BadSpan(f"{name} {found!r:.40} found, ns since 1970 wanted")
    return int(str(found))


def operation_of(attributes: Attributes) -> str | None:
    """Which call to a model the span tells of; None for another span (a tool, an agent, no GenAI at all)."""
    named = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
    if named is not None:
        return _OPERATIONS.get(str(named))
    return CHAT if any(key in attributes for key in (*_INPUT, *_OUTPUT, *_INDEXED_FIRST)) else None


_INDEXED_FIRST: Final = ("gen_ai.prompt.0.content", "gen_ai.input.messages")


def call_of(span: Mapping[str, Any], attributes: Attributes, operation: str) -> dict[str, Any]:
    """What a request needs of the span, of plain values; raises `BadSpan`."""
    start_ns, end_ns = instant_ns(span, "startTimeUnixNano"), instant_ns(span, "endTimeUnixNano")
    first_s = _first(attributes, _FIRST_TOKEN_S)
    if not (isinstance(first_s, int | float) and 0 <= first_s < 10**6):
        first_s = None
    failed = _failure(span, attributes)
    status = attributes.get("http.response.status_code")
    session = _first(attributes, _SESSION)
    return {
        "operation": operation,
        "start_ns": start_ns,
        "end_ns": max(start_ns, end_ns),
        "first_byte_ns": None if first_s is None else start_ns + round(first_s * 1e9),
        "input_tokens": _count(_first(attributes, _INPUT)),
        "output_tokens": _count(_first(attributes, _OUTPUT)),
        "max_tokens": _count(attributes.get("gen_ai.request.max_tokens")),
        "model": _text(_first(attributes, _MODEL)),
        "session": None if session is None else _text(session),
        "stream": _truth(_first(attributes, _STREAMED)),
        "settings": {
            name: attributes[key] for key, name in _SETTINGS.items() if attributes.get(key) is not None
        },
        "messages": messages_of(span, attributes),
        "host": _host(attributes),
        "outcome": SERVER_ERROR if failed else COMPLETE,
        "error": failed,
        "status": status if isinstance(status, int) and 100 <= status <= 999 else None,
    }


def messages_of(span: Mapping[str, Any], attributes: Attributes) -> Messages:
    """The prompt, where it was recorded: as attributes, as an event, or as one event per message."""
    events = [event for event in span.get("events") or () if isinstance(event, dict)]
    for holder in (attributes, *map(attributes_of, events)):
        structured = _structured(holder)
        if structured:
            return structured
    indexed: dict[int, dict[str, str]] = {}
    for key, value in attributes.items():
        if found := _INDEXED.fullmatch(key):
            indexed.setdefault(int(found[1]), {"role": "user", "content": ""})[found[2]] = _text(value)
    if indexed:
        return [indexed[number] for number in sorted(indexed)]
    return list(_from_events(events))


def _structured(holder: Attributes) -> Messages:
    messages: Messages = []
    for key, role in (("gen_ai.system_instructions", "system"), ("gen_ai.input.messages", None)):
        found = _parsed(holder.get(key))
        for message in found if isinstance(found, list) else ():
            if role is not None:
                messages.append({"role": role, "content": _content([message])})
            elif isinstance(message, dict):
                parts = message.get("parts", message.get("content"))
                messages.append({"role": _text(message.get("role", "user")), "content": _content(parts)})
    return messages if any(message["role"] != "system" for message in messages) else []


def _from_events(events: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    for event in events:
        found, told = _EVENT.fullmatch(str(event.get("name"))), attributes_of(event)
        if found and "content" in told:
            yield {"role": found[1], "content": _text(told["content"])}
        elif event.get("name") == "gen_ai.content.prompt":
            prompt = _parsed(told.get("gen_ai.prompt"))
            for message in prompt if isinstance(prompt, list) else [{"content": prompt}]:
                if isinstance(message, dict):
                    role = _text(message.get("role", "user"))
                    yield {"role": role, "content": _content(message.get("content"))}


def _content(parts: Any) -> str:
    """The text of a message's parts; what is no text is left out."""
    if isinstance(parts, str):
        return storable(parts)
    texts = []
    for part in parts if isinstance(parts, list) else ():
        found = part.get("content", part.get("text")) if isinstance(part, dict) else part
        if isinstance(found, str):
            texts.append(storable(found))
    return "\n".join(texts)


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _failure(span: Mapping[str, Any], attributes: Attributes) -> str | None:
    status = span.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    if "error.type" in attributes or code in (2, "STATUS_CODE_ERROR"):
        told = attributes.get("error.type") or (status or {}).get("message") or "error"
        return _text(told)[:200]
    return None


def _host(attributes: Attributes) -> str | None:
    address, port = attributes.get("server.address"), attributes.get("server.port")
    if not isinstance(address, str) or not address:
        return None
    return f"{storable(address)}:{port if isinstance(port, int) and 0 < port < 65536 else 443}"


def _first(attributes: Attributes, keys: Iterable[str]) -> Any:
    return next((attributes[key] for key in keys if attributes.get(key) is not None), None)


def _count(value: Any) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if fits else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str:
    return storable(value if isinstance(value, str) else json.dumps(value))
