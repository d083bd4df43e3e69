"""The methods of amplification, each a step of a transformation; which of them to take is in `choice`.

`ShiftedClones` streams: it decides by hashes and a row's own values, and moves nothing farther than its
spread. The methods of others in `whole_trace` look at all rows at once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.quantities import check_factor
from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.shifts import Shifts
from replay.transform.draws import uniform
from replay.transform.rows import Rows, Step
from replay.transform.steps import clone, moved

Int64 = npt.NDArray[np.int64]

LEAST_ROOM: Final = 64
"""Every clone can be moved by 1/64 of the time, the longest sessions' beyond its end."""
_FLAGS: Final = 1 << 22


@dataclasses.dataclass(frozen=True)
class LateSessions:
    """Sessions that end near the end of the time, and when: their clones have less room to be moved later.

    `session` int64[m] ascending, `last_ns` int64[m] the last due instant of each.
    """

    session: Int64
    last_ns: Int64

    @staticmethod
    def of(due_ns: Int64, session: Int64) -> LateSessions:
        """The sessions of the rows given (int64[n] each, in any order)."""
        order = np.lexsort((due_ns, session))
        by_session = session[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = by_session[1:] != by_session[:-1]
        return LateSessions(by_session[last], due_ns[order][last])

    @functools.cached_property
    def _flags(self) -> npt.NDArray[np.bool_]:
        flags = np.zeros(_FLAGS, np.bool_)
        flags[self.session & (_FLAGS - 1)] = True
        return flags

    def room_ns(self, session: Int64, span_ns: int, most_ns: int) -> Int64:
        """How much later each of `session` (int64[n]) may be moved within the span, at most `most_ns`."""
        room = np.full(len(session), most_ns, np.int64)
        if not len(self.session):
            return room
        maybe = np.flatnonzero(self._flags[session & (_FLAGS - 1)])
        place = np.searchsorted(self.session, session[maybe])
        place[place == len(self.session)] = 0
        found = self.session[place] == session[maybe]
        room[maybe[found]] = np.clip(span_ns - self.last_ns[place[found]], 0, most_ns)
        return room


NO_LATE_SESSIONS: Final = LateSessions(np.empty(0, np.int64), np.empty(0, np.int64))


@dataclasses.dataclass(frozen=True, eq=False)
class ShiftedClones(Step):
    """`factor` times as many sessions: each cloned whole, ⌊factor⌋ times, and once more by chance.

    Copy 0 stays where it was; every other copy is shifted as a whole by a draw from `shifts`, mirrored where
    its session would begin before zero or end after `span_ns`. A session that lasts nearly as long as the
    time has no room in it: its clones may end up to 1/64 of the time later, or they would tie. A factor up to
    1 thins. `copies_before` is the product of the earlier steps' `most_copies`; `told` is what the lineage
    says besides the factor.
    """

    factor: float
    key: np.uint64
    shifts: Shifts | ClockShifts | CrowdShifts
    span_ns: int
    late: LateSessions = NO_LATE_SESSIONS
    copies_before: int = 1
    told: str = ""

    def __post_init__(self) -> None:
        check_factor(self.factor, "amplify")

    @property
    def spread_ns(self) -> int:  # type: ignore[override]
        """The longest shift, where there are clones."""
        return self.shifts.most_ns if self.most_copies > 1 else 0

    @property
    def most_copies(self) -> int:  # type: ignore[override]
        """⌈factor⌉."""
        return math.ceil(self.factor)

    def apply(self, rows: Rows) -> Rows:
        """The rows and their clones: first all rows themselves, then all first clones, …"""
        whole = math.floor(self.factor)
        room_ns = self._room_ns(rows) if self.spread_ns else None
        pieces = [self._clone(rows, nth, room_ns) for nth in range(whole)]
        if whole != self.factor:
            more = np.flatnonzero(uniform(self.key, rows.session, 0) < self.factor - whole)
            room_ns = None if room_ns is None else room_ns[more]
            pieces.append(self._clone(rows.take(more), whole, room_ns))
        return Rows.joined(pieces)

    def _room_ns(self, rows: Rows) -> Int64 | None:
        """How much later each row's session may be moved; None where none is near the time's ends."""
        most_ns = self.shifts.most_ns
        if not len(rows):
            return None
        early = int(rows.start_ns.min()) < most_ns
        if not early and rows.start_ns is rows.due_ns and int(rows.due_ns.max()) <= self.span_ns - most_ns:
            return None  # each row is a session of its own, and none is late
        room = self.late.room_ns(rows.session, self.span_ns, most_ns)
        return room if early or int(room.min()) < most_ns else None

    def _clone(self, rows: Rows, nth: int, room_ns: Int64 | None) -> Rows:
        """The `nth` clone of each row: one shift for all of a session's, drawn by the original's number."""
        cloned = clone(rows, nth, self.copies_before)
        if not nth or not self.spread_ns:
            return cloned
        most_ns = self.shifts.most_ns
        shift = self.shifts.drawn_ns(uniform(self.key, rows.session, nth), rows.start_ns)
        if room_ns is not None:
            edge = np.flatnonzero((rows.start_ns < most_ns) | (room_ns < most_ns))
            starts_ns = rows.start_ns[edge]
            least_ns = min(most_ns, self.span_ns // LEAST_ROOM) - starts_ns
            room = np.maximum(room_ns[edge], least_ns)
            shift[edge] = self.shifts.kept_within(shift[edge], -np.minimum(starts_ns, most_ns), room)
        return moved(cloned, shift)

    def __str__(self) -> str:
        if self.most_copies == 1:
            return f"amplify {self.factor:g} (sessions kept whole, by chance)"
        return f"amplify {self.factor:g} (sessions cloned whole, {self.told or self.shifts})"
