"""What a capture counts, and the line that shows it.

Every request seen ends as recorded, as dropped with a cause, or as not chosen with a reason; until then it is
in flight or waiting for its segment: seen = recorded + dropped + not chosen + in flight + waiting. Nothing
here prints or touches a disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class UploadCounts:
    """How the sending of segments to a store stands.

    `waiting_*` are closed segments that the store doesn't have, the oldest for `oldest_s`. `failing_s` is for
    how long every try has failed, `trouble` why. `expired` counts segments that were deleted there to keep
    bounds, by bound, and their bytes. `silent_s` is for how long the sending process has said nothing.
    """

    sent_segments: int = 0
    sent_bytes: int = 0
    waiting_segments: int = 0
    waiting_bytes: int = 0
    oldest_s: float = 0.0
    failures: int = 0
    failing_s: float = 0.0
    trouble: str = ""
    expired: Mapping[str, int] = dataclasses.field(default_factory=dict)
    silent_s: float = 0.0

    def line(self) -> str:
        """Some words for a person."""
        waits = f"{self.waiting_segments:,} to be sent ({readable_bytes(self.waiting_bytes)})"
        parts = [f"sent {self.sent_segments:,}", waits if self.waiting_segments else "", self.trouble]
        return " · ".join(filter(None, parts))


@dataclasses.dataclass(frozen=True)
class Counts:
    """The state of a capture at one moment; `dropped` by cause, `not_chosen` by reason, which is no loss,
    `paused` whether recording is off, `trouble` what is wrong right now.

    `journaled` rows are safe on disk, `recorded` ones in a segment. `spool_bytes` wait in memory for the
    recorder, `journal_bytes` on disk for a segment, the oldest of them for `journal_lag_s`. `restarts` is
    how often the recorder's process died, `silent_s` for how long it has said nothing. `expired` counts
    segments that were deleted to keep bounds, by bound, and their bytes. `uploads` is None without a store.
    """

    seen: int = 0
    recorded: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    not_chosen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    in_flight: int = 0
    segment: int = 0
    disk_bytes: int = 0
    journaled: int = 0
    spool_bytes: int = 0
    journal_bytes: int = 0
    journal_lag_s: float = 0.0
    restarts: int = 0
    paused: bool = False
    silent_s: float = 0.0
    trouble: str = ""
    expired: Mapping[str, int] = dataclasses.field(default_factory=dict)
    uploads: UploadCounts | None = None

    @property
    def waiting(self) -> int:
        """Requests that are over and not yet safe on disk."""
        settled = self.recorded + sum(self.dropped.values()) + sum(self.not_chosen.values())
        return max(0, self.seen - settled - self.in_flight)

    def totals(self) -> dict[str, Any]:
        """The counts as they stand in a trace's metadata."""
        return totals(self.seen, self.recorded, self.dropped, self.not_chosen)

    def line(self) -> str:
        """One line for a person."""
        parts = [
            *(["paused"] if self.paused else []),
            f"seen {self.seen:,}",
            f"recorded {self.recorded:,}",
            *([f"not chosen {_by_cause(self.not_chosen)}"] if self.not_chosen else []),
            f"dropped {_by_cause(self.dropped)}",
            *([f"waiting {self.waiting:,}"] if self.waiting else []),
            f"in flight {self.in_flight:,}",
            f"segment {self.segment}",
            f"disk {readable_bytes(self.disk_bytes)}",
            *([self.uploads.line()] if self.uploads is not None else []),
        ]
        return " · ".join(parts) + (f" · {self.trouble}" if self.trouble else "")


def totals(
    seen: int, recorded: int, dropped: Mapping[str, int], not_chosen: Mapping[str, int]
) -> dict[str, Any]:
    """The counts of a trace's metadata; of requests not chosen only where there are such."""
    counts: dict[str, Any] = {"seen": seen, "recorded": recorded, "dropped": dict(dropped)}
    return {**counts, "not_chosen": dict(not_chosen)} if any(not_chosen.values()) else counts


def _by_cause(counts: Mapping[str, int]) -> str:
    causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(counts.items()))
    return f"{sum(counts.values()):,}" + (f" ({causes})" if causes else "")


def counted(count: int, noun: str) -> str:
    """Such as "1 row", "1,200 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def readable_bytes(count: float) -> str:
    """`count` bytes in the largest unit that keeps it at one or above: "3.2 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
