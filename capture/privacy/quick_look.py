"""Whether undecoded bytes could hold a secret at all: a fast question, asked of every body.

It may say yes where `SecretFinder` finds nothing, and must never say no where that finds something in a
string of the JSON that the bytes are, however it is escaped, or where a member is a secret by its name. Most
bodies hold none, and are then written byte for byte as they came. What is looked for is in `secret_signs`.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Final

import numpy as np

from capture.privacy.secret_patterns import SecretFinder
from capture.privacy.secret_signs import has_sign

_ESCAPE: Final = re.compile(rb"\\\\*u00([2-7][0-9A-Fa-f])")  # begins with a literal: found 10 times as fast
_OTHER_ESCAPE: Final = re.compile(rb"\\\\*u[0-9A-Fa-f]{4}")
_NESTED: Final = 3
"""So often an escape may have been escaped, as JSON is in a string of JSON."""


def may_hold_secret(raw: bytes, finder: SecretFinder) -> bool:
    """Whether `raw` (text in UTF-8, its content coding taken off) needs to be searched by `finder`."""
    if finder.own:
        return True
    if b"\\" not in raw:
        return has_sign(raw, finder.kinds)
    if b"\\u" not in raw:
        return has_sign(raw.replace(b"\\/", b"/"), finder.kinds)
    # Either way: in plain text they are no escapes.
    return has_sign(raw, finder.kinds) or has_sign(_unescaped(raw), finder.kinds)


def _unescaped(raw: bytes) -> bytes:
    """`raw` with the escapes of JSON undone that could stand in the midst of a secret."""
    for _ in range(_NESTED):
        raw = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw)
        if b"\\u00" not in raw:
            break
    raw = _OTHER_ESCAPE.sub(b" ", raw)  # no letter or digit that a pattern knows
    return raw.replace(b"\\/", b"/")


def stream_may_hold_secret(raw: bytes, finder: SecretFinder) -> bool:
    """As `may_hold_secret` for a stream of events (or lines), also for a secret that no event holds whole.

    Most events of a stream differ in one string alone. What they have in common is looked at once, and the
    strings joined as a reader would join them.
    """
    separator = b"\n\n" if b"data:" in raw[:4096] or b"\n\n" in raw[:4096] else b"\n"
    events = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(separator)
    if len(events) < 4:
        return len(events) > 1 or may_hold_secret(raw, finder)
    shared = _shared(events[len(events) // 2 - 1], events[len(events) // 2])
    if shared is None:
        return True
    head, tail = shared
    first, last = len(head), -len(tail)
    joined: list[bytes] = []
    others: list[bytes] = [head + tail]
    for event in events:
        told = event[first:last] if event.startswith(head) and event.endswith(tail) else None
        if told is not None and b'"' not in told:
            joined.append(told)
        elif event:
            others.append(event)
            texts = _texts_like(head, tail, event)
            if texts is None or len(others) > 8 + len(events) // 5:
                return True  # too unlike one another for this short way
            joined += texts
    return may_hold_secret(b"".join(joined), finder) or may_hold_secret(b"\n".join(others), finder)


def _shared(one: bytes, other: bytes) -> tuple[bytes, bytes] | None:
    """What two events have in common before and after the string in which they differ; None if not that."""
    head = _beginning(one, other)
    begun = max(head.rfind(b'":"') + 3, head.rfind(b'": "') + 4)
    tail = _beginning(one[:begun:-1], other[:begun:-1])[::-1]
    ended = tail.find(b'"')
    return None if begun < 4 or ended < 0 else (head[:begun], tail[ended:])


def _beginning(one: bytes, other: bytes) -> bytes:
    size = min(len(one), len(other))
    unlike = np.flatnonzero(np.frombuffer(one, np.uint8, size) != np.frombuffer(other, np.uint8, size))
    return one[: int(unlike[0]) if len(unlike) else size]


def _texts_like(head: bytes, tail: bytes, event: bytes) -> list[bytes] | None:
    """What an event adds to the strings that stand between `head` and `tail` in others; None if not known.

    Nothing where it has no string of that name, or an empty one: a ping, a comment, the end.
    """
    name = _last_name(head)
    try:
        pattern, found = _pattern(head + tail), _documents(event)
    except (ValueError, RecursionError):
        return None
    texts: list[str] = []
    for document in found:
        if not isinstance(document, dict) or not (told := _emptied(document, name)):
            continue
        if len(told) > 1 or [document] != pattern:
            return None
        texts += told
    return [text.encode("utf-8", "replace") for text in texts]


def _documents(event: bytes) -> list[object]:
    """The JSON documents of an event's data, or of a line. Raises ValueError for data of another kind."""
    lines = event.split(b"\n")
    data = [line.removeprefix(b"data:") for line in lines if line.startswith(b"data:")]
    if not data and not any(line.startswith((b":", b"event:", b"id:", b"retry:")) for line in lines):
        data = lines
    return [json.loads(text) for text in data if text.strip() not in (b"", b"[DONE]")]


@functools.lru_cache(16)
def _pattern(event: bytes) -> list[object]:
    """The same for what many events are like; not to be changed."""
    return _documents(event)


def _last_name(head: bytes) -> str:
    """The name of the member whose string begins where `head` ends."""
    return head.rpartition(b":")[0].rstrip()[:-1].rpartition(b'"')[2].decode("utf-8", "replace")


def _emptied(document: object, name: str) -> list[str]:
    """The strings of that member name, at any depth, none of them empty; they are empty in it afterwards."""
    texts: list[str] = []
    inside = [document]
    while inside:
        within = inside.pop()
        if isinstance(within, dict):
            text = within.get(name)
            if isinstance(text, str) and text:
                texts.append(text)
                within[name] = ""
            inside += within.values()
        elif isinstance(within, list):
            inside += within
    return texts
