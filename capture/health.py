"""Whether a capture is well: alive for who would start it again, healthy for who should look at it.

A proxy that loses rows still serves its clients, so it is alive: to start it again would break them. Pure but
for the pulse, which the event loop beats.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Final

from capture.counts import Counts, UploadCounts, readable_bytes

LOSS_S: Final = 60.0
"""For so long after a loss a capture is not healthy."""
SILENT_S: Final = 10.0
STORE_AWAY_S: Final = 120.0
"""For so long a store may fail without anybody being called: until then the outbox is what it is for."""
_BEAT_S: Final = 1.0
_NO_BEAT_S: Final = 30.0


class Pulse:
    """Beats once a second while the event loop turns; `begin` is to be called in it."""

    def __init__(self) -> None:
        self._at_s = time.monotonic()

    def begin(self) -> None:
        """Beat from now on."""
        self._at_s = time.monotonic()
        asyncio.get_running_loop().call_later(_BEAT_S, self.begin)

    @property
    def stopped(self) -> str:
        """What is wrong with it, or ""."""
        silent_s = time.monotonic() - self._at_s
        return f"the event loop has not turned for {silent_s:.0f} s" if silent_s > _NO_BEAT_S else ""


@dataclasses.dataclass
class HealthWatch:
    """Tells from the counts, each time it is asked, what is wrong; a loss counts for `LOSS_S`."""

    _lost: int = 0
    _lost_at_s: float = float("-inf")

    def complaints(self, counts: Counts, now_s: float) -> list[str]:
        """What is wrong at `now_s` (any monotonic clock), nothing when all that is chosen gets recorded."""
        lost = sum(counts.dropped.values())
        if lost > self._lost:
            self._lost, self._lost_at_s = lost, now_s
        said = [f"the recorder is in trouble: {counts.trouble}"] if counts.trouble else []
        if now_s - self._lost_at_s < LOSS_S:
            causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(counts.dropped.items()))
            said.append(f"requests are lost: {causes}")
        said += _complaints_of(counts.uploads) if counts.uploads is not None else []
        if counts.silent_s > SILENT_S:
            said.append(f"the recorder's process has said nothing for {counts.silent_s:.0f} s")
        return said


def _complaints_of(uploads: UploadCounts) -> list[str]:
    said = []
    if uploads.failing_s > STORE_AWAY_S:
        waits = f"{uploads.waiting_segments:,} segments, {readable_bytes(uploads.waiting_bytes)}, wait"
        said.append(f"the store has taken nothing for {uploads.failing_s:.0f} s ({uploads.trouble}); {waits}")
    if uploads.silent_s > SILENT_S:
        said.append(f"the process that sends segments has said nothing for {uploads.silent_s:.0f} s")
    return said
