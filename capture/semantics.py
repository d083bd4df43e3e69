"""What a captured request means: its model, whether it streams, its token counts, its session.

Pure functions of a trace row (a dictionary with the columns of `TRACE_SCHEMA`). Nothing here guesses: a
count that the response does not state stays null. The wire format of events is in `sse`, the memory of
conversations in `sessions`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

from capture.alike_events import AlikeEvents
from capture.content_codings import decode_content
from capture.message_semantics import grpc_error, model_in_query, read_realtime
from capture.sessions import SessionFinder, Talk
from capture.sse import (
    Answer,
    EventStream,
    JsonLines,
    choices_in,
    outline,
    parse_json,
    parse_large_json,
    storable,
)
from capture.trace_format import CLIENT_ABORTED, COMPLETE

_PIECE_BYTES: Final = 4 << 20
_MODEL_IN_PATH: Final = re.compile(r"/(?:models|deployments|engines)/([^/?:]+)")
_LAST_EVENTS: Final = ("message_stop", "response.completed")

type Headers = Sequence[tuple[str, str]]


def fill_semantics(row: dict[str, Any], sessions: SessionFinder) -> None:
    """Set `model`, `stream`, `input_tokens`, `output_tokens`, `session_id` and `turn` of `row` in place.

    A gRPC call that failed is a complete exchange whose `error` says its grpc-status.

    A client that closes once the stream has said that it is over (`[DONE]`) has had its whole answer: such a
    row's `client_aborted` becomes `complete`, ended by its last chunk. `model` is the one asked for (body,
    then path), else the one that answered. `stream` is true when the request asked for a stream or the
    response is one. A session that the row already has is kept.
    Call in the order in which answers ended, so that a conversation's later turns find the earlier ones.
    """
    request_headers: Headers = row["request_headers"]
    response_headers: Headers = row["response_headers"] or ()
    kind = (header(response_headers, "content-type") or "").lower()
    if row.get("message_ns") is None:
        request = json_body(row["request_body"], request_headers, parse_large_json)
        reading = _read_answer(row["response_body"], response_headers, kind)
    else:  # messages of gRPC or WebSocket: no JSON of HTTP
        request, reading = None, _Reading()
        if row["status"] == 101:
            read_realtime(row, reading.answer)
            reading.answer.model = model_in_query(row["path"]) or reading.answer.model
    if row["error"] is None:
        row["error"] = grpc_error(response_headers, row.get("response_trailers") or ())
    asked = request if isinstance(request, dict) else {}
    if row["outcome"] == CLIENT_ABORTED and reading.answer.done:
        ended_ns = row["chunk_ns"][-1] if row["chunk_ns"] else row["end_ns"]  # importers may have no chunks
        row["outcome"], row["error"], row["end_ns"] = COMPLETE, None, ended_ns
    row["stream"] = asked.get("stream") is True or "text/event-stream" in kind or row["status"] == 101
    model = _model_asked(asked, row["path"]) or reading.answer.model
    row["model"] = None if model is None else storable(model)
    row["input_tokens"] = reading.answer.input_tokens
    row["output_tokens"] = reading.answer.output_tokens
    if row.get("session_id") is None:
        _find_session(row, request, reading, sessions)


def _find_session(row: dict[str, Any], request: Any, reading: _Reading, sessions: SessionFinder) -> None:
    whole = row["outcome"] == COMPLETE and row["status"] == 200 and reading.found
    session_id, row["turn"] = sessions.find(
        Talk(
            request_id=row["request_id"],
            headers=row["request_headers"],
            request=request,
            answer="".join(reading.texts) if whole else None,
            answer_id=reading.answer_id,
            arrival_ns=row["arrival_ns"],
            end_ns=row["end_ns"],
        )
    )
    row["session_id"] = None if session_id is None else storable(session_id)


def header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of header `name` (given in lower case), or None."""
    for found, value in headers:
        if found.lower() == name:
            return value
    return None


@dataclasses.dataclass
class _Reading:
    """An answer read back: its facts, its generated text, its id; `found` when it was readable at all."""

    answer: Answer = dataclasses.field(default_factory=Answer)
    texts: list[str] = dataclasses.field(default_factory=list)
    answer_id: str | None = None
    found: bool = False

    def take(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        self.found = True
        self.answer.absorb(message)
        if message.get("type") in _LAST_EVENTS or message.get("done") is True:
            self.answer.done = True
        self.texts.extend(_generated_text(message))
        inner = message.get("response")
        for holder in (message, inner):
            if isinstance(holder, dict) and isinstance(holder.get("id"), str):
                self.answer_id = holder["id"]


def answer_text(body: bytes, content_type: str, encoding: str) -> str | None:
    """The generated text of an answer, whole or streamed (OpenAI, Anthropic, Ollama); None without any."""
    headers = [("content-type", content_type), ("content-encoding", encoding)]
    reading = _read_answer(body, headers, content_type.lower())
    return "".join(reading.texts) if reading.texts else None


def answer_id(body: bytes | None, headers: Headers) -> str | None:
    """The id that an answer gives itself, None without one."""
    return _read_answer(body, headers, (header(headers, "content-type") or "").lower()).answer_id


def _read_answer(body: bytes | None, headers: Headers, kind: str) -> _Reading:
    reading = _Reading()
    if not body:
        return reading
    decoded = decode_content(body, header(headers, "content-encoding"))
    if not decoded:
        return reading
    if "text/event-stream" in kind:
        stream = EventStream()
        _read_events(reading, (event for piece in _in_pieces(decoded) for event in stream.feed(piece)))
    elif "ndjson" in kind or "jsonl" in kind:
        lines = JsonLines()
        for line in (line for piece in _in_pieces(decoded + b"\n") for line in lines.feed(piece)):
            reading.take(parse_json(line))
    elif decoded[:64].lstrip()[:1] == b"{":
        reading.take(outline(decoded))
    return reading


def _read_events(reading: _Reading, events: Iterable[bytes]) -> None:
    alike, texts = AlikeEvents(), reading.texts
    for event in events:
        text = alike.text_of(event)
        if text is not None:
            texts.append(text)
        elif event.strip() == b"[DONE]":
            reading.answer.done = True
        else:
            known = len(texts)
            reading.take(parse_json(event))
            alike.learn(event, texts[known:])


def _in_pieces(body: bytes) -> Iterator[bytes]:
    """Cut, so that a body of nothing but line ends makes no list of millions."""
    return (body[at : at + _PIECE_BYTES] for at in range(0, len(body), _PIECE_BYTES))


def _generated_text(message: dict[str, Any]) -> Iterator[str]:
    """The answer's text in one message: OpenAI chat and responses, Anthropic, Ollama; whole or a delta."""
    first = next(iter(choices_in(message)), {})
    spoken = first.get("delta") or first.get("message") or message.get("message")
    if isinstance(spoken, dict):
        yield from _strings(spoken.get("content"))
    delta, kind = message.get("delta"), message.get("type")
    if isinstance(delta, dict):
        yield from _strings(delta.get("text"))
    elif kind == "response.output_text.delta":
        yield from _strings(delta)
    if kind == "message":
        yield from _strings(message.get("content"))
    output = message.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "message":
            yield from _strings(item.get("content"))


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def json_body(body: bytes | None, headers: Headers, parse: Callable[[bytes], Any] = parse_json) -> Any:
    """A body's JSON object, as `parse` reads it, with its coding taken off; None where it is none."""
    if not body:
        return None
    decoded = decode_content(body, header(headers, "content-encoding"))
    if not decoded or decoded[:64].lstrip()[:1] != b"{":
        return None
    return parse(decoded)


def _model_asked(request: dict[str, Any], path: str) -> str | None:
    if isinstance(request.get("model"), str):
        return str(request["model"])
    named = _MODEL_IN_PATH.search(path)
    return unquote(named[1]) if named else None
