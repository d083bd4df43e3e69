"""Putting rows in due order through a bounded window, and finding the turn that each follows.

Batches come in the order of the trace, and a step moves an instant by a bounded spread. So what is due before
all that may still come is sorted and leaves; the rest waits. Where more waits than a batch brings, rows wait
in slots of time, unsorted, so that each is sorted once; rows of no session wait packed from the beginning
(see `packed_rows`). Which rows there are is not decided here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from replay.transform.due_slots import DueSlots
from replay.transform.linking import LOOK_BACK_ROWS
from replay.transform.packed_rows import PackedRows
from replay.transform.rows import Gate, Rows, taken
from replay.transform.schedule_format import Schedule
from replay.transform.sessions import distinct

Int64 = npt.NDArray[np.int64]

MOST_WAITING: Final = 4_000_000
"""Rows that may wait in the window, some 150 bytes each while they are sorted."""

_SPARSE: Final = 4
_MANY_TIES: Final = 4

MOST_OPEN_TURNS: Final = 16_000_000
"""Scheduled turns whose next may still come, 16 bytes each."""


class DueOrder:
    """Sorts batches of rows, given in any order, by (due, row, copy).

    `copies` bounds the numbers of copies, exclusive. `followed` tells of each trace row whether a later turn
    follows it, bool[rows]; None where none does. What one of the `gates` (see `Step.gate`) lets not pass
    leaves nowhere.
    """

    def __init__(
        self,
        copies: int,
        followed: npt.NDArray[np.bool_] | None,
        most_waiting: int = MOST_WAITING,
        gates: Sequence[Gate] = (),
    ) -> None:
        self._copies = copies
        self._packs = followed is None
        self._packed: PackedRows | None = None
        self._most_waiting = most_waiting
        self._gates = gates
        self._turns = None if followed is None else OpenTurns(copies, followed)
        self._pieces: list[Rows] = []
        self._sorted = 0
        self._new = 0
        self._slots: DueSlots | None = None
        self.rows = 0

    def push(self, rows: Rows, bound_ns: int) -> Schedule | None:
        """Add `rows`; what is due up to `bound_ns`, in order, where all rows to come are due at it or later.

        None where sorting would not pay yet. Raises `BadInput` when too many rows must wait.
        """
        if self._packs:
            rows = self._pack(rows)
        if self._packed is not None:
            return self._through_packed(self._packed, bound_ns)
        if len(rows):
            # Only `due_ns` matters from here on: one column less to carry.
            rows = dataclasses.replace(rows, start_ns=rows.due_ns)
        if self._slots is not None:
            return self._through_slots(self._slots, rows, bound_ns)
        if len(rows):
            self._pieces.append(rows)
            self._new += len(rows)
        if not self._new or self._new < self._sorted:  # else the waiting rows are sorted over and over
            return None
        return self._leave(bound_ns)

    def finish(self) -> Schedule | None:
        """All rows that still wait, in order; None where there are none."""
        if self._packed is not None:
            rows = self._packed.all()
            return None if rows is None else self._scheduled(rows)
        if self._slots is not None:
            self._pieces = self._slots.all()
        return self._leave(None) if self._pieces else None

    def _pack(self, rows: Rows) -> Rows:
        """Let `rows` wait packed, if they can; what can't, with all that waited so, is returned."""
        if not len(rows) or (self._packed is not None and self._packed.add(rows)):
            return rows.part(0, 0)
        waited = None if self._packed is None else self._packed.all()
        rows = rows if waited is None else Rows.joined([waited, rows])
        self._packed = PackedRows.of(rows, self._copies)  # anew: time or ranks took more bits
        if self._packed is not None:
            return rows.part(0, 0)
        self._packs = False
        return rows

    def _through_packed(self, packed: PackedRows, bound_ns: int) -> Schedule | None:
        due = packed.before(bound_ns)
        if packed.waiting <= self._most_waiting:
            return None if due is None else self._scheduled(due)
        rest = packed.all()
        self._pieces = [rows for rows in (due, rest) if rows is not None]
        self._packed, self._packs = None, False
        return self._leave(bound_ns)

    def _through_slots(self, slots: DueSlots, rows: Rows, bound_ns: int) -> Schedule | None:
        if len(rows):
            slots.add(rows)
        due = slots.before(bound_ns)
        if slots.waiting > self._most_waiting or slots.unfit:
            self._pieces, self._slots = [*due, *slots.all()], None
            return self._leave(bound_ns)
        return self._scheduled(in_due_order(Rows.joined(due), self._copies)) if due else None

    def _leave(self, bound_ns: int | None) -> Schedule:
        rows = in_due_order(Rows.joined(self._pieces), self._copies)
        cut = len(rows) if bound_ns is None else int(np.searchsorted(rows.due_ns, bound_ns, side="right"))
        if len(rows) - cut > self._most_waiting:
            raise BadInput(
                f"transform: more than {self._most_waiting:,} requests lie within one spread (jitter) of "
                "each other, too many to sort in memory; shorten --jitter, amplify less, or thin"
            )
        left, rest = rows.part(0, cut), rows.part(cut, len(rows))
        self._pieces, self._sorted, self._new = [rest] if len(rest) else [], len(rest), 0
        if bound_ns is not None and len(rest) >= max(len(left), 1):
            self._slots = DueSlots.of(rest)
            if self._slots is not None:
                self._pieces = []
        return self._scheduled(left)

    def _scheduled(self, left: Rows) -> Schedule:
        """The rows, in due order, as the schedule's next piece."""
        for gate in self._gates:
            left = left.take(gate(left.due_ns, left.row))
        after, think_ns = left.follows, left.think_ns
        if self._turns is not None:
            after = self._turns.resolve(left.row, left.copy, left.follows, self.rows)
            think_ns = np.where(after < 0, 0, think_ns)
        self.rows += len(left)
        return Schedule(
            due_ns=left.due_ns,
            row=left.row,
            copy=left.copy,
            session=left.session,
            after=after,
            think_ns=think_ns,
            phase=left.phase,
        )


def in_due_order(rows: Rows, copies: int) -> Rows:
    """The rows sorted by (due, row, copy); `copies` bounds the numbers of copies, exclusive.

    What they start at is taken to be when they are due.
    """
    if not len(rows):
        return rows
    low_ns, first_row = int(rows.due_ns.min()), int(rows.row.min())
    copy_bits = (copies - 1).bit_length()
    ranks = (int(rows.row.max()) - first_row + 1) << copy_bits
    if ranks > _SPARSE * len(rows):
        return _in_due_order_sparse(rows, low_ns)
    bits = (ranks - 1).bit_length()
    if (int(rows.due_ns.max()) - low_ns).bit_length() + bits > 63:
        return _in_due_order_anyhow(rows)
    # Instant, row and copy in one int64: sorting values is many times as fast as sorting places, and what
    # was sorted by needs no gathering.
    rank = rows.row - first_row
    if copy_bits:
        rank <<= copy_bits
        rank |= rows.copy
    key = rows.due_ns - low_ns
    key <<= bits
    key |= rank
    key.sort()
    place = np.empty(ranks, np.int64)
    place[rank] = np.arange(len(rows))
    np.bitwise_and(key, (1 << bits) - 1, out=rank)
    order = place.take(rank)
    key >>= bits
    key += low_ns
    copy = rows.copy
    if copy_bits:
        copy = np.bitwise_and(rank, (1 << copy_bits) - 1).astype(np.int32)
        rank >>= copy_bits
    rank += first_row
    return Rows(
        due_ns=key,
        row=rank,
        copy=copy,
        session=taken(rows.session, order),
        start_ns=key,
        follows=taken(rows.follows, order),
        think_ns=taken(rows.think_ns, order),
        phase=taken(rows.phase, order),
    )


def _in_due_order_sparse(rows: Rows, low_ns: int) -> Rows:
    """`in_due_order` of rows of a far longer stretch of the trace: a table of that stretch would be large."""
    n = len(rows)
    bits = (n - 1).bit_length()
    if (int(rows.due_ns.max()) - low_ns).bit_length() + bits > 63:
        return _in_due_order_anyhow(rows)
    key = rows.due_ns - low_ns
    key <<= bits
    key |= np.arange(n)
    key.sort()
    order = np.bitwise_and(key, (1 << bits) - 1)
    key >>= bits
    tied = np.flatnonzero(key[1:] == key[:-1])
    if len(tied) > n // _MANY_TIES:
        return _in_due_order_anyhow(rows)
    if len(tied):  # their order is still that of their places
        places = distinct([tied, tied + 1])
        some = order[places]
        order[places] = some[np.lexsort((rows.copy[some], rows.row[some], key[places]))]
    key += low_ns
    ordered = dataclasses.replace(rows, due_ns=rows.row, start_ns=rows.row).take(order)
    return dataclasses.replace(ordered, due_ns=key, start_ns=key)


def _in_due_order_anyhow(rows: Rows) -> Rows:
    rows = dataclasses.replace(rows, start_ns=rows.due_ns)
    return rows.take(np.lexsort((rows.copy, rows.row, rows.due_ns)))


class OpenTurns:
    """Where in the schedule the turns stand that a later one follows; each is forgotten once it was found."""

    def __init__(self, copies: int, followed: npt.NDArray[np.bool_]) -> None:
        self._copies = copies
        self._followed = followed
        self._key = np.empty(0, np.int64)  # row · copies + copy, ascending
        self._index = np.empty(0, np.int64)

    def resolve(self, row: Int64, copy: npt.NDArray[np.int32], follows: Int64, first_index: int) -> Int64:
        """The schedule's index of the turn each row follows, int64[n]; −1 where that isn't scheduled before.

        The rows stand in the schedule from `first_index` on.
        """
        self._add(row, copy, first_index)
        after = np.full(len(row), -1, np.int64)
        later = np.flatnonzero(follows >= 0)
        if not len(later) or not len(self._key):
            return after
        wanted = follows[later] * self._copies + copy[later]
        place = np.searchsorted(self._key, wanted)
        place[place == len(self._key)] = 0
        found = (self._key[place] == wanted) & (self._index[place] < first_index + later)
        after[later[found]] = self._index[place[found]]
        kept = np.ones(len(self._key), np.bool_)
        kept[place[found]] = False
        # A turn that was not found for long has lost its follower to a step.
        kept &= self._key >= (int(row.min()) - 2 * LOOK_BACK_ROWS) * self._copies
        self._key, self._index = self._key[kept], self._index[kept]
        return after

    def _add(self, row: Int64, copy: npt.NDArray[np.int32], first_index: int) -> None:
        new = np.flatnonzero(self._followed[row])
        key = np.concatenate((self._key, row[new] * self._copies + copy[new]))
        index = np.concatenate((self._index, new + first_index))
        if len(key) > MOST_OPEN_TURNS:
            raise BadInput(
                f"transform: more than {MOST_OPEN_TURNS:,} sessions are under way at once, too many to "
                "follow in memory; --slice or --thin the trace, or amplify less"
            )
        order = np.argsort(key, kind="stable")
        self._key, self._index = key[order], index[order]
