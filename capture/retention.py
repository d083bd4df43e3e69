"""How much of a trace is kept while a capture runs: the oldest whole segments go first.

`outdated` decides, as a function of what is there; `FolderRetention` does it to a folder. For a store it is
done by what sends segments there (`uploads`).
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from capture.counts import readable_bytes
from capture.journal_folder import SEGMENT_FILE, journal_of

BY_SIZE: Final = "max_size"
BY_AGE: Final = "max_age"
BYTES: Final = "bytes"
_EVERY_S: Final = 2.0

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Retention:
    """The bounds; None is none. `max_bytes` counts whole segments, `max_age_s` from when one was written, in
    a store from when it got there."""

    max_bytes: int | None = None
    max_age_s: float | None = None

    def __bool__(self) -> bool:
        return self.max_bytes is not None or self.max_age_s is not None


@dataclasses.dataclass(frozen=True)
class Held:
    """A segment that is there; `written_s` is since 1970."""

    name: str
    size_bytes: int
    written_s: float


def outdated(held: Iterable[Held], retention: Retention, now_s: float) -> Iterator[tuple[Held, str]]:
    """Which segments are to go at `now_s` (since 1970), oldest first, each with the bound that wants it.

    Age takes all that are older. Size takes the oldest until the others fit, but never the newest one.
    """
    left = sorted(held, key=lambda segment: (segment.written_s, segment.name))
    if retention.max_age_s is not None:
        while left and now_s - left[0].written_s > retention.max_age_s:
            yield left.pop(0), BY_AGE
    if retention.max_bytes is not None:
        total_bytes = sum(segment.size_bytes for segment in left)
        while len(left) > 1 and total_bytes > retention.max_bytes:
            total_bytes -= left[0].size_bytes
            yield left.pop(0), BY_SIZE


def notes_of(expired: Mapping[str, int]) -> tuple[str, ...]:
    """What a trace says of the segments that were deleted while it was recorded; nothing where none were."""
    bounds = {BY_SIZE: "--max-size", BY_AGE: "--max-age"}
    why = [f"{expired[bound]:,} by {flag}" for bound, flag in bounds.items() if expired.get(bound)]
    if not why:
        return ()
    size = readable_bytes(expired.get(BYTES, 0))
    return (f"older segments were deleted while this was recorded: {', '.join(why)}, {size}",)


class FolderRetention:
    """Keeps the segments in a folder within bounds; only whole segments of captures are ever touched."""

    def __init__(self, folder: Path, retention: Retention) -> None:
        self._folder = folder
        self._retention = retention
        self._due_s = 0.0
        self._known: dict[str, Held] = {}

    def turn(self, *, at_once: bool = False) -> Counter[str]:
        """Delete what is outdated, if it is time to look; the segments that went by bound, and bytes."""
        gone: Counter[str] = Counter()
        if not self._retention or (time.monotonic() < self._due_s and not at_once):
            return gone
        self._due_s = time.monotonic() + _EVERY_S
        for segment, bound in outdated(self._held(), self._retention, time.time()):
            try:
                (self._folder / segment.name).unlink()
            except OSError as error:  # tried again
                logger.warning("peaktape: %s can't be deleted: %s", segment.name, error.strerror)
                break
            gone.update({bound: 1, BYTES: segment.size_bytes})
        return gone

    def _held(self) -> list[Held]:
        """The segments that are done: one whose journal is still there would be made again.

        Each is asked for its size and age once: of small segments there may be many.
        """
        found: dict[str, Held] = {}
        try:
            names = set(os.listdir(self._folder))
            for name in filter(SEGMENT_FILE.fullmatch, names):
                path = self._folder / name
                if name in self._known:
                    found[name] = self._known[name]
                elif journal_of(path).name not in names:
                    status = path.stat()
                    found[name] = Held(name, status.st_size, status.st_mtime)
        except OSError as error:  # looked at again
            logger.warning("peaktape: %s can't be listed: %s", self._folder, error.strerror)
        self._known = found
        return list(found.values())
