"""Where each value of a JSON text stands, so that one can be replaced and every other byte stays.

`json` gives values without places. This reads the same language, a little more leniently (control
characters in strings, NaN), into a light tree of spans; nothing is decoded before it is asked for.
"""

from __future__ import annotations

import dataclasses
import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Final

DEEPEST: Final = 100
_TOKEN: Final = re.compile(
    r'[ \t\n\r]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\]:,])|([^\s{}\[\]:,"]+))', re.DOTALL
)
_LITERAL: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|-?Infinity")

_BLANK: Final = re.compile(r"[ \t\n\r]*")

OBJECT: Final = "object"
ARRAY: Final = "array"
STRING: Final = "string"
LITERAL: Final = "literal"


@dataclasses.dataclass(slots=True)
class Node:
    """One value: text[start:end]. Of an object's member `key_start:key_end` is where its name stands."""

    kind: str
    start: int
    end: int = 0
    children: list[Node] = dataclasses.field(default_factory=list)
    key_start: int = -1
    key_end: int = -1

    @property
    def first(self) -> int:
        """Where the value begins together with its member name."""
        return self.start if self.key_start < 0 else self.key_start


def read_documents(text: str) -> list[Node]:
    """The JSON values that `text` consists of (several, when they stand one after the other).

    Raises ValueError when it is anything else, or nested deeper than `DEEPEST`.
    """
    documents: list[Node] = []
    at = 0
    while not documents or not _BLANK.fullmatch(text, at):
        node, at = _read_value(text, at)
        documents.append(node)
    return documents


def _read_value(text: str, at: int) -> tuple[Node, int]:
    """One value from `at` on, and where it ends. No recursion: depth is what an attacker chooses."""
    stack: list[Node] = []
    key: tuple[int, int] | None = None
    wanted = "value"  # value, first (value or end), key, colon, more (comma or end)
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError("not JSON")
        at = match.end()
        group = match.lastindex or 0
        start = match.start(group)
        sign = text[start] if group == 2 else ""
        if wanted == "colon":
            _expect(sign == ":")
            wanted = "value"
        elif wanted == "more" and sign == ",":
            wanted = "key" if stack[-1].kind == OBJECT else "value"
        elif sign in ("}", "]") and sign:
            _expect(wanted in ("more", "first") and (sign == "}") == (stack[-1].kind == OBJECT))
            done = stack.pop()
            done.end = at
            if not stack:
                return done, at
            wanted = "more"
        elif wanted == "key" or (wanted == "first" and stack[-1].kind == OBJECT):
            _expect(group == 1)
            key, wanted = (start, at), "colon"
        else:
            _expect(wanted in ("value", "first") and sign not in (":", ","))
            node = _begun(text, start, at, group, sign)
            if key is not None:
                node.key_start, node.key_end = key
                key = None
            if stack:
                stack[-1].children.append(node)
            if sign:
                stack.append(node)
                _expect(len(stack) <= DEEPEST)
                wanted = "first"
            elif not stack:
                return node, at
            else:
                wanted = "more"


def _begun(text: str, start: int, end: int, group: int, sign: str) -> Node:
    if group == 1:
        return Node(STRING, start, end)
    if sign:
        return Node(OBJECT if sign == "{" else ARRAY, start)
    _expect(_LITERAL.fullmatch(text, start, end) is not None)
    return Node(LITERAL, start, end)


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError("not JSON")


def decoded(text: str, start: int, end: int) -> str:
    """The string that stands in quotes at text[start:end]; raises ValueError when an escape is wrong."""
    if "\\" not in text[start:end]:
        return text[start + 1 : end - 1]
    value, _ = scanstring(text, start + 1, False)
    return str(value)


def encoded(value: str) -> str:
    """`value` as a JSON string with its quotes."""
    plain = json.dumps(value, ensure_ascii=False)
    try:
        plain.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that was an escape
        return json.dumps(value)
    return plain
