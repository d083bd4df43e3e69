"""Chats and completions as OpenAI's API has them: reading a request, and the bytes of its answer.

Pure functions between bytes and values. A token is a whitespace-separated word, in prompts and answers
alike, so that everybody can count them; the answer follows from the request's content alone, so every build
says the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Final, Literal

from replay.demo.protocol import CHAT_MODEL, FLAKY_MODEL, Refusal, json_object, known_model, text_of

LEAST_OUTPUT_TOKENS: Final = 15
MOST_OUTPUT_TOKENS: Final = 60

# 64 words, so that a byte of a digest picks one evenly; some are not ASCII, as in real answers.
_PROSE: Final = (
    "the peak of load is not an average and a queue that grows in one second needs many to drain, "
    "measure each wait from when it was due then plan for tail latency café naïve größer 東京 … “quoted” "
    "we see more tokens per batch while slots stay busy this build answers fast under spikes with some "
    "left 30 free against what nobody foresaw:"
)
_WORDS: Final = tuple(_PROSE.split())

Shape = Literal["chat", "completion"]


@dataclasses.dataclass(frozen=True)
class Generation:
    """A chat or completion request: what it costs, and what its answer will be."""

    shape: Shape
    model: str
    stream: bool
    include_usage: bool
    prompt_tokens: int
    words: tuple[int, ...]
    """The answer's tokens, as indices of the vocabulary."""
    cut: bool
    """Whether the answer ends because of its limit of tokens."""
    digest: bytes

    def text(self) -> str:
        """The whole answer."""
        return " ".join(_WORDS[word] for word in self.words)

    def usage(self) -> dict[str, int]:
        """Token counts as OpenAI's `usage`."""
        spoken = len(self.words)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": spoken,
            "total_tokens": self.prompt_tokens + spoken,
        }


def parse_generation(body: bytes, shape: Shape, context_tokens: int) -> Generation:
    """Read a chat (or completion) request; raises `Refusal` 400 or 404.

    `max_completion_tokens` or `max_tokens` is the answer's exact length in tokens; without one the length
    is drawn from the prompt's digest, log-uniform from 15 to 60.
    """
    form = json_object(body)
    model = known_model(form, (CHAT_MODEL, FLAKY_MODEL))
    prompt = _chat_prompt(form) if shape == "chat" else text_of(form.get("prompt"), "prompt")
    digest = hashlib.shake_128(f"{model}\0{prompt}".encode()).digest(8)
    limit = form.get("max_completion_tokens", form.get("max_tokens"))
    if limit is None:
        share = int.from_bytes(digest[:4]) / 2**32
        length = int(LEAST_OUTPUT_TOKENS * ((MOST_OUTPUT_TOKENS + 1) / LEAST_OUTPUT_TOKENS) ** share)
    elif isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1:
        length = limit
    else:
        raise Refusal(400, f"max_tokens: {limit!r} found, a whole number of 1 or more wanted", "bad_value")
    prompt_tokens = len(prompt.split())
    if prompt_tokens + length > context_tokens:
        raise Refusal(
            400,
            f"{prompt_tokens} prompt and {length} output tokens found, at most {context_tokens} together "
            "wanted",
            "context_length_exceeded",
        )
    options = form.get("stream_options")
    return Generation(
        shape=shape,
        model=model,
        stream=form.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        prompt_tokens=prompt_tokens,
        words=tuple(byte & 63 for byte in hashlib.shake_128(b"words" + digest).digest(length)),
        cut=limit is not None,
        digest=digest,
    )


def _chat_prompt(form: dict[str, Any]) -> str:
    """All text of all messages, a line each; parts that are not text count for nothing."""
    messages = form.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages: a list of one or more messages wanted", "bad_value")
    lines = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Refusal(400, "messages: each is an object with a role and a content", "bad_value")
        content = message.get("content") or ""
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = " ".join(part for part in parts if isinstance(part, str))
        lines.append(text_of(content, "content"))
    return "\n".join(lines)


def answer_body(asked: Generation, answer_id: str, created_s: int) -> bytes:
    """The whole answer as one JSON object, for a request that does not stream."""
    ended = "length" if asked.cut else "stop"
    said: dict[str, Any] = {"text": asked.text()}
    if asked.shape == "chat":
        said = {"message": {"role": "assistant", "content": asked.text()}}
    return json.dumps(
        {
            "id": answer_id,
            "object": "chat.completion" if asked.shape == "chat" else "text_completion",
            "created": created_s,
            "model": asked.model,
            "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": ended}],
            "usage": asked.usage(),
        },
        ensure_ascii=False,
    ).encode()


def _event_tails(template: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Per word the end of its event: as the answer's first word, and as a later one."""
    first, later = (
        tuple(template % json.dumps(space + word, ensure_ascii=False).encode() for word in _WORDS)
        for space in ("", " ")
    )
    return first, later


# A streamed token costs one concatenation, with no JSON encoder at work: the server shares its cores with
# the load generator.
_EVENT_TAILS: Final[dict[Shape, tuple[tuple[bytes, ...], tuple[bytes, ...]]]] = {
    "chat": _event_tails(
        b'"choices":[{"index":0,"delta":{"content":%s},"logprobs":null,"finish_reason":null}]}\n\n'
    ),
    "completion": _event_tails(
        b'"choices":[{"index":0,"text":%s,"logprobs":null,"finish_reason":null}]}\n\n'
    ),
}


@dataclasses.dataclass(frozen=True)
class EventStreamBytes:
    """A streamed answer as the bytes to write: an opening event or none, one event a token, the closing."""

    opening: bytes
    tokens: tuple[bytes, ...]
    closing: bytes


def answer_events(asked: Generation, answer_id: str, created_s: int) -> EventStreamBytes:
    """The answer as server-sent events; the closing holds finish reason, usage if wanted, and [DONE]."""
    chat = asked.shape == "chat"
    head = b'data: {"id":"%s","object":"%s","created":%d,"model":"%s",' % (
        answer_id.encode(),
        b"chat.completion.chunk" if chat else b"text_completion",
        created_s,
        asked.model.encode(),
    )
    first, later = _EVENT_TAILS[asked.shape]
    tokens = (head + first[asked.words[0]], *(head + later[word] for word in asked.words[1:]))
    role = b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,'
    closing = head + b'"choices":[{"index":0,%s,"logprobs":null,"finish_reason":"%s"}]}\n\n' % (
        b'"delta":{}' if chat else b'"text":""',
        b"length" if asked.cut else b"stop",
    )
    if asked.include_usage:
        usage = json.dumps(asked.usage(), separators=(",", ":")).encode()
        closing += head + b'"choices":[],"usage":%s}\n\n' % usage
    return EventStreamBytes(
        opening=head + role + b'"finish_reason":null}]}\n\n' if chat else b"",
        tokens=tokens,
        closing=closing + b"data: [DONE]\n\n",
    )
