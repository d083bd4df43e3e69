"""The live line of a replay: how far it is and how it goes, once in a while on stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import numpy as np
from rich.console import Console

from replay.engine.supervisor import Progress
from replay.report.figures import format_ns

PLAIN_EVERY_S: Final = 10.0


def live_line(label: str, progress: Progress) -> str:
    """How far and how well a replay goes, as one line: sent, in flight, lateness, TTFT, errors, ETA."""
    left_s = max(0.0, (progress.span_ns - progress.elapsed_ns) / 1e9)
    if progress.sent == progress.scheduled:
        rest = f"waiting for {progress.scheduled - progress.finished} answers"
    else:
        rest = f"ETA {math.ceil(left_s)} s"
    parts = [
        f"{label}  {progress.sent:,} sent / {progress.due:,} due of {progress.scheduled:,}",
        f"{progress.in_flight} in flight",
        f"lateness p99 {_quantile(progress.lateness_ns, 0.99)}",
        f"TTFT p50 {_quantile(progress.ttft_ns, 0.5)} p99 {_quantile(progress.ttft_ns, 0.99)}",
        f"{progress.errors} errors",
        rest,
    ]
    return " · ".join(parts)


def _quantile(values_ns: Sequence[int], quantile: float) -> str:
    return format_ns(float(np.quantile(values_ns, quantile)) if len(values_ns) else math.nan)


class LiveLine:
    """Rewrites one line on a terminal; on a pipe prints a line every `PLAIN_EVERY_S` seconds."""

    def __init__(self, console: Console, label: str) -> None:
        self._console = console
        self._label = label
        self._plain_after_s = time.monotonic() + PLAIN_EVERY_S

    def show(self, progress: Progress) -> None:
        """Show how far the replay is."""
        if self._console.is_terminal:
            self._console.file.write(f"\r\x1b[K{live_line(self._label, progress)[: self._console.width - 1]}")
            self._console.file.flush()
        elif time.monotonic() >= self._plain_after_s:
            self._plain_after_s += PLAIN_EVERY_S
            self._console.print(live_line(self._label, progress), markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._console.file.write("\r\x1b[K")
            self._console.file.flush()
