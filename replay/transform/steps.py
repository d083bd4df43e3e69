"""The steps that act on all of the time: slice, speed, thin, amplify. Pure functions of rows.

Shapes laid over a part of the time (spike, ramp) are in `shapes`; which steps in which order is in `plan`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.quantities import check_factor
from replay.transform.draws import clone_session, uniform
from replay.transform.rows import Rows, Step, same

Int64 = npt.NDArray[np.int64]

DEFAULT_JITTER_NS: Final = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Slice(Step):
    """The requests due in [from_ns, to_ns), with from_ns as the new zero."""

    from_ns: int
    to_ns: int
    told: str = ""
    """How it was asked for, where that was in other words."""

    def __post_init__(self) -> None:
        if not 0 <= self.from_ns < self.to_ns:
            raise BadInput(
                f"slice: {self.from_ns / 1e9:g}s to {self.to_ns / 1e9:g}s found, 0 ≤ start < end wanted"
            )

    def apply(self, rows: Rows) -> Rows:
        """The rows due in the slice."""
        kept = rows.take((rows.due_ns >= self.from_ns) & (rows.due_ns < self.to_ns))
        due_ns = kept.due_ns - self.from_ns
        alone = kept.start_ns is kept.due_ns
        start_ns = due_ns if alone else np.maximum(kept.start_ns - self.from_ns, 0)
        return dataclasses.replace(kept, due_ns=due_ns, start_ns=start_ns)

    @property
    def window_ns(self) -> tuple[int, int]:  # type: ignore[override]
        """Where rows must be due."""
        return self.from_ns, self.to_ns

    def at(self, due_ns: int) -> int:
        """From the new zero on."""
        return due_ns - self.from_ns

    def missed(self, span_ns: int) -> str:
        """An empty slice."""
        return (
            f"slice: no request between {self.from_ns / 1e9:g}s and {self.to_ns / 1e9:g}s; "
            f"the schedule spans 0s to {span_ns / 1e9:g}s"
        )

    def __str__(self) -> str:
        window = f"{self.from_ns / 1e9:g}s..{self.to_ns / 1e9:g}s"
        return f"slice {self.told} ({window})" if self.told else f"slice {window}"


@dataclasses.dataclass(frozen=True)
class Speed(Step):
    """Time compressed by `factor`: every due instant and think time divided, rounded to the ns."""

    factor: float

    def __post_init__(self) -> None:
        check_factor(self.factor, "speed")

    def apply(self, rows: Rows) -> Rows:
        """The rows with their instants divided."""
        due_ns = self._divided(rows.due_ns)
        return dataclasses.replace(
            rows,
            due_ns=due_ns,
            start_ns=due_ns if rows.start_ns is rows.due_ns else self._divided(rows.start_ns),
            think_ns=self._divided(rows.think_ns),
        )

    def _divided(self, times_ns: Int64) -> Int64:
        divided = times_ns / self.factor
        return np.rint(divided, out=divided).astype(np.int64)

    def at(self, due_ns: int) -> int:
        """Divided, as `apply` does."""
        return round(due_ns / self.factor)

    def __str__(self) -> str:
        return f"speed {self.factor:g}"


@dataclasses.dataclass(frozen=True)
class Thin(Step):
    """Each session kept whole with probability `share`, independently (so IDC' = 1 + share·(IDC − 1))."""

    share: float
    key: np.uint64

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BadInput(f"thin: {self.share:g} found, a share above 0 and up to 1 wanted")

    def apply(self, rows: Rows) -> Rows:
        """The rows of the sessions kept."""
        return rows.take(uniform(self.key, rows.session, 0) < self.share)

    def __str__(self) -> str:
        return f"thin {self.share:g}"


def moved(rows: Rows, shift_ns: Int64) -> Rows:
    """The rows with what is due, and the start of their sessions, shifted."""
    due_ns = rows.due_ns + shift_ns
    alone = rows.start_ns is rows.due_ns
    return dataclasses.replace(rows, due_ns=due_ns, start_ns=due_ns if alone else rows.start_ns + shift_ns)


def clones_of(
    rows: Rows, copies: Int64, copies_before: int
) -> Iterator[tuple[int, Rows, npt.NDArray[np.integer] | None]]:
    """Each row `copies` (int64[n]) times, 0 removing it: first all originals, then all first clones, …

    Gives which clone (0 the original), the clones, not moved in time, and the places in `rows` that they are
    of, None for all. A clone has its own session and number of copy (copy + nth · copies_before).
    """
    least = int(copies.min(initial=0))
    for nth in range(int(copies.max(initial=0))):
        places = None if nth < least else np.flatnonzero(copies > nth)
        yield nth, clone(rows if places is None else rows.take(places), nth, copies_before), places


def clone(rows: Rows, nth: int, copies_before: int) -> Rows:
    """The `nth` clone of each row, not moved in time; 0 is the row itself."""
    if not nth:
        return rows
    if rows.copy.strides == (0,) and len(rows):
        copy = same(np.int32(int(rows.copy[0]) + nth * copies_before), len(rows))
    else:
        copy = rows.copy + np.int32(nth * copies_before)
    return dataclasses.replace(rows, session=clone_session(rows.session, nth), copy=copy)


def clone_rows(rows: Rows, copies: Int64, copies_before: int) -> tuple[Rows, Int64]:
    """Each row `copies` (int64[n]) times, 0 removing it, copies one after the other; and which each is.

    The second value is int64, 0 for the original. A clone has its own session and number of copy
    (copy + nth · copies_before); instants are not touched.
    """
    source = np.repeat(np.arange(len(rows)), copies)
    nth = np.arange(len(source))
    nth -= (np.cumsum(copies) - copies).take(source)
    cloned = rows.take(source)
    session = clone_session(cloned.session, nth)
    np.copyto(session, cloned.session, where=nth == 0)
    copy = nth.astype(np.int32)
    copy *= np.int32(copies_before)
    copy += cloned.copy
    return dataclasses.replace(cloned, session=session, copy=copy), nth
