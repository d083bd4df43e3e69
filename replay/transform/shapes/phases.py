"""Phases: names for stretches of a replay's time, which they partition. A request's phase is that of its due.

Where stretches overlap, one that a person named precedes a shape's own, a later shape an earlier one, and all
precede recoveries; where there is none it is `base`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput

Int64 = npt.NDArray[np.int64]

BASE: Final = "base"
RECOVERY: Final = 0
OWN: Final = 1
MOST_PHASES: Final = 127
"""A schedule stores a phase in an int8."""


@dataclasses.dataclass(frozen=True)
class PhaseLabel:
    """A phase's name for [start, end) in ns; `rank` is `RECOVERY` or `OWN`, `named` that a person did so."""

    name: str
    start_ns: int
    end_ns: int
    rank: int = OWN
    named: bool = False


@dataclasses.dataclass(frozen=True)
class Phases:
    """A partition of time: names[k] for every piece's number k; pieces begin at `starts_ns` (ascending)."""

    names: tuple[str, ...]
    starts_ns: Int64
    numbers: npt.NDArray[np.int8]

    def at(self, due_ns: Int64) -> npt.NDArray[np.int8]:
        """The phase of each instant as an index into `names`, int8."""
        found: npt.NDArray[np.int8] = self.numbers[np.searchsorted(self.starts_ns, due_ns, side="right") - 1]
        return found


def partition(labels: Iterable[PhaseLabel]) -> Phases:
    """The partition that labels, in the order of their shapes, make of time from −∞ on.

    Raises `BadInput` when two stretches that a person named overlap, since what is due in both can't be told
    apart, or when there are more names than `MOST_PHASES`.
    """
    found = [label for label in labels if label.start_ns < label.end_ns]
    _check_named([label for label in found if label.named])
    ordered = sorted(found, key=lambda label: (label.named, label.rank))  # stable: later shapes come later
    borders = sorted({edge for label in found for edge in (label.start_ns, label.end_ns)})
    starts = np.array([np.iinfo(np.int64).min, *borders], np.int64)
    covering = np.full(len(starts), -1, np.int64)
    for at, label in enumerate(ordered):
        first, end = np.searchsorted(starts, (label.start_ns, label.end_ns))
        covering[first:end] = at
    of_piece = [BASE if at < 0 else ordered[at].name for at in covering.tolist()]
    names = tuple(dict.fromkeys((BASE, *of_piece)))  # in the order of time; what is never seen has no name
    if len(names) > MOST_PHASES:
        raise BadInput(f"phases: {len(names)} names found, at most {MOST_PHASES} wanted")
    numbers = {name: number for number, name in enumerate(names)}
    return Phases(names, starts, np.array([numbers[name] for name in of_piece], np.int8))


def _check_named(labels: Sequence[PhaseLabel]) -> None:
    ordered = sorted(labels, key=lambda label: label.start_ns)
    for before, after in itertools.pairwise(ordered):
        if before.name != after.name and after.start_ns < before.end_ns:
            raise BadInput(
                f"phases: {_told(before)} and {_told(after)} overlap; what is due in both can't be told "
                "apart: move one, or leave one of the names out"
            )


def _told(label: PhaseLabel) -> str:
    return f"{label.name} ({label.start_ns / 1e9:g}s..{label.end_ns / 1e9:g}s)"
