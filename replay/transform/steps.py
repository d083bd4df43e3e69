"""The steps from a trace to a schedule: base, slice, speed, thin, amplify. Pure functions of arrays.

Every step takes a `Schedule` and returns a new one in due order; chance enters as a numpy Generator.
Shapes laid over a part of the time (spike, ramp) are in `shapes`; both build on `clone`.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.quantities import check_factor
from replay.transform.schedule_format import Schedule

Int64 = npt.NDArray[np.int64]

DEFAULT_JITTER_NS: Final = 1_000_000_000


def base_schedule(arrival_ns: Int64, end_ns: Int64, session: Int64) -> Schedule:
    """The schedule that repeats a trace as it was: one row per trace row, due at arrival − first arrival.

    `arrival_ns` int64[n] ascending; `end_ns` int64[n], −1 where the end is unknown; `session` int64[n], a
    number per session. A turn follows (`after`) the latest earlier turn of its session when that had ended
    by its arrival; `think_ns` is the time between. Turns that overlapped in production stay on the clock.
    """
    n = len(arrival_ns)
    order = np.lexsort((np.arange(n), session))
    after = np.full(n, -1, np.int64)
    same = session[order][1:] == session[order][:-1]
    after[order[1:][same]] = order[:-1][same]
    predecessor_end = np.where(after >= 0, end_ns[after], -1)
    follows = (after >= 0) & (predecessor_end >= 0) & (predecessor_end <= arrival_ns)
    return Schedule(
        due_ns=arrival_ns - arrival_ns[0] if n else arrival_ns.copy(),
        row=np.arange(n, dtype=np.int64),
        copy=np.zeros(n, np.int32),
        session=session.astype(np.int64),
        after=np.where(follows, after, -1),
        think_ns=np.where(follows, arrival_ns - predecessor_end, 0),
        phase=np.zeros(n, np.int8),
    )


def number_sessions(session_ids: list[str | None]) -> Int64:
    """A number per session id, int64[n]; a row without an id (None) is a session of its own."""
    numbers: dict[str, int] = {}
    out = np.empty(len(session_ids), np.int64)
    fresh = 0
    for row, name in enumerate(session_ids):
        if name is None or name not in numbers:
            out[row] = fresh
            fresh += 1
            if name is not None:
                numbers[name] = int(out[row])
        else:
            out[row] = numbers[name]
    return out


def cut_out(schedule: Schedule, from_ns: int, to_ns: int) -> Schedule:
    """The requests due in [from_ns, to_ns), with from_ns as the new zero; raises `BadInput` when none is."""
    if not 0 <= from_ns < to_ns:
        raise BadInput(f"slice: {from_ns / 1e9:g}s to {to_ns / 1e9:g}s found, 0 ≤ start < end wanted")
    kept = select(schedule, (schedule.due_ns >= from_ns) & (schedule.due_ns < to_ns))
    if not len(kept):
        raise BadInput(
            f"slice: no request between {from_ns / 1e9:g}s and {to_ns / 1e9:g}s; "
            f"the schedule spans 0s to {schedule.span_ns / 1e9:g}s"
        )
    return dataclasses.replace(kept, due_ns=kept.due_ns - from_ns)


def speed(schedule: Schedule, factor: float) -> Schedule:
    """Time compressed by `factor`: every due instant and think time divided, rounded to the ns."""
    check_factor(factor, "speed")
    return dataclasses.replace(
        schedule,
        due_ns=np.rint(schedule.due_ns / factor).astype(np.int64),
        think_ns=np.rint(schedule.think_ns / factor).astype(np.int64),
    )


def thin(schedule: Schedule, share: float, rng: np.random.Generator) -> Schedule:
    """Each session kept whole with probability `share`, independently (so IDC' = 1 + share·(IDC − 1))."""
    if not 0 < share <= 1:
        raise BadInput(f"thin: {share:g} found, a share above 0 and up to 1 wanted")
    _, unit = np.unique(schedule.session, return_inverse=True)
    kept = rng.random(int(unit.max(initial=-1)) + 1) < share
    return select(schedule, kept[unit])


def amplify(
    schedule: Schedule, factor: float, rng: np.random.Generator, jitter_ns: int = DEFAULT_JITTER_NS
) -> Schedule:
    """`factor` times as many sessions: each cloned whole, ⌊factor⌋ times, and once more by chance.

    Copy 0 stays where it was; every other copy is shifted as a whole by a uniform draw from ±jitter_ns,
    within the schedule's span. A factor below 1 thins.
    """
    check_factor(factor, "amplify")
    _, unit = np.unique(schedule.session, return_inverse=True)
    units = int(unit.max(initial=-1)) + 1
    copies = whole_copies(np.full(units, factor), rng)
    return clone(schedule, unit, copies, rng, jitter_ns, 0, schedule.span_ns)


def whole_copies(factors: npt.NDArray[np.float64], rng: np.random.Generator) -> Int64:
    """Integer copies with the given expectations: the floor, plus one with the fraction's probability."""
    floor = np.floor(factors)
    return (floor + (rng.random(len(factors)) < factors - floor)).astype(np.int64)


def clone(
    schedule: Schedule,
    unit: Int64,
    copies: Int64,
    rng: np.random.Generator,
    jitter_ns: int,
    low_ns: int,
    high_ns: int,
) -> Schedule:
    """Each unit (a number per row) copied `copies[unit]` times, 0 removing it; in due order.

    Copies after the first are shifted as a whole by a uniform draw from ±jitter_ns, inside
    [low_ns, high_ns] as far as the unit's own length leaves room, else merely not before 0.
    """
    per_row = copies[unit]
    source = np.repeat(np.arange(len(schedule)), per_row)
    start = np.cumsum(per_row) - per_row
    nth = np.arange(len(source)) - start[source]
    unit_start = np.cumsum(copies) - copies
    shift = _shifts(schedule, unit, copies, rng, jitter_ns, low_ns, high_ns)
    shift_of = np.where(nth > 0, shift[unit_start[unit[source]] + nth], 0) if len(source) else nth
    after = schedule.after[source]
    # A clone follows its own predecessor; one whose predecessor was not cloned along starts on the clock.
    survives = (after >= 0) & (per_row[after] > nth) & ((unit[after] == unit[source]) | (nth == 0))
    next_copy = int(schedule.copy.max(initial=0)) + 1
    next_session = int(schedule.session.max(initial=0)) + 1
    return in_due_order(
        Schedule(
            due_ns=schedule.due_ns[source] + shift_of,
            row=schedule.row[source],
            copy=(schedule.copy[source] + nth * next_copy).astype(np.int32),
            session=_compact(schedule.session[source] + nth * next_session),
            after=np.where(survives, start[after] + nth, -1),
            think_ns=np.where(survives, schedule.think_ns[source], 0),
            phase=schedule.phase[source],
        )
    )


def _shifts(
    schedule: Schedule,
    unit: Int64,
    copies: Int64,
    rng: np.random.Generator,
    jitter_ns: int,
    low_ns: int,
    high_ns: int,
) -> Int64:
    """One shift per (unit, copy), int64[copies.sum()], the unit's copies consecutive."""
    far = np.iinfo(np.int64).max
    first = np.full(len(copies), far, np.int64)
    last = np.full(len(copies), -1, np.int64)
    np.minimum.at(first, unit, schedule.due_ns)
    np.maximum.at(last, unit, schedule.due_ns)
    lowest = np.maximum(-jitter_ns, low_ns - first)
    highest = np.minimum(jitter_ns, high_ns - last)
    tight = highest - lowest < jitter_ns
    lowest = np.where(tight, np.maximum(-jitter_ns, -first), lowest)
    highest = np.where(tight, jitter_ns, highest)
    of = np.repeat(np.arange(len(copies)), copies)
    drawn = lowest[of] + rng.random(len(of)) * (highest - lowest)[of]
    shifts: Int64 = np.rint(drawn).astype(np.int64)
    return shifts


def _compact(numbers: Int64) -> Int64:
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def select(schedule: Schedule, kept: npt.NDArray[np.bool_]) -> Schedule:
    """The rows where `kept`; a turn whose predecessor is gone starts on the clock."""
    new_index = np.cumsum(kept) - 1
    after = schedule.after[kept]
    survives = (after >= 0) & kept[after]
    return Schedule(
        due_ns=schedule.due_ns[kept],
        row=schedule.row[kept],
        copy=schedule.copy[kept],
        session=schedule.session[kept],
        after=np.where(survives, new_index[after], -1),
        think_ns=np.where(survives, schedule.think_ns[kept], 0),
        phase=schedule.phase[kept],
    )


def in_due_order(schedule: Schedule) -> Schedule:
    """The same requests, sorted by due (stable), `after` following along."""
    order = np.argsort(schedule.due_ns, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    after = schedule.after[order]
    return Schedule(
        due_ns=schedule.due_ns[order],
        row=schedule.row[order],
        copy=schedule.copy[order],
        session=schedule.session[order],
        after=np.where(after >= 0, place[after], -1),
        think_ns=schedule.think_ns[order],
        phase=schedule.phase[order],
    )
