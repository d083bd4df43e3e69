"""One recorded HTTP/1 message, head and body → its parts. Pure; knows no recorder's framing.

A body comes back without its transfer coding, as a trace keeps it; content codings stay.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from capture.semantics import header

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) +(\S+)(?: +(HTTP/\d(?:\.\d)?))?\s*")
_STATUS_LINE: Final = re.compile(rb"(HTTP/\d(?:\.\d)?) +(\d{3})(?: .*)?\s*", re.DOTALL)
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")

type Pairs = list[tuple[str, str]]


class Message(NamedTuple):
    """A message's parts; `start` is its first line, `whole` whether its body is as long as its head says."""

    start: bytes
    headers: Pairs
    body: bytes
    whole: bool


def read_message(data: bytes) -> Message | None:
    """The message in `data`; None when there is no head in it."""
    head, gap, body = _divided(data)
    lines = re.split(rb"\r?\n", head)
    if not gap or not lines[0].strip():
        return None
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon and name:
            headers.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    body, whole = _without_transfer_coding(headers, body)
    kept = [(name, value) for name, value in headers if name.lower() != "transfer-encoding"]
    return Message(lines[0], kept, body, whole)


def request_line(start: bytes) -> tuple[str, str, str] | None:
    """(method, target, version) of a request's first line, or None."""
    found = _REQUEST_LINE.fullmatch(start)
    if found is None:
        return None
    method, target, version = found.groups()
    return method.decode(), target.decode("latin-1"), (version or b"HTTP/0.9").decode()


def status_of(start: bytes) -> int | None:
    """The status in a response's first line, or None."""
    found = _STATUS_LINE.fullmatch(start)
    return int(found[2]) if found else None


def _divided(data: bytes) -> tuple[bytes, bytes, bytes]:
    found = re.search(rb"\r?\n\r?\n", data)
    if found is None:
        return data, b"", b""
    return data[: found.start()], found[0], data[found.end() :]


def _without_transfer_coding(headers: Pairs, body: bytes) -> tuple[bytes, bool]:
    if "chunked" in (header(headers, "transfer-encoding") or "").lower():
        return unchunked(body)
    stated = header(headers, "content-length") or ""
    if stated.isascii() and stated.isdigit() and len(stated) < 16:
        return body[: int(stated)], len(body) >= int(stated)
    return body, True


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """A chunked body's content, and whether its last chunk was there; bytes that aren't chunked stay."""
    parts: list[bytes] = []
    at = 0
    while True:
        size_line = _CHUNK_SIZE.match(data, at)
        if size_line is None:
            return (b"".join(parts), False) if at or not data else (data, True)
        size, at = int(size_line[1], 16), size_line.end()
        if size == 0:
            return b"".join(parts), True
        parts.append(data[at : at + size])
        if at + size > len(data):
            return b"".join(parts), False
        at += size
        at += 2 if data[at : at + 2] == b"\r\n" else 1 if data[at : at + 1] == b"\n" else 0
