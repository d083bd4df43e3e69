"""Which turn of a session follows which, found batch by batch; names of sessions to numbers is in `sessions`.

A table of the sessions seen lately is kept as runs sorted by session, so that a batch is looked up in a few
vectorised searches. Sessions that were silent for `LOOK_BACK_ROWS` are forgotten: the table stays bounded.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

LOOK_BACK_ROWS: Final = 1 << 24
"""A turn that came more trace rows than this after the one before it is a first turn: on the clock."""

_RUNS: Final = 8
_FEW_TO_SORT: Final = 1 << 18


class Linked(NamedTuple):
    """int64[n] each: the trace row followed (−1 none), the time from its end, the session's first arrival."""

    follows: Int64
    think_ns: Int64
    start_ns: Int64


@dataclasses.dataclass(frozen=True)
class _Run:
    """The last row of each session in a piece of the trace, sorted by session."""

    session: Int64
    row: Int64
    end_ns: Int64
    start_ns: Int64


class TurnLinker:
    """Links turns to their predecessors over batches of one trace, given in order.

    A turn follows the latest earlier turn of its session when that had ended by its arrival; `think_ns` is
    the time between. Turns that overlapped in production stay on the clock.
    """

    def __init__(self, look_back_rows: int = LOOK_BACK_ROWS) -> None:
        self._look_back_rows = look_back_rows
        self._runs: list[_Run] = []

    def link(self, session: Int64, row: Int64, arrival_ns: Int64, end_ns: Int64) -> Linked:
        """`session`, `row` (ascending), `arrival_ns`, `end_ns` (−1 unknown): int64[n] of the next batch."""
        n = len(session)
        if not n:
            return Linked(row.copy(), row.copy(), row.copy())
        order = _by_session(session)
        by_session, rows = session[order], row[order]
        begins = np.ones(n, np.bool_)
        begins[1:] = (by_session[1:] != by_session[:-1]) | (rows[1:] - rows[:-1] > self._look_back_rows)
        firsts = np.flatnonzero(begins)
        before = self._before(by_session[firsts], rows[firsts])
        # Per row, in session order: the row before it, its end, and the session's first arrival.
        arrived, ended = arrival_ns[order], end_ns[order]
        earlier, earlier_end = np.roll(rows, 1), np.roll(ended, 1)
        earlier[firsts], earlier_end[firsts] = before.row, before.end_ns
        start = np.where(before.row < 0, arrived[firsts], before.start_ns)
        lengths = np.diff(np.append(firsts, n))
        lasts = firsts + lengths - 1
        self._remember(_Run(by_session[firsts], rows[lasts], ended[lasts], start), int(row[-1]))
        after = (earlier >= 0) & (earlier_end >= 0) & (earlier_end <= arrived)
        linked = Linked(*(np.empty(n, np.int64) for _ in range(3)))
        linked.follows[order] = np.where(after, earlier, -1)
        linked.think_ns[order] = np.where(after, arrived - earlier_end, 0)
        linked.start_ns[order] = np.repeat(start, lengths)
        return linked

    def _before(self, session: Int64, row: Int64) -> _Run:
        """The last row known of each of `session` (ascending), −1 where none within reach of `row`."""
        found = _Run(session, *(np.full(len(session), -1, np.int64) for _ in range(3)))
        open_ = np.arange(len(session))
        for run in reversed(self._runs):
            if not len(open_):
                break
            wanted = session[open_]
            place = np.searchsorted(run.session, wanted)
            place[place == len(run.session)] = 0
            hit = run.session[place] == wanted
            at, there = open_[hit], place[hit]
            near = row[at] - run.row[there] <= self._look_back_rows
            at, there = at[near], there[near]
            found.row[at], found.end_ns[at] = run.row[there], run.end_ns[there]
            found.start_ns[at] = run.start_ns[there]
            open_ = open_[~hit]
        return found

    def _remember(self, run: _Run, last_row: int) -> None:
        oldest_row = last_row - self._look_back_rows
        # One run merged with itself: of a session that was silent for long in this batch, the last part.
        self._runs.append(_merged([run], oldest_row))
        if len(self._runs) <= _RUNS:
            return
        # The newest, and older ones as long as they are no larger than all newer together: each row is
        # merged a few times only, however many sessions are known.
        start, rows = len(self._runs) - 2, len(self._runs[-1].row)
        while start > 0 and len(self._runs[start - 1].row) <= rows + len(self._runs[start].row):
            rows += len(self._runs[start].row)
            start -= 1
        self._runs[start:] = [_merged(self._runs[start:], oldest_row)]


def _by_session(session: Int64) -> Int64:
    """The places of `session` (numbers of 0 or more) in its order; equal ones stay as they are, int64[n]."""
    n = len(session)
    if n <= _FEW_TO_SORT:
        # The number's high bits and the place in one int64: sorting such values is several times as fast.
        bits = n.bit_length()
        key = session & -(1 << bits)
        key |= np.arange(n)
        key.sort()
        key &= (1 << bits) - 1
        ordered = session[key]
        if (ordered[1:] >= ordered[:-1]).all():  # else two differ in their low bits only
            return key
    return np.argsort(session, kind="stable").astype(np.int64, copy=False)


def _merged(runs: list[_Run], oldest_row: int) -> _Run:
    """The latest row of each session in `runs` (older ones first), without those before `oldest_row`."""
    if len(runs) == 1 and not len(runs[0].row):
        return runs[0]
    if len(runs) == 1 and int(runs[0].row.min()) >= oldest_row:  # then no session is in it twice
        return runs[0]
    joined = {
        field.name: np.concatenate([getattr(run, field.name) for run in runs])
        for field in dataclasses.fields(_Run)
    }
    order = np.argsort(joined["session"], kind="stable")  # later runs stay behind earlier ones
    session = joined["session"][order]
    last = np.ones(len(session), np.bool_)
    np.not_equal(session[1:], session[:-1], out=last[:-1])
    kept = order[last]
    kept = kept[joined["row"][kept] >= oldest_row]
    return _Run(**{name: values[kept] for name, values in joined.items()})
