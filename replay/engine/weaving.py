"""Live answers in place of recorded ones: a later turn says back what the target really said. Pure.

Runs in the feeder's process: parsing a long chat takes ms, in which nothing would be sent.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from capture.semantics import answer_text
from capture.sse import parse_json
from replay.engine.requests import Prepared

Messages = list[dict[str, Any]]


class Said(NamedTuple):
    """What was sent in the turn before (the body), and what came back (the body, as received)."""

    asked: bytes | None
    answer: bytes
    content_type: str
    content_encoding: str


def woven(prepared: Prepared, said: Said) -> Prepared:
    """The request with what was said in its conversation; as it is where no conversation is found."""
    before = messages_in(said.asked)
    answer = answer_text(said.answer, said.content_type, said.content_encoding)
    if before is None or answer is None or prepared.body is None:
        return prepared
    return prepared._replace(body=weave(prepared.body, before, answer), wire=None)


def messages_in(body: bytes | None) -> Messages | None:
    """The chat messages of a request body, None when it holds none."""
    found = parse_json(body or b"")
    messages = found.get("messages") if isinstance(found, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    return messages


def weave(body: bytes, before: Messages, answer: str) -> bytes:
    """`body` with its conversation up to the last answer replaced by what was really said.

    `before` are the messages that the turn before sent, `answer` what it was answered. They take the place
    of as many messages, and of the assistant's that follows; what the user says next stays. A body whose
    conversation does not go on from there (other roles, tool calls) comes back as it is.
    """
    messages = messages_in(body)
    at = len(before)
    if messages is None or len(messages) <= at + 1:
        return body
    told = messages[at]
    same = [message.get("role") for message in messages[:at]] == [message.get("role") for message in before]
    if not same or told.get("role") != "assistant" or told.get("tool_calls"):
        return body
    request = json.loads(body)
    request["messages"] = [*before, told | {"content": answer}, *messages[at + 1 :]]
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
