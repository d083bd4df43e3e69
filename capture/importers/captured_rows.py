"""Rows of whole requests on their way from any order into a trace: redacted, sorted, read for what they mean.

An importer that finds whole requests adds its rows here, with instants since the epoch; they come back in
order of arrival, counted from the first one. What is redacted is redacted before it touches a disk.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from capture.importers.clock import Rounded, chance_of, decided, unrounded
from capture.importers.pending_trace import PendingTrace
from capture.importers.sorted_spool import SortedSpool
from capture.redaction import RedactionPolicy, redact
from capture.semantics import fill_semantics
from capture.sessions import SESSION_HEADERS, SessionFinder

_FINEST_NS: Final = 1000
INSTANTS: Final = ("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns")

_TELLING: Final = frozenset({"content-type", "content-encoding", *SESSION_HEADERS})
"""Headers that say what a message means."""

type Row = dict[str, Any]
type Watch = Callable[[float], None]
"""Hears which share of a source has been read, 0 … 1."""


def unwatched(_share: float) -> None:
    """A `Watch` that nobody looks at."""


@dataclasses.dataclass
class CapturedRows:
    """Takes rows in any order and gives them back in order of arrival, in flat memory.

    What a row holds under "stated" (columns that its source states outright) is laid over what is read.
    """

    policy: RedactionPolicy
    folder: Path | None = None
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    hosts: set[str] = dataclasses.field(default_factory=set)
    merged: Callable[[Iterator[Row]], Iterator[Row]] = iter
    """What is done to the sorted rows, whose instants still count from the epoch."""

    def __post_init__(self) -> None:
        self._spool = SortedSpool(self.folder)
        self._zero_ns: int | None = None

    def add(self, row: Row) -> None:
        """Take a row without what `semantics` fills in, unredacted, its instants in ns since the epoch."""
        row["telling"] = [
            None if row[name] is None else [self._told(*p) for p in row[name] if p[0].lower() in _TELLING]
            for name in ("request_headers", "response_headers")
        ]
        redact(row, self.policy)
        arrival_ns = row["arrival_ns"]
        self._zero_ns = arrival_ns if self._zero_ns is None else min(self._zero_ns, arrival_ns)
        self.hosts.add(row["host"])
        bodies = len(row["request_body"] or b"") + len(row["response_body"] or b"")
        pairs = len(row["request_headers"]) + len(row["response_headers"] or ())
        self._spool.add(arrival_ns, row, 2000 + 200 * pairs + bodies)

    def _told(self, name: str, value: str) -> tuple[str, str]:
        """A telling header; one that names the session by what may not be kept names it by a hash."""
        if name.lower() not in SESSION_HEADERS or self.policy.headers([(name, value)])[0][1] == value:
            return name, value
        return name, self.policy.session(value, kept=False)

    @property
    def count(self) -> int:
        """How many rows were taken in."""
        return self._spool.count

    def pending(
        self,
        place: Path,
        source: str,
        *,
        clock_tick_ns: int,
        notes: Iterator[str] | tuple[str, ...],
        rounded: Rounded = Rounded.KEEP,
        seed: int = 0,
    ) -> PendingTrace:
        """The trace to be written; raises `BadInput` when there is no row, or its clock is to be refused."""
        if self._zero_ns is None:
            causes = ", ".join(f"{count} {cause}" for cause, count in self.dropped.items())
            raise BadInput(
                f"{place}: no request found{f' ({causes})' if causes else ''}; "
                "a recording of HTTP requests wanted"
            )
        clock = decided(clock_tick_ns, rounded, place, finest_ns=_FINEST_NS)
        rows = self.merged(iter(self._spool))
        if clock.spread:
            rows = unrounded(rows, clock_tick_ns, chance_of(seed), at=_arrival_ns, later=_later)
        return PendingTrace(
            place=place,
            source=source,
            wall_zero_ns=self._zero_ns,
            rows=_finished(rows, self._zero_ns),
            fraction_read=self._spool.fraction,
            clock_tick_ns=clock.tick_ns,
            upstreams=tuple(sorted(self.hosts)),
            redaction=self.policy.describe(),
            notes=(*notes, *clock.notes),
            dropped=self.dropped,
        )


def _finished(rows: Iterator[Row], zero_ns: int) -> Iterator[Row]:
    sessions = SessionFinder()
    for row in rows:
        row = _later(row, -zero_ns)
        _read(row, sessions)
        yield row


def _arrival_ns(row: Row) -> int:
    return int(row["arrival_ns"])


def _later(row: Row, by_ns: int) -> Row:
    """The row with all its instants `by_ns` later."""
    for columns in (row, row.get("stated", {})):
        for name in INSTANTS:
            if columns.get(name) is not None:
                columns[name] += by_ns
        if "chunk_ns" in columns:
            columns["chunk_ns"] = [instant + by_ns for instant in columns["chunk_ns"]]
    return row


def _read(row: Row, sessions: SessionFinder) -> None:
    """Fill in what the request means, by its headers before the redaction, and what is stated."""
    if row["session_id"] is not None:
        named = sessions.by_header([("session-id", row["session_id"])])
        row["turn"] = named[1] if named else 0
    asked, answered = row.pop("telling")
    seen = row | {"request_headers": asked, "response_headers": answered}
    fill_semantics(seen, sessions)
    kept = {name: row[name] for name in ("request_headers", "response_headers")}
    row |= seen | kept | row.pop("stated", {})
    row.pop("stated", None)
