"""What a capture counts, and the line that shows it.

Every request seen ends as recorded or as dropped with a cause; until then it is in flight or waiting for
its segment: seen = recorded + dropped + in flight + waiting. Nothing here prints or touches a disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Counts:
    """The state of a capture at one moment; `dropped` by cause, `trouble` what is wrong right now.

    `journaled` rows are safe on disk, `recorded` ones in a segment. `spool_bytes` wait in memory for the
    recorder, `journal_bytes` on disk for a segment, the oldest of them for `journal_lag_s`. `restarts` is
    how often the recorder's process died.
    """

    seen: int = 0
    recorded: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    in_flight: int = 0
    segment: int = 0
    disk_bytes: int = 0
    journaled: int = 0
    spool_bytes: int = 0
    journal_bytes: int = 0
    journal_lag_s: float = 0.0
    restarts: int = 0
    trouble: str = ""

    @property
    def waiting(self) -> int:
        """Requests that are over and not yet safe on disk."""
        return max(0, self.seen - self.recorded - sum(self.dropped.values()) - self.in_flight)

    def totals(self) -> dict[str, Any]:
        """The counts as they stand in a trace's metadata."""
        return {"seen": self.seen, "recorded": self.recorded, "dropped": dict(self.dropped)}

    def line(self) -> str:
        """One line for a person."""
        lost = sum(self.dropped.values())
        causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(self.dropped.items()))
        parts = [
            f"seen {self.seen:,}",
            f"recorded {self.recorded:,}",
            f"dropped {lost:,}" + (f" ({causes})" if causes else ""),
            *([f"waiting {self.waiting:,}"] if self.waiting else []),
            f"in flight {self.in_flight:,}",
            f"segment {self.segment}",
            f"disk {readable_bytes(self.disk_bytes)}",
        ]
        return " · ".join(parts) + (f" · {self.trouble}" if self.trouble else "")


def readable_bytes(count: float) -> str:
    """`count` bytes in the largest unit that keeps it at one or above: "3.2 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
