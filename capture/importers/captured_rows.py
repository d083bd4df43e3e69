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
from capture.importers.pending_trace import PendingTrace
from capture.importers.sorted_spool import SortedSpool
from capture.redaction import RedactionPolicy, redact
from capture.semantics import fill_semantics
from capture.sessions import SessionFinder, session_in_headers
from capture.sse import storable

INSTANTS: Final = ("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns")

type Row = dict[str, Any]
type Watch = Callable[[float], None]
"""Hears which share of a source has been read, 0 … 1."""


def unwatched(_share: float) -> None:
    """A `Watch` that nobody looks at."""


@dataclasses.dataclass
class CapturedRows:
    """Takes rows in any order and gives them back in order of arrival, in flat memory."""

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
        if row["session_id"] is None:
            named = session_in_headers(row["request_headers"])
            row["session_id"] = None if named is None else storable(named)
        redact(row, self.policy)
        arrival_ns = row["arrival_ns"]
        self._zero_ns = arrival_ns if self._zero_ns is None else min(self._zero_ns, arrival_ns)
        self.hosts.add(row["host"])
        bodies = len(row["request_body"] or b"") + len(row["response_body"] or b"")
        pairs = len(row["request_headers"]) + len(row["response_headers"] or ())
        self._spool.add(arrival_ns, row, 2000 + 200 * pairs + bodies)

    @property
    def count(self) -> int:
        """How many rows were taken in."""
        return self._spool.count

    def pending(
        self, place: Path, source: str, *, clock_tick_ns: int, notes: Iterator[str] | tuple[str, ...]
    ) -> PendingTrace:
        """The trace to be written; raises `BadInput` when there is no row."""
        if self._zero_ns is None:
            causes = ", ".join(f"{count} {cause}" for cause, count in self.dropped.items())
            raise BadInput(
                f"{place}: no request found{f' ({causes})' if causes else ''}; "
                "a recording of HTTP requests wanted"
            )
        return PendingTrace(
            place=place,
            source=source,
            wall_zero_ns=self._zero_ns,
            rows=self._rows(self._zero_ns),
            fraction_read=self._spool.fraction,
            clock_tick_ns=clock_tick_ns,
            upstreams=tuple(sorted(self.hosts)),
            redaction=self.policy.describe(),
            notes=tuple(notes),
            dropped=self.dropped,
        )

    def _rows(self, zero_ns: int) -> Iterator[Row]:
        sessions = SessionFinder()
        for row in self.merged(iter(self._spool)):
            for name in INSTANTS:
                if row[name] is not None:
                    row[name] -= zero_ns
            row["chunk_ns"] = [instant - zero_ns for instant in row["chunk_ns"]]
            if row["session_id"] is not None:
                named = sessions.by_header([("session-id", row["session_id"])])
                row["turn"] = named[1] if named else 0
            fill_semantics(row, sessions)
            yield row
