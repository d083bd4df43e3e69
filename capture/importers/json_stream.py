"""JSON read piece by piece: values one after another, or the items of a list deep in one large document.

The parsing is the standard library's; here is only how far a value reaches in a text that is still being
read. So a document of any size takes the memory of its largest item.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TextIO

from capture.failures import BadInput

_CHUNK: Final = 1 << 16
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


class NotJson(ValueError):  # noqa: N818 - says what was found
    """The text is not JSON, or ends too early; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def object_in(text: str, place: str, hint: str) -> dict[str, Any]:
    """The JSON object that is all of `text`; raises `BadInput` that names `place` and ends with `hint`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"{place}: {text[:40].strip()!r} found, a whole JSON object wanted; {hint}")
    return found


class JsonText:
    """A JSON text under a reading head."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._lines_before = 0
        self._ended = False
        self.list_found = False
        """Whether `items` has come to its list."""

    @property
    def line(self) -> int:
        """The line at which the head stands, from 1."""
        return 1 + self._lines_before + self._text.count("\n", 0, self._at)

    def values(self) -> Iterator[tuple[int, Any]]:
        """Values that stand one after another, each with its line; raises `NotJson`."""
        while self.peek():
            line = self.line
            yield line, self.value()

    def items(self, *names: str) -> Iterator[tuple[int, Any]]:
        """The items of the list that stands under `names` in the document, each with its line.

        Nothing when there is none. Raises `NotJson` where the text is broken, also behind the list.
        """
        if self._enter("{", "}"):
            yield from self._members(names)
        self._end()

    def _members(self, names: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
        while True:
            name = self.value()
            self._take(":")
            if not isinstance(name, str):
                raise NotJson(self.line, "a member without a name")
            if not names or name != names[0]:
                self.value()
            elif len(names) > 1 and self.peek() == "{":
                if self._enter("{", "}"):
                    yield from self._members(names[1:])
            elif len(names) == 1 and self.peek() == "[":
                yield from self._items()
            else:
                raise NotJson(self.line, f"no {'list' if len(names) == 1 else 'object'} {name}")
            if not self._more("}"):
                return

    def _items(self) -> Iterator[tuple[int, Any]]:
        self.list_found = True
        if self._enter("[", "]"):
            while True:
                self.peek()
                line = self.line
                yield line, self.value()
                if not self._more("]"):
                    return

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """The next value; raises `NotJson`."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._fill():
                    continue
                line = 1 + self._lines_before + self._text.count("\n", 0, error.pos)
                raise NotJson(line, error.msg) from None
            except RecursionError:
                raise NotJson(self.line, "nested too deep") from None
            if end == len(self._text) and isinstance(value, int | float) and self._fill():
                continue  # a number may go on behind the buffer's end
            self._at = end
            return value

    def _enter(self, opening: str, closing: str) -> bool:
        """Step into an object or list; whether there is anything in it."""
        self._take(opening)
        if self.peek() == closing:
            self._at += 1
            return False
        return True

    def _more(self, closing: str) -> bool:
        if self.peek() == closing:
            self._at += 1
            return False
        self._take(",")
        return True

    def _take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise NotJson(self.line, f"{found!r} in place of {wanted!r}" if found else "it ends too early")
        self._at += 1

    def _end(self) -> None:
        if self.peek():
            raise NotJson(self.line, "more behind its end")

    def _fill(self) -> bool:
        """Read on, as much again as is unread, so that a long value is parsed few times; False at the end."""
        if self._ended:
            return False
        read = self._file.read(max(_CHUNK, len(self._text) - self._at))
        if not read:
            self._ended = True
            return False
        self._lines_before += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + read
        self._at = 0
        return True
