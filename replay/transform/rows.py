"""Rows on their way from a trace to a schedule, and what a step of a transformation is.

A step works on any batch of rows: it decides by hashes (see `draws`) and by a row's own values, so that batch
borders change nothing. Order and `after` come last, for all steps at once (see `due_order`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.transform.draws import lone_session
from replay.transform.linking import TurnLinker

Int64 = npt.NDArray[np.int64]

_UNNUMBERED: Final = np.int64(-1)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Arrays of one length n, in any order, not to be written to: some are views of one value (see `same`).

    `due_ns` int64, ns from the schedule's zero. `row` int64, the trace row. `copy` int32, which clone of it.
    `session` int64, 0 or more: a stable hash of the session (of the row, where it has none) and the clone;
    −1 throughout where nobody asked for it yet (see `session_numbers`).
    `start_ns` int64: no row of this session is due before; 0 or more. `follows` int64: the trace row of the
    turn it follows, −1 none. `think_ns` int64, from that turn's end to this due. `phase` int8, a number.
    """

    due_ns: Int64
    row: Int64
    copy: npt.NDArray[np.int32]
    session: Int64
    start_ns: Int64
    follows: Int64
    think_ns: Int64
    phase: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.due_ns)

    def take(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Rows:
        """The rows at `index`, or where it is true."""
        places: npt.NDArray[Any] = np.flatnonzero(index) if index.dtype == np.bool_ else index
        columns = {name: taken(values, places) for name, values in vars(self).items() if name != "start_ns"}
        start_ns = columns["due_ns"] if self.start_ns is self.due_ns else taken(self.start_ns, places)
        return Rows(**columns, start_ns=start_ns)

    def part(self, start: int, end: int) -> Rows:
        """The rows in [start, end), not copied."""
        parts = {name: values[start:end] for name, values in vars(self).items() if name != "start_ns"}
        alone = self.start_ns is self.due_ns
        return Rows(**parts, start_ns=parts["due_ns"] if alone else self.start_ns[start:end])

    @staticmethod
    def lone(first_row: int, due_ns: Int64, *, numbered: bool = True) -> Rows:
        """Trace rows from `first_row` on, due at `due_ns` (int64[n]), each a session of its own.

        Without `numbered`, sessions are not numbered yet: hashing takes as long as reading.
        """
        n = len(due_ns)
        row = np.arange(first_row, first_row + n, dtype=np.int64)
        return Rows(
            due_ns=due_ns,
            row=row,
            copy=same(np.int32(0), n),
            session=lone_session(row) if numbered else same(_UNNUMBERED, n),
            start_ns=due_ns,
            follows=same(np.int64(-1), n),
            think_ns=same(np.int64(0), n),
            phase=same(np.int8(0), n),
        )

    @staticmethod
    def joined(pieces: list[Rows]) -> Rows:
        """All rows of `pieces` (at least one), one after the other."""
        if len(pieces) == 1:
            return pieces[0]
        columns = {
            name: _joined([getattr(piece, name) for piece in pieces])
            for name in vars(pieces[0])
            if name != "start_ns"
        }
        alone = all(piece.start_ns is piece.due_ns for piece in pieces)
        start_ns = columns["due_ns"] if alone else _joined([piece.start_ns for piece in pieces])
        return Rows(**columns, start_ns=start_ns)


def same(value: np.integer, n: int) -> Any:
    """`value` n times, in no memory: a read-only view. Most columns of most traces hold one value."""
    return np.broadcast_to(value, n)


def taken(values: npt.NDArray[Any], places: npt.NDArray[np.integer]) -> Any:
    """A column's values at `places`; a view of one value where the column is one."""
    if values.strides == (0,) and len(values):
        return same(values[0], len(places))
    return values.take(places)


def session_numbers(rows: Rows) -> Int64:
    """The numbers of the rows' sessions, int64[n], 0 or more; made now, where the rows have none yet."""
    if len(rows) and rows.session.strides == (0,) and rows.session[0] == _UNNUMBERED:
        return lone_session(rows.row)
    return rows.session


def _joined(pieces: list[npt.NDArray[Any]]) -> Any:
    filled = [piece for piece in pieces if len(piece)]
    if filled and all(piece.strides == (0,) and piece[0] == filled[0][0] for piece in filled):
        return same(filled[0][0], sum(len(piece) for piece in filled))
    return np.concatenate(pieces)


def base_rows(arrival_ns: Int64, end_ns: Int64, session: Int64) -> Rows:
    """A whole trace as it was: one row per trace row, due at arrival − first arrival.

    `arrival_ns` int64[n] ascending; `end_ns` int64[n], −1 where the end is unknown; `session` int64[n], a
    number per session, 0 or more. Which turn follows which: see `TurnLinker`.
    """
    first_ns = int(arrival_ns[0]) if len(arrival_ns) else 0
    return rows_of(TurnLinker(), 0, arrival_ns, end_ns, session, first_ns)


def rows_of(
    linker: TurnLinker, first_row: int, arrival_ns: Int64, end_ns: Int64, session: Int64, zero_ns: int
) -> Rows:
    """The trace rows from `first_row` on as rows due at arrival − zero; `linker` has seen those before."""
    n = len(arrival_ns)
    row = np.arange(first_row, first_row + n, dtype=np.int64)
    linked = linker.link(session.astype(np.int64), row, arrival_ns, end_ns)
    return Rows(
        due_ns=arrival_ns - zero_ns,
        row=row,
        copy=same(np.int32(0), n),
        session=session.astype(np.int64),
        start_ns=np.maximum(linked.start_ns - zero_ns, 0),
        follows=linked.follows,
        think_ns=linked.think_ns,
        phase=same(np.int8(0), n),
    )


type Gate = Callable[[Int64, Int64], npt.NDArray[np.bool_]]


class Step:
    """One step of a transformation; `str(step)` is what the lineage says. Defaults are those of no step.

    `spread_ns`: `apply` moves a row from `at(due_ns)` by at most this much. `most_copies`: it makes at most
    so many of a row. `whole_trace`: it wants all rows in one batch, and makes some `rows_a_row` of each.
    `window_ns`: where rows must be due (before the step) for it to do anything, else None.
    """

    spread_ns: int = 0
    most_copies: int = 1
    whole_trace: bool = False
    rows_a_row: float = 1.0
    window_ns: tuple[int, int] | None = None

    def apply(self, rows: Rows) -> Rows:
        """The rows after this step, for any batch of rows, in any order."""
        raise NotImplementedError

    def at(self, due_ns: int) -> int:
        """Where the step puts an instant, spread apart; ascending."""
        return due_ns

    def gate(self) -> Gate | None:
        """A question to be put, after all steps, to the rows in due order; None where there is none.

        Asked with `due_ns` (int64[n], ascending over all calls) and `row` (int64[n]), it says which pass,
        bool[n]. It may remember what passed: every schedule gets one of its own.
        """
        return None

    def missed(self, span_ns: int) -> str:
        """What to say when no row was due in `window_ns`, of a schedule that spans `span_ns`."""
        return (
            f"{self}: no request is due in its window; the schedule spans 0s to {span_ns / 1e9:g}s "
            "(after speed), so move it there"
        )
