"""What exchanges of messages mean: how a gRPC call ended, what an OpenAI Realtime connection used.

Pure functions of a trace row's values. What plain HTTP answers mean is in `semantics`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from capture.sse import Answer, parse_json, storable

GRPC_STATUS: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_MODEL_IN_QUERY: Final = re.compile(r"[?&](?:model|deployment)=([^&]+)")
_LARGEST_MESSAGE_BYTES: Final = 1 << 20

type Headers = Iterable[tuple[str, str]]


def grpc_error(headers: Headers, trailers: Headers) -> str | None:
    """How a gRPC call failed, "grpc-status 8 (RESOURCE_EXHAUSTED): message"; None when it didn't, or is none.

    The status stands in the trailers, or in the headers of an answer that has nothing else.
    """
    said = {name.lower(): value for name, value in (*headers, *trailers) if name.lower().startswith("grpc-")}
    status = said.get("grpc-status", "0").strip()
    if status == "0":
        return None
    known = status.isascii() and status.isdecimal() and int(status) < len(GRPC_STATUS)
    message = unquote(said.get("grpc-message", ""))
    name = f" ({GRPC_STATUS[int(status)]})" if known else ""
    return storable(f"grpc-status {status}{name}" + (f": {message}" if message else ""))


def messages_of(row: Mapping[str, Any], *, from_client: bool) -> Iterator[tuple[int, bytes]]:
    """(instant in ns, bytes) of each message of one direction; none where the body was not kept."""
    body, at = row["request_body"] if from_client else row["response_body"], 0
    if body is None:
        return
    for at_ns, size_bytes, direction in zip(
        row["message_ns"], row["message_bytes"], row["message_from_client"], strict=True
    ):
        if direction is from_client:
            yield at_ns, body[at : at + size_bytes]
            at += size_bytes


def read_realtime(row: Mapping[str, Any], answer: Answer) -> None:
    """Add to `answer` what a WebSocket's server says of its model and its usage, summed over its answers."""
    for _, raw in messages_of(row, from_client=False):
        if len(raw) > _LARGEST_MESSAGE_BYTES or (b'"usage"' not in raw and b'"session.' not in raw):
            continue
        message = parse_json(raw)
        if not isinstance(message, dict):
            continue
        session = message.get("session")
        if isinstance(session, dict) and isinstance(session.get("model"), str):
            answer.model = answer.model or session["model"]
        if message.get("type") == "response.done":
            found = Answer()
            found.absorb(message)
            for name in ("input_tokens", "output_tokens"):
                more = getattr(found, name)
                if more is not None:
                    setattr(answer, name, (getattr(answer, name) or 0) + more)


def model_in_query(path: str) -> str | None:
    """The model that a path's query asks for."""
    found = _MODEL_IN_QUERY.search(path)
    return unquote(found[1]) if found else None
