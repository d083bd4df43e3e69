"""Rows that wait for their time, in slots of equal length, unsorted: each slot is sorted once, when complete.

Sorting and when rows may leave is in `due_order`.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from replay.transform.rows import Rows

SLOT_ROWS: Final = 1 << 17
"""Rows that a slot shall have: their columns fit a processor's cache while they are sorted."""
_FULLEST: Final = 8
_MOST_SLOTS: Final = 256
_FEW_SLOTS: Final = 16
_SHORTEST_NS: Final = 1_000


class DueSlots:
    """Rows by the slot of time that they are due in; slot k is [k · `width_ns`, (k + 1) · `width_ns`)."""

    def __init__(self, width_ns: int) -> None:
        self._width_ns = width_ns
        self._pieces: dict[int, list[Rows]] = {}
        self._held: dict[int, int] = {}
        self.waiting = 0
        """Rows that wait."""

    @staticmethod
    def of(rows: Rows) -> DueSlots | None:
        """Slots for traffic such as `rows` (sorted, at least one), which wait in them; None where these are
        too few or too close together for it to pay."""
        span_ns = int(rows.due_ns[-1]) - int(rows.due_ns[0])
        width_ns = span_ns * SLOT_ROWS // (2 * len(rows))  # about half of what will be due there has come
        if len(rows) < 2 * SLOT_ROWS or width_ns < _SHORTEST_NS:
            return None
        slots = DueSlots(width_ns)
        slots.add(rows)
        return slots

    @property
    def unfit(self) -> bool:
        """Whether traffic is no longer like that: far too many rows in a slot, or too many slots."""
        return len(self._held) > _MOST_SLOTS or max(self._held.values(), default=0) > _FULLEST * SLOT_ROWS

    def add(self, rows: Rows) -> None:
        """Let rows (at least one) wait, in any order."""
        slot = rows.due_ns // self._width_ns
        low, high = int(slot.min()), int(slot.max())
        if low == high:
            self._keep(low, rows)
        elif high - low < _FEW_SLOTS:
            slot -= low
            near = slot.astype(np.uint8)  # a byte each is looked through eight times as fast
            for number in range(high - low + 1):
                self._keep(low + number, rows.take(near == number))
        else:
            order = np.argsort(slot, kind="stable")
            ordered, numbers = rows.take(order), slot[order]
            edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
            for start, end in itertools.pairwise(edges):
                self._keep(int(numbers[start]), ordered.part(start, end))
        self.waiting += len(rows)

    def before(self, bound_ns: int) -> list[Rows]:
        """The rows of all slots that end at `bound_ns` or before; they no longer wait."""
        whole = [slot for slot in self._pieces if (slot + 1) * self._width_ns <= bound_ns]
        return self._taken(sorted(whole))

    def all(self) -> list[Rows]:
        """All rows; none waits any longer."""
        return self._taken(sorted(self._pieces))

    def _keep(self, slot: int, rows: Rows) -> None:
        if not len(rows):
            return
        self._pieces.setdefault(slot, []).append(rows)
        self._held[slot] = self._held.get(slot, 0) + len(rows)

    def _taken(self, slots: list[int]) -> list[Rows]:
        self.waiting -= sum(self._held.pop(slot) for slot in slots)
        return [piece for slot in slots for piece in self._pieces.pop(slot)]
