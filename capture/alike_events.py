"""Most events of a stream are one JSON text in which a single string differs: it is read once, then compared.

To parse an event and look through its members costs some 15 µs, to see that nothing but its text is new one.
Pure; what events mean is in `semantics`.
"""

from __future__ import annotations

import json


class AlikeEvents:
    """Remembers what stands around the generated text of the last event that was read as JSON."""

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._shortest = 0

    def text_of(self, event: bytes) -> str | None:
        """The text of an event which says what the last one said but for its text; None of any other.

        What `json.loads` would make of the event's string, so a string that is no JSON gives None as well.
        """
        if (
            not self._shortest
            or len(event) < self._shortest
            or not event.startswith(self._head)
            or not event.endswith(self._tail)
        ):
            return None
        told = event[len(self._head) : len(event) - len(self._tail)]
        if b'"' in told:
            return None
        try:
            if b"\\" in told or not (text := told.decode()).isprintable():
                text = str(json.loads(b'"%s"' % told))
        except ValueError:
            return None
        return text

    def learn(self, event: bytes, texts: list[str]) -> None:
        """An event was read, and `texts` are what it generated: the next ones are compared with it."""
        self._shortest = 0
        if len(texts) != 1 or not texts[0] or b"\\" in event:
            return  # without a backslash every string stands there as it is
        value = b'"%s"' % texts[0].encode("utf-8", "surrogatepass")
        at = event.find(value)
        if at > 0 and event.find(value, at + 1) < 0 and event[:at].rstrip(b" ").endswith(b":"):
            self._head, self._tail = event[: at + 1], event[at + len(value) - 1 :]
            self._shortest = len(self._head) + len(self._tail)
