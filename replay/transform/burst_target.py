"""Are the bursts those of f times as many users? The dispersion that an amplification should have, and has.

The law is in `burst_curve`: f times as many users under the same rate curve have the index of dispersion
C + f·(IDC − C), C being what the requests of one session have in common, 1 where each session has one. Time
that was compressed by s first has IDC(s·w) over windows of w.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.arrival_facts import WINDOWS_S, ArrivalFacts, BurstPoint, burst_point
from replay.transform.burst_curve import session_dispersion
from replay.transform.schedule_format import Lineage

Int64 = npt.NDArray[np.int64]

TOLERANCE: Final = 0.10
_FAR: Final = 2.73
"""Standard errors that chance exceeds in one of eight windows, about as many as are judged, once in 20 times
(Bonferroni)."""
_STEADY: Final = 0.7
_SHAPED: Final = (
    "shapes lie over a part of the time and make bursts of their own: no burst curve to hold it against; "
    "inspect a schedule without them"
)
_SPEED: Final = re.compile(r"^speed ([\d.e+-]+)$")
_SLICE: Final = re.compile(r"^slice (?:\S+ \()?([\d.e+-]+)s\.\.([\d.e+-]+)s\)?$")


@dataclasses.dataclass(frozen=True)
class TargetPoint:
    """One window: the source's dispersion, the target, and what was made.

    `error` is the standard error of found − target as a share of the target, were counts independent: what is
    added to C is f times as unsure as the source.
    """

    window_s: float
    source: float
    target: float
    found: float
    error: float

    @property
    def off(self) -> float:
        """How far from the target, as a share of it."""
        return self.found / self.target - 1

    @property
    def holds(self) -> bool:
        """Within `TOLERANCE` of the target."""
        return abs(self.off) <= TOLERANCE

    @property
    def misses(self) -> bool:
        """Beyond `TOLERANCE`, and further off than chance puts it in one of the windows."""
        return not self.holds and abs(self.off) > _FAR * self.error


@dataclasses.dataclass(frozen=True)
class BurstTarget:
    """What B should be by A: `factor` times the users of A's part `slice_s`, compressed by `speed`."""

    factor: float
    speed: float
    slice_s: tuple[float, float] | None
    points: tuple[TargetPoint, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Change:
    """What a lineage did to time before it changed the number of users."""

    speed: float = 1.0
    slice_s: tuple[float, float] | None = None
    shaped: bool = False


def change_of(lineage: Lineage) -> Change:
    """The slice and the speed in a lineage's steps, and whether shapes were laid over a part of the time."""
    change = Change()
    for step in lineage.steps:
        if found := _SPEED.match(step):
            change = dataclasses.replace(change, speed=change.speed * float(found[1]))
        elif (found := _SLICE.match(step)) and change.slice_s is None:
            change = dataclasses.replace(change, slice_s=(float(found[1]), float(found[2])))
    return change


@dataclasses.dataclass(frozen=True)
class SourceCurve:
    """What of the source is compared: requests, span in ns, and by window of B a point of A and C(w)."""

    rows: int
    span_ns: int
    points: Mapping[float, tuple[BurstPoint, float]]


def source_curve(at_ns: Int64, sessions: tuple[Int64, Int64] | None, change: Change) -> SourceCurve:
    """The curve of the part that was changed: `at_ns` int64 ns, ascending.

    `sessions` holds instants and numbers of sessions (int64[k] each) of all requests, or of those of many
    whole sessions; None where each request is a session of its own, of which C is 1.
    """
    if change.slice_s is not None:
        edges_ns = [round(edge * 1e9) for edge in change.slice_s]
        at_ns = at_ns[slice(*np.searchsorted(at_ns, edges_ns))]
        if sessions is not None:
            part = slice(*np.searchsorted(sessions[0], edges_ns))
            sessions = sessions[0][part], sessions[1][part]
    points = {}
    for window in WINDOWS_S if len(at_ns) and not change.shaped else ():
        point = burst_point(at_ns, window * change.speed)
        own = 1.0 if sessions is None else session_dispersion(*sessions, window * change.speed)
        if point is not None and own is not None:
            points[window] = point, own
    return SourceCurve(len(at_ns), int(np.ptp(at_ns)) if len(at_ns) else 0, points)


def burst_target(
    source: SourceCurve,
    made: ArrivalFacts,
    change: Change,
    factor: float | None = None,
    *,
    equal_span: bool = True,
) -> BurstTarget:
    """The target curve by `source`, which was changed by `change`, and the curve of `made`, window by window.

    `factor` None: as many times the source's requests as there are; as many times its rate where the two do
    not cover the same time (`equal_span` False).
    """
    if change.shaped:
        return BurstTarget(factor or 1.0, change.speed, change.slice_s, (), (_SHAPED,))
    if not source.rows or not made.rows:
        return BurstTarget(factor or 1.0, change.speed, change.slice_s, (), ("nothing to compare",))
    if factor is None:
        factor = made.rows / source.rows
        if not equal_span:
            factor *= max(source.span_ns, 1.0) / max(made.span_s * 1e9, 1.0) / change.speed
    points, notes = [], []
    for found in made.bursts:
        window = found.window_s
        if window not in source.points:
            continue
        before, own = source.points[window]
        if before.dispersion < _STEADY * own:
            notes.append(
                f"{window:g} s: the source is steadier than chance (index of dispersion "
                f"{before.dispersion:.2f}); {factor:.3g} times as many users can't be"
            )
            continue
        target = own + factor * max(before.dispersion - own, 0.0)
        error = math.hypot(found.error * found.dispersion, factor * before.error * before.dispersion) / target
        points.append(TargetPoint(window, before.dispersion, target, found.dispersion, error))
    if not points:
        notes.append("too short to compare: no window fits ten times into both")
    return BurstTarget(factor, change.speed, change.slice_s, tuple(points), tuple(notes))
