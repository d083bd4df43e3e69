"""An answer's body as fields that can be compared: JSON by path, streams put together first. Pure.

A run keeps bodies as received, without their headers: whether one is compressed, and whether it is an event
stream, is seen by its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from capture.content_codings import decode_content
from capture.sse import EventStream, JsonLines, parse_json

WHOLE = "whole body"
"""The one field of a body that is neither JSON nor a stream of it."""

MOST_FIELDS = 400
DEEPEST = 12
CLOSE = 1e-6
"""Numbers this close, relative to the larger, are the same: what is lost when a float is printed and read."""

GROWING = frozenset(
    [
        *("arguments", "content", "delta", "partial_json", "reasoning", "reasoning_content", "refusal"),
        *("response", "text", "thinking"),
    ]
)
"""Strings under these names come in pieces in a stream, and are one text; of others the last one counts."""

type Leaf = str | int | float | bool | None
type Fields = Mapping[str, tuple[Leaf, ...]]
"""Per path, such as `$.choices[].message.content`, its values in order; paths leave list indices out."""


def fields_of(body: bytes) -> Fields:
    """The fields of a body as received; a body of another kind has the one field `WHOLE`."""
    decoded = _decoded(body)
    head = decoded[:64].lstrip()
    if head.startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
        found = _assembled(EventStream().feed(decoded + b"\n\n"))
        return found or {WHOLE: (decoded.decode("utf-8", "replace"),)}
    if not head.startswith((b"{", b"[")):
        return {WHOLE: (decoded.decode("utf-8", "replace"),)}
    value = parse_json(decoded)
    if value is not None:
        return _grouped(_leaves(value, "$", 0))
    lines = JsonLines().feed(decoded + b"\n")
    if len(lines) > 1 and all(line.lstrip().startswith(b"{") for line in lines):
        return _assembled(lines)
    return {WHOLE: (decoded.decode("utf-8", "replace"),)}


def differing(one: Fields, other: Fields) -> set[str]:
    """The paths whose values differ, or that one of both lacks."""
    return {path for path in one.keys() | other.keys() if not _alike(one.get(path), other.get(path))}


def _decoded(body: bytes) -> bytes:
    coding = ""
    if body[:2] == b"\x1f\x8b":
        coding = "gzip"
    elif body[:4] == b"\x28\xb5\x2f\xfd":
        coding = "zstd"
    elif body[:2] in (b"\x78\x01", b"\x78\x9c", b"\x78\xda"):
        coding = "deflate"
    elif body and not (body[:1].isascii() and (body[:1].decode().isprintable() or body[:1].isspace())):
        coding = "br"
    decoded = decode_content(body, coding)
    return body if decoded is None else decoded


def _assembled(events: list[bytes]) -> Fields:
    """A stream's events as one message: pieces of text joined, of all else the last that was said."""
    texts: dict[str, list[str]] = {}
    last: dict[str, tuple[Leaf, ...]] = {}
    for event in events:
        message = parse_json(event)
        if message is None:
            continue
        for path, values in _grouped(_leaves(message, "$", 0)).items():
            name = path.rpartition(".")[2].removesuffix("[]")
            if name in GROWING and all(isinstance(value, str) for value in values):
                texts.setdefault(path, []).extend(str(value) for value in values)
            elif values != (None,) or path not in last:
                last[path] = values
    joined: dict[str, tuple[Leaf, ...]] = {path: ("".join(pieces),) for path, pieces in texts.items()}
    return {**last, **joined}


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, dict) and depth < DEEPEST:
        if not value:
            yield path, "{}"
        for name, member in value.items():
            yield from _leaves(member, f"{path}.{name}", depth + 1)
    elif isinstance(value, list) and depth < DEEPEST:
        if not value:
            yield f"{path}[]", "[]"
        for member in value:
            yield from _leaves(member, f"{path}[]", depth + 1)
    elif isinstance(value, dict | list):
        yield path, str(value)
    else:
        yield path, value


def _grouped(leaves: Iterator[tuple[str, Leaf]]) -> Fields:
    found: dict[str, list[Leaf]] = {}
    for path, leaf in leaves:
        if path in found or len(found) < MOST_FIELDS:
            found.setdefault(path, []).append(leaf)
    return {path: tuple(values) for path, values in found.items()}


def _alike(one: tuple[Leaf, ...] | None, other: tuple[Leaf, ...] | None) -> bool:
    if one is None or other is None or len(one) != len(other):
        return False
    if one == other:
        return True
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (*one, *other)):
        return False
    return bool(
        np.allclose(np.array(one, float), np.array(other, float), rtol=CLOSE, atol=0.0, equal_nan=True)
    )
