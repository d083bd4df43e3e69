"""Whether a capture records right now: a switch, a time window, and what both came to since its zero.

A request is a row if and only if its head arrived while recording was on; what becomes of it later changes
nothing. All proxies of a capture see the same switch, four numbers in a page of memory that they have mapped:
an edge lies `EDGE_NS` ahead when it is set, so that each of them knows of it before it comes.

Instants are ns offsets from the capture's zero on the monotonic clock. No clock is read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from capture.choice import OUTSIDE_WINDOW, PAUSED
from capture.shared_numbers import SharedNumbers

EDGE_NS: Final = 5_000_000
NEVER_NS: Final = 2**63 - 1
_ON_FROM, _ON_UNTIL, _WINDOW_FROM, _WINDOW_UNTIL = range(4)

type Span = tuple[int, int | None]


class RecordingSwitch:
    """The switch of one capture in the file `path`, which is made, and off, when it is not there.

    One process turns it; all others only ask. After each single write the numbers make sense.
    """

    def __init__(self, path: Path) -> None:
        self._edges = SharedNumbers(path, 4)
        self._spans: list[Span] = []

    def why_not(self, arrival_ns: int) -> str:
        """Why a request that arrives then is not recorded; "" when it is."""
        edges = self._edges.view
        if not edges[_ON_FROM] <= arrival_ns < edges[_ON_UNTIL]:
            return PAUSED
        if not edges[_WINDOW_FROM] <= arrival_ns < edges[_WINDOW_UNTIL]:
            return OUTSIDE_WINDOW
        return ""

    def limit(self, from_ns: int, until_ns: int | None = None) -> None:
        """Record in this window only; to be called before anything arrives."""
        self._edges[_WINDOW_FROM] = from_ns
        self._edges[_WINDOW_UNTIL] = NEVER_NS if until_ns is None else until_ns

    @property
    def is_on(self) -> bool:
        """Whether it is turned on, or about to be; the window apart."""
        return bool(self._spans) and self._spans[-1][1] is None

    def turn_on(self, at_ns: int) -> None:
        """Record from then on; nothing happens when that is so."""
        if not self.is_on:
            self._edges[_ON_FROM] = at_ns  # with an end in the past: still off
            self._edges[_ON_UNTIL] = NEVER_NS
            self._spans.append((at_ns, None))

    def turn_off(self, at_ns: int) -> None:
        """Record no more from then on; nothing happens when that is so."""
        if self.is_on:
            begun_ns = self._spans[-1][0]
            self._edges[_ON_UNTIL] = max(begun_ns, at_ns)
            self._spans[-1] = begun_ns, max(begun_ns, at_ns)

    def recorded(self) -> list[Span]:
        """The spans in which recording was on; the last one is open (None) as long as it is."""
        return within(self._spans, self._edges[_WINDOW_FROM], self._edges[_WINDOW_UNTIL])


def within(spans: Iterable[Span], from_ns: int, until_ns: int) -> list[Span]:
    """The parts of `spans` that lie in the window; an open end stays open unless the window ends it."""
    inside: list[Span] = []
    for start_ns, end_ns in spans:
        first_ns = max(start_ns, from_ns)
        last_ns = until_ns if end_ns is None else min(end_ns, until_ns)
        if first_ns < last_ns:
            inside.append((first_ns, None if last_ns == NEVER_NS else last_ns))
    return inside
