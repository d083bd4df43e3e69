"""Server-sent events and what inference APIs say in them: pure functions of bytes, no I/O, no clock.

The parser follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", for the parts
that inference servers use: fields, comments, all three line ends, a byte order mark before all, events cut
anywhere between reads.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

LARGEST_COUNT: Final = 2**31 - 1
WHOLE_BYTES: Final = 256 << 10
_MARK: Final = b"\xef\xbb\xbf"
END_BYTES: Final = 4096
_MODEL: Final = re.compile(rb'"model"\s*:\s*("[^"\\]{1,200}")')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


class EventStream:
    """Splits a byte stream into the `data` payloads of its events, however the reads cut it.

    `feed` returns the payloads completed by this piece, in order, as bytes. A single trailing line without
    its blank line at the end of the stream is no event, as the standard says.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._after_cr = False
        self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Payloads of the events that end within `piece`."""
        if not self._begun:
            piece = self._without_mark(piece)
        if not piece:
            return []
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        text = self._rest + piece
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if text.startswith(b"data: ") and text.endswith(b"\n\n") and not self._data:
            whole = text[6:-2].split(b"\n\ndata: ")
            # As most servers write: each event a line and a blank one.
            if text.count(b"\n") == 2 * len(whole):
                self._rest = b""
                return whole
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

    def _without_mark(self, piece: bytes) -> bytes:
        """The stream's beginning without its byte order mark; nothing while it could be a part of one."""
        begun = self._rest + piece
        self._begun = len(begun) >= len(_MARK) or not _MARK.startswith(begun)
        self._rest = b"" if self._begun else begun
        return begun.removeprefix(_MARK) if self._begun else b""


class JsonLines:
    """Splits a byte stream into its lines (NDJSON, as Ollama streams), however the reads cut it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end within `piece`, blank ones left out."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [line for line in lines if line.strip()]


@dataclasses.dataclass
class Answer:
    """What an inference response says of itself; null where it says nothing, never a guess."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    done: bool = False
    choices: bool = dataclasses.field(default=False, compare=False)
    """Whether any message held OpenAI's `choices`, whose streams say how they end."""

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
            self.model = storable(holder["model"])
        usage = holder.get("usage")
        if isinstance(usage, dict):
            self.input_tokens = _count(usage, "prompt_tokens", "input_tokens", default=self.input_tokens)
            self.output_tokens = _count(
                usage, "completion_tokens", "output_tokens", default=self.output_tokens
            )
        self.input_tokens = _count(holder, "prompt_eval_count", default=self.input_tokens)
        self.output_tokens = _count(holder, "eval_count", default=self.output_tokens)
        error = holder.get("error")
        # A number or a list under this name is some model's own field, not a failure.
        if error and isinstance(error, dict | str):
            text = error.get("message") if isinstance(error, dict) else error
            self.error = storable(str(text)[:200])
        for choice in choices_in(holder):
            self.choices = True
            if choice.get("finish_reason"):
                self.finish_reason = storable(str(choice["finish_reason"])[:100])
        delta = holder.get("delta")
        for place in (holder, delta):
            if isinstance(place, dict) and isinstance(place.get("stop_reason"), str):
                self.finish_reason = storable(place["stop_reason"][:100])


def choices_in(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The message's choices as far as they are objects; none where "choices" is something else."""
    choices = message.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _count(holder: dict[str, Any], *names: str, default: int | None) -> int | None:
    for name in names:
        value = holder.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT:
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
    # Ollama /api/generate, llama.cpp /completion, TGI and vLLM /generate.
    return any(message.get(key) and isinstance(message[key], str) for key in ("response", "content", "text"))


def storable(text: str) -> str:
    """JSON may hold lone surrogates, UTF-8 can't: those become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def outline(raw: bytes) -> Any:
    """What a JSON body says of itself: all of it, or of a large one that is no chat only `model` and `usage`.

    Parsing megabytes (embeddings are numbers in text) would hold the interpreter for tens of milliseconds.
    """
    if len(raw) <= WHOLE_BYTES or b'"choices"' in raw[:END_BYTES]:
        return parse_json(raw)
    ends = raw[:END_BYTES] + raw[-END_BYTES:]
    model, usage = _MODEL.search(ends), _USAGE.search(ends)
    return {
        "model": parse_json(model[1]) if model else None,
        "usage": parse_json(usage[1]) if usage else None,
    }


def parse_json(raw: bytes) -> Any:
    """The JSON value in `raw`, or None when it holds none."""
    try:
        return json.loads(_told_apart(raw))
    except (ValueError, RecursionError):
        return None


def parse_large_json(raw: bytes) -> Any:
    """As `parse_json`, but of a large body each fraction is only the length of its text, an int.

    An input of numbers takes longest to be read, and nothing that a request means is one.
    """
    try:
        return json.loads(_told_apart(raw), parse_float=None if len(raw) <= WHOLE_BYTES else len)
    except (ValueError, RecursionError):
        return None


def _told_apart(raw: bytes) -> str | bytes:
    """An object in UTF-8 as text; of anything else `json` finds out the encoding, which takes its time."""
    return raw.decode("utf-8", "surrogatepass") if raw[:1] == b"{" and raw[1:2] != b"\0" else raw


@dataclasses.dataclass(frozen=True)
class StreamReading:
    """An event stream read back: its `answer`, and per read the number of content-bearing events."""

    answer: Answer
    content_events: tuple[int, ...]


def read_stream(pieces: Iterable[bytes], stream: EventStream | JsonLines | None = None) -> StreamReading:
    """Read a decoded body that arrived as `pieces` (one per network read); an event stream by default."""
    stream, answer = stream or EventStream(), Answer()
    counts = tuple(sum(_absorb_event(answer, event) for event in stream.feed(piece)) for piece in pieces)
    return StreamReading(answer, counts)


def _absorb_event(answer: Answer, event: bytes) -> bool:
    if event.strip() == b"[DONE]":
        answer.done = True
        return False
    message = parse_json(event)
    carries = answer.absorb(message)
    if isinstance(message, dict):
        ended = message.get("type") in ("message_stop", "response.completed") or message.get("done") is True
        answer.done = answer.done or ended
    return carries


def cut(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`body` cut into consecutive pieces of the given sizes in bytes."""
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
