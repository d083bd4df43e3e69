"""Rows that wait as one number each, of instant, row and copy, where no turns are linked and no phases put.

Sorting such numbers takes no gathering of columns: sessions are looked up by row and copy at the end. Other
rows wait as they are: see `due_order`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.rows import Rows, same

Int64 = npt.NDArray[np.int64]

_BITS: Final = 63
_MOST_SPARE: Final = 6
"""Traffic may come to be 2⁶ times as dense as in the beginning before numbers are made anew."""
_FEW_ENDS: Final = 2
_FEWEST_PLACES: Final = 1 << 16
_MOST_PLACES: Final = 1 << 23
"""Ranks between the first row that waits and the last: 8 bytes each, for sessions."""


@dataclasses.dataclass
class _Slot:
    """Rows due in [start, end), as pieces of numbers: (due − start) · 2^bits + rank − base."""

    start_ns: int
    end_ns: int
    base: int
    pieces: list[Int64] = dataclasses.field(default_factory=list)


class PackedRows:
    """Rows that wait for their time, 8 bytes each, and come in the trace's order.

    A row's rank, row · 2^(bits of a copy) + copy, orders what is due at one instant. Rows wait in slots of
    time, one more for each batch that reaches farther than all before; each is sorted when it is complete.
    """

    def __init__(self, copies: int, bits: int, start_ns: int) -> None:
        """`bits` are a rank's; no row is due before `start_ns`; `copies` as for `of`."""
        self._copy_bits = _copy_bits(copies)
        self._bits = bits
        self._longest_ns = 1 << (_BITS - bits)
        self._slots: list[_Slot] = []
        self._reached_ns = start_ns
        self._last_base = self._ranks_end = 0
        self._session = np.empty(_FEWEST_PLACES, np.int64)  # by rank, modulo its length
        self.waiting = 0
        """Rows that wait."""

    @staticmethod
    def of(rows: Rows, copies: int) -> PackedRows | None:
        """These rows (at least one), waiting; None where they can't wait so.

        `copies` bounds the numbers of copies, exclusive.
        """
        start_ns = int(rows.due_ns.min())
        for_time = (int(rows.due_ns.max()) - start_ns + 1).bit_length()
        ranks = (int(rows.row.max()) - int(rows.row.min()) + 1) << _copy_bits(copies)
        spare = _BITS - for_time - ranks.bit_length()
        if spare < 0:
            return None
        packed = PackedRows(copies, ranks.bit_length() + min(spare // 2, _MOST_SPARE), start_ns)
        return packed if packed.add(rows) else None

    def add(self, rows: Rows) -> bool:
        """Let the trace's next rows wait, in any order; False where they can't, and nothing was done."""
        if not len(rows):
            return True
        low_ns, high_ns = int(rows.due_ns.min()), int(rows.due_ns.max()) + 1
        first, last = int(rows.row.min()), int(rows.row.max())
        base, ranks_end = first << self._copy_bits, (last + 1) << self._copy_bits
        start_ns, lowest = self._reached_ns, base
        if self._slots:
            start_ns, lowest = self._slots[0].start_ns, self._slots[0].base
        longest_ns = max(high_ns - low_ns, high_ns - self._reached_ns)
        in_order = low_ns >= start_ns and base >= self._last_base
        fits = ranks_end - lowest <= min(1 << self._bits, _MOST_PLACES) and longest_ns < self._longest_ns
        if not (in_order and fits and _is_lone(rows)):
            return False
        if high_ns > self._reached_ns:
            self._slots.append(_Slot(self._reached_ns, high_ns, base))
            self._reached_ns = high_ns
        self._make_room(lowest, ranks_end)
        self._keep(self._numbers(rows, low_ns, base), low_ns, high_ns, base)
        self._last_base = base
        self.waiting += len(rows)
        return True

    def before(self, bound_ns: int) -> Rows | None:
        """The rows of all slots that end at `bound_ns` or before, in due order; they no longer wait."""
        whole = sum(slot.end_ns <= bound_ns for slot in self._slots)  # their ends ascend
        return self._taken(whole) if whole else None

    def all(self) -> Rows | None:
        """All rows, in due order; none waits any longer."""
        return self._taken(len(self._slots))

    def _make_room(self, lowest: int, ranks_end: int) -> None:
        """Let there be a place for the session of each rank from `lowest` to the end."""
        places = 1 << (ranks_end - lowest - 1).bit_length()
        if places > len(self._session):
            held = np.arange(lowest, max(lowest, self._ranks_end), dtype=np.int64)
            session = np.empty(places, np.int64)
            session[held & (places - 1)] = self._session[held & (len(self._session) - 1)]
            self._session = session
        self._ranks_end = max(self._ranks_end, ranks_end)

    def _numbers(self, rows: Rows, low_ns: int, base: int) -> Int64:
        """(due − low) · 2^bits + rank − base; sessions are put by."""
        rank = rows.row
        if self._copy_bits:
            rank = rank << self._copy_bits
            rank |= rows.copy
        self._session[rank & (len(self._session) - 1)] = rows.session
        number = rows.due_ns - low_ns
        number <<= self._bits
        number += rank
        number -= base
        return number

    def _keep(self, number: Int64, low_ns: int, high_ns: int, base: int) -> None:
        slots = [slot for slot in self._slots if slot.end_ns > low_ns and slot.start_ns < high_ns]
        ends = [(slot.end_ns - low_ns) << self._bits for slot in slots[:-1]]
        for slot, piece in zip(slots, _split(number, ends), strict=True):
            if len(piece):
                piece += ((low_ns - slot.start_ns) << self._bits) + base - slot.base
                slot.pieces.append(piece)

    def _taken(self, slots: int) -> Rows | None:
        whole, self._slots = self._slots[:slots], self._slots[slots:]
        rows = [self._unpacked(slot) for slot in whole if slot.pieces]
        self.waiting -= sum(map(len, rows))
        return Rows.joined(rows) if rows else None

    def _unpacked(self, slot: _Slot) -> Rows:
        number = np.concatenate(slot.pieces) if len(slot.pieces) > 1 else slot.pieces[0]
        number.sort()
        row = np.bitwise_and(number, (1 << self._bits) - 1)
        row += slot.base
        number >>= self._bits
        number += slot.start_ns
        session = self._session.take(row & (len(self._session) - 1))
        copy = same(np.int32(0), len(number))
        if self._copy_bits:
            copy = np.bitwise_and(row, (1 << self._copy_bits) - 1).astype(np.int32)
            row >>= self._copy_bits
        rows = Rows.lone(0, number, numbered=False)
        return dataclasses.replace(rows, row=row, copy=copy, session=session)


def _split(number: Int64, ends: Sequence[int]) -> Iterator[Int64]:
    """The numbers below the first of `ends` (ascending), those below the second, …, and all others."""
    if len(ends) <= _FEW_ENDS:
        for end in ends:
            below = number < end
            yield number.take(np.flatnonzero(below))
            number = number.take(np.flatnonzero(~below))
        yield number
        return
    number.sort()  # cheaper than to look through all for each
    edges = np.searchsorted(number, np.array(ends, np.int64)).tolist()
    for start, end in itertools.pairwise([0, *edges, len(number)]):
        yield number[start:end]


def _copy_bits(copies: int) -> int:
    return (copies - 1).bit_length()


def _is_lone(rows: Rows) -> bool:
    """Whether no row follows another, belongs to a session that began before, or has a phase."""
    usual = ((rows.follows, -1), (rows.think_ns, 0), (rows.phase, 0))
    alone = rows.start_ns is rows.due_ns
    return alone and all(column.strides == (0,) and column[0] == value for column, value in usual)
