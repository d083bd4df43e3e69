"""Are the bursts those of f times as many users? The dispersion that an amplification should have, and has.

The law is in `burst_curve`: f times as many users under the same rate curve have the index of dispersion
C + f·(IDC − C), C being what the requests of one session have in common, 1 where each session has one. Time
that was compressed by s first has IDC(s·w) over windows of w.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.arrival_facts import WINDOWS_S, BurstPoint, burst_point
from replay.transform.burst_curve import session_dispersion
from replay.transform.schedule_format import Lineage

Int64 = npt.NDArray[np.int64]

TOLERANCE: Final = 0.10
_STEADY: Final = 0.7
_SHAPED: Final = (
    "shapes lie over a part of the time and make bursts of their own: no burst curve to hold it against; "
    "inspect a schedule without them"
)
_SPEED: Final = re.compile(r"^speed ([\d.e+-]+)$")
_SLICE: Final = re.compile(r"^slice ([\d.e+-]+)s\.\.([\d.e+-]+)s$")


@dataclasses.dataclass(frozen=True)
class TargetPoint:
    """One window: the source's dispersion, the target, and what was made. `error` is the standard error of
    `found` as a share of it, were its counts independent."""

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
        """Beyond `TOLERANCE`, and and the ratio further from 1 than two of its standard errors."""
        far = abs(math.log(self.found / self.target)) if self.found > 0 else math.inf
        return not self.holds and far > 2 * self.error


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


def burst_target(
    source: tuple[Int64, Int64],
    made_ns: Int64,
    change: Change,
    factor: float | None = None,
    *,
    equal_span: bool = True,
) -> BurstTarget:
    """The target curve by `source` and the curve of `made_ns` (int64 ns, ascending), window by window.

    `source` holds instants (int64 ns, ascending) and for each a number of its session. `factor` None: as many
    times the source's requests as there are; as many times its rate where the two do not cover the same time
    (`equal_span` False).
    """
    source_ns, session = source
    if change.slice_s is not None:
        part = slice(*np.searchsorted(source_ns, [round(edge * 1e9) for edge in change.slice_s]))
        source_ns, session = source_ns[part], session[part]
    if change.shaped:
        return BurstTarget(factor or 1.0, change.speed, change.slice_s, (), (_SHAPED,))
    if not len(source_ns) or not len(made_ns):
        return BurstTarget(factor or 1.0, change.speed, change.slice_s, (), ("nothing to compare",))
    if factor is None:
        factor = len(made_ns) / len(source_ns)
        if not equal_span:
            spans = [max(float(np.ptp(at)), 1.0) for at in (source_ns, made_ns)]
            factor *= spans[0] / spans[1] / change.speed
    points, notes = [], []
    for window in WINDOWS_S:
        made, before = burst_point(made_ns, window), burst_point(source_ns, window * change.speed)
        own = session_dispersion(source_ns, session, window * change.speed)
        if made is None or before is None or own is None:
            continue
        if before.dispersion < _STEADY * own:
            notes.append(
                f"{window:g} s: the source is steadier than chance (index of dispersion "
                f"{before.dispersion:.2f}); {factor:.3g} times as many users can't be"
            )
            continue
        target = own + factor * max(before.dispersion - own, 0.0)
        points.append(TargetPoint(window, before.dispersion, target, made.dispersion, _error(made, before)))
    if not points:
        notes.append("too short to compare: no window fits ten times into both")
    return BurstTarget(factor, change.speed, change.slice_s, tuple(points), tuple(notes))


def _error(made: BurstPoint, source: BurstPoint) -> float:
    return float(np.hypot(made.error, source.error))
