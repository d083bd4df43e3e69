"""Server-sent events and what inference APIs say in them: pure functions of bytes, no I/O, no clock.

The parser follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", for the parts
that inference servers use: fields, comments, all three line ends, events cut anywhere between reads.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any


class EventStream:
    """Splits a byte stream into the `data` payloads of its events, however the reads cut it.

    `feed` returns the payloads completed by this piece, in order, as bytes. A single trailing line without
    its blank line at the end of the stream is no event, as the standard says.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Payloads of the events that end within `piece`."""
        if not piece:
            return []
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        text = self._rest + piece
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        events: list[bytes] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                value = line[5:]
                self._data.append(value[1:] if value.startswith(b" ") else value)
            elif line == b"data":
                self._data.append(b"")
        return events


@dataclasses.dataclass
class Answer:
    """What an inference response says of itself; null where it says nothing, never a guess."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    done: bool = False

    def absorb(self, message: Any) -> bool:
        """Take in one JSON message (a chunk or a whole body); true when it carries generated content.

        Understands OpenAI chat, completions, embeddings and responses, Anthropic messages, and Ollama.
        """
        if not isinstance(message, dict):
            return False
        inner = message.get("response") if isinstance(message.get("response"), dict) else None
        for holder in (message, inner, message.get("message")):
            if isinstance(holder, dict):
                self._absorb_facts(holder)
        return _content_in(message)

    def _absorb_facts(self, holder: dict[str, Any]) -> None:
        if isinstance(holder.get("model"), str):
            self.model = holder["model"]
        usage = holder.get("usage")
        if isinstance(usage, dict):
            self.input_tokens = _count(usage, "prompt_tokens", "input_tokens", default=self.input_tokens)
            self.output_tokens = _count(
                usage, "completion_tokens", "output_tokens", default=self.output_tokens
            )
        self.input_tokens = _count(holder, "prompt_eval_count", default=self.input_tokens)
        self.output_tokens = _count(holder, "eval_count", default=self.output_tokens)
        error = holder.get("error")
        if error:
            text = error.get("message") if isinstance(error, dict) else error
            self.error = str(text)[:200]
        for choice in choices_in(holder):
            if choice.get("finish_reason"):
                self.finish_reason = str(choice["finish_reason"])
        delta = holder.get("delta")
        for place in (holder, delta):
            if isinstance(place, dict) and isinstance(place.get("stop_reason"), str):
                self.finish_reason = place["stop_reason"]


def choices_in(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The message's choices as far as they are objects; none where "choices" is something else."""
    choices = message.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _count(holder: dict[str, Any], *names: str, default: int | None) -> int | None:
    for name in names:
        value = holder.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return default


def _content_in(message: dict[str, Any]) -> bool:
    """Whether a message carries at least one generated token: text, reasoning, tool-call arguments, audio."""
    for choice in choices_in(message):
        if choice.get("text"):
            return True
        for part in (choice.get("delta"), choice.get("message")):
            if isinstance(part, dict) and any(
                part.get(key)
                for key in (
                    "content",
                    "reasoning_content",
                    "reasoning",
                    "tool_calls",
                    "function_call",
                    "audio",
                    "refusal",
                )
            ):
                return True
    kind = message.get("type")
    if isinstance(kind, str):
        delta = message.get("delta")
        if kind == "content_block_delta" and isinstance(delta, dict):
            return any(delta.get(key) for key in ("text", "thinking", "partial_json"))
        if kind.endswith(".delta"):
            return bool(delta)
    ollama = message.get("message")
    if isinstance(ollama, dict) and "done" in message:
        return bool(ollama.get("content"))
    return False


def parse_json(raw: bytes) -> Any:
    """The JSON value in `raw`, or None when it holds none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


@dataclasses.dataclass(frozen=True)
class StreamReading:
    """An event stream read back: its `answer`, and per read the number of content-bearing events."""

    answer: Answer
    content_events: tuple[int, ...]


def read_stream(pieces: Iterable[bytes]) -> StreamReading:
    """Read a decoded event-stream body that arrived as `pieces` (one per network read)."""
    stream, answer = EventStream(), Answer()
    counts = tuple(sum(_absorb_event(answer, event) for event in stream.feed(piece)) for piece in pieces)
    return StreamReading(answer, counts)


def _absorb_event(answer: Answer, event: bytes) -> bool:
    if event.strip() == b"[DONE]":
        answer.done = True
        return False
    message = parse_json(event)
    carries = answer.absorb(message)
    if isinstance(message, dict) and message.get("type") in ("message_stop", "response.completed"):
        answer.done = True
    return carries


def cut(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`body` cut into consecutive pieces of the given sizes in bytes."""
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
