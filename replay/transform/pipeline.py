"""Rows through steps into a schedule, batch by batch, in bounded memory; one batch is the whole in memory.

Reading a trace into rows is in `trace_rows`, writing the schedule's file in `schedule_format`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from replay.transform.due_order import MOST_WAITING, DueOrder
from replay.transform.rows import Rows, Step, base_rows
from replay.transform.schedule_format import Schedule

_AHEAD: Final = 3

Int64 = npt.NDArray[np.int64]

MAX_ROWS = 2_000_000_000


def stream(
    batches: Iterable[Rows],
    steps: Sequence[Step],
    followed: npt.NDArray[np.bool_] | None,
    most_waiting: int = MOST_WAITING,
) -> Iterator[Schedule]:
    """The schedule that `steps` make of a trace, in pieces in due order; at least one row in all.

    `batches` are the trace's rows in their order, `followed` (bool[trace rows]) says which of them a later
    turn follows, None where no turn follows any. An `after` counts from the first piece's first row. Raises
    `BadInput` for a step whose window holds no request, when nothing is left, and what `DueOrder` raises.
    """
    copies = _copies(steps)
    chain = _Chain(steps)
    whole = next((at for at, step in enumerate(steps) if step.whole_trace), None)
    if whole is not None:
        batches, chain = _all_at_once(batches, steps, whole, most_waiting)
    gates = [gate for step in steps if (gate := step.gate()) is not None]
    in_order = DueOrder(copies, followed, most_waiting, gates)
    for rows, bound_ns in ahead(map(chain.apply, batches)):
        piece = in_order.push(rows, bound_ns)
        if in_order.rows > MAX_ROWS:
            raise BadInput(f"transform: more than {MAX_ROWS:,} requests would be due; amplify less")
        if piece is not None and len(piece):
            yield piece
    chain.check()
    piece = in_order.finish()
    if piece is not None and len(piece):
        yield piece
    if not in_order.rows:
        raise BadInput("transform: no request is left; thin less, or amplify by more")


def schedule_rows(rows: Rows, steps: Sequence[Step] = ()) -> Schedule:
    """What `stream` gives for a whole trace at once, in memory."""
    followed = np.zeros(int(max(rows.row.max(initial=0), rows.follows.max(initial=0))) + 1, np.bool_)
    followed[rows.follows[rows.follows >= 0]] = True
    return Schedule.joined(list(stream([rows], steps, followed, most_waiting=MAX_ROWS)))


def base_schedule(arrival_ns: Int64, end_ns: Int64, session: Int64) -> Schedule:
    """The schedule that repeats a trace as it was (see `base_rows`)."""
    return schedule_rows(base_rows(arrival_ns, end_ns, session))


def ahead[Of](items: Iterator[Of]) -> Iterator[Of]:
    """The items themselves, made in a thread beside what the caller does, up to three of them ahead."""
    with ThreadPoolExecutor(1) as thread:
        under_way: deque[Future[Of | None]] = deque()
        try:
            while True:
                while len(under_way) < _AHEAD:
                    under_way.append(thread.submit(next, items, None))
                item = under_way.popleft().result()
                if item is None:
                    return
                yield item
        finally:
            thread.shutdown(cancel_futures=True)


def _all_at_once(
    batches: Iterable[Rows], steps: Sequence[Step], whole: int, most: int
) -> tuple[Iterable[Rows], _Chain]:
    """What reaches step `whole`, which wants all rows in one batch, and the chain from there on.

    Steps before it act batch by batch. Raises `BadInput` as soon as more than `most` rows would be due.
    """
    before, step = _Chain(steps[:whole]), steps[whole]
    held: list[Rows] = []
    due = 0.0
    for batch in batches:
        held.append(before.apply(batch)[0])
        due += len(held[-1]) * step.rows_a_row
        if due > most:
            raise BadInput(
                f"{step}: looks at all requests at once, and more than {most:,} found to be due, at most so "
                "many wanted; --slice or --thin the trace, or take --method auto, which has no such bound"
            )
    before.check()
    return [Rows.joined(held)], _Chain(steps[whole:])


def _copies(steps: Sequence[Step]) -> int:
    """The product of the steps' `most_copies`; raises `BadInput` where numbers of copies can't hold it."""
    copies = int(np.prod([step.most_copies for step in steps], dtype=np.int64))
    if copies > np.iinfo(np.int32).max:
        raise BadInput(f"transform: up to {copies:,} copies of a request found; amplify less")
    return copies


class _Chain:
    """All steps, one after the other, and what must be known of what went through each."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._in_window = [0] * len(self._steps)
        self._span_ns = [0] * len(self._steps)

    def apply(self, rows: Rows) -> tuple[Rows, int]:
        """The rows after all steps, and an instant in ns before which no row of a later batch is due."""
        bound_ns = int(rows.due_ns.max(initial=0))
        for at, step in enumerate(self._steps):
            if len(rows) and step.window_ns is not None:
                start_ns, end_ns = step.window_ns
                self._span_ns[at] = max(self._span_ns[at], int(rows.due_ns.max()))
                self._in_window[at] += int(((rows.due_ns >= start_ns) & (rows.due_ns < end_ns)).sum())
            rows = step.apply(rows)
            bound_ns = step.at(bound_ns) - step.spread_ns
        return rows, bound_ns

    def check(self) -> None:
        """Raise `BadInput` for the first step that had nothing to do."""
        for step, hits, span_ns in zip(self._steps, self._in_window, self._span_ns, strict=True):
            if step.window_ns is not None and not hits:
                raise BadInput(step.missed(span_ns))
