"""Replacing pieces of a text, and where a place of the old text lies in the new one."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Edit:
    """text[start:end] becomes `new`."""

    start: int
    end: int
    new: str


def spliced(text: str, edits: Iterable[Edit]) -> str:
    """`text` with the edits made; of edits that overlap, the outer (else the first) one counts."""
    parts: list[str] = []
    at = 0
    for edit in settled(edits):
        parts += (text[at : edit.start], edit.new)
        at = edit.end
    return "".join((*parts, text[at:]))


def settled(edits: Iterable[Edit]) -> list[Edit]:
    """The edits in ascending order without those that lie in, or overlap, one before them."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda one: (one.start, -one.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def moved(borders: Sequence[int], edits: Sequence[Edit], sizes: Sequence[int]) -> list[int]:
    """Where `borders` (ascending byte offsets in the old text) lie after settled edits given in bytes.

    `sizes[i]` is the size in bytes of what edit i puts in. A border within an edit moves to the same place
    in what replaced it, as far as that reaches.
    """
    starts = [edit.start for edit in edits]
    shifts = [0]
    for edit, size in zip(edits, sizes, strict=True):
        shifts.append(shifts[-1] + size - (edit.end - edit.start))
    places = []
    for border in borders:
        i = bisect.bisect_left(starts, border)
        if i and border < edits[i - 1].end:
            inside = min(border - edits[i - 1].start, sizes[i - 1])
            places.append(edits[i - 1].start + shifts[i - 1] + inside)
        else:
            places.append(border + shifts[i])
    return places
