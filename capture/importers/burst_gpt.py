"""The BurstGPT traces: a CSV of seconds, models and token counts → a trace with synthetic prompts.

Source: github.com/HPMLL/BurstGPT. Columns Timestamp (seconds from some midnight; whole ones in the first
releases), Model, Request tokens, Response tokens, Total tokens, Log Type; the third release adds Session ID
and Elapsed time (seconds until the answer was whole). Requests that failed have 0 response tokens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from capture.failures import BadInput
from capture.importers.captured_rows import Watch, unwatched
from capture.importers.clock import Rounded, chance_of, decided, unrounded, written_tick_ns
from capture.importers.csv_columns import read_columns, token_count
from capture.importers.pending_trace import PendingTrace
from capture.importers.sorted_spool import SortedSpool
from capture.importers.source_file import SourceFile
from capture.importers.synthetic_prompt import RULE, SyntheticPrompts
from capture.importers.synthetic_request import UNSEEN, ChatRequests
from capture.sessions import SessionFinder
from capture.trace_format import SERVER_ERROR

COLUMNS: Final = ("Timestamp", "Model", "Request tokens", "Response tokens")
OPTIONAL: Final = ("Session ID", "Elapsed time")
FAILED: Final = "no response tokens: BurstGPT counts it as failed"
_FINEST_NS: Final = 1000
_LATEST_S: Final = 7_258_118_400


class Burst(NamedTuple):
    """One line of the CSV; instants and spans in ns."""

    stamp_ns: int
    model: str
    input_tokens: int
    output_tokens: int
    session: str
    elapsed_ns: int | None

    def later(self, by_ns: int) -> Burst:
        """The same request, `by_ns` later."""
        return self._replace(stamp_ns=self.stamp_ns + by_ns)


def open_burst_gpt(
    path: Path,
    prompts: SyntheticPrompts,
    requests: ChatRequests,
    *,
    model: str | None = None,
    rounded: Rounded = Rounded.KEEP,
    folder: Path | None = None,
    watch: Watch = unwatched,
) -> PendingTrace:
    """Begin to import the CSV at `path`; reads it once, sorting through a spool in `folder`.

    `model` stands in for the recorded ones. Raises `BadInput` with line, column, found and wanted.
    """
    sorted_lines, tick_ns = SortedSpool(folder), 10**9
    failed = 0
    for burst in read_bursts(SourceFile(path), watch):
        tick_ns = min(tick_ns, written_tick_ns([burst.stamp_ns], _FINEST_NS))
        failed += not burst.output_tokens
        sorted_lines.add(burst.stamp_ns, tuple(burst), 400)
    if not sorted_lines.count:
        raise BadInput(f"{path}: a header without rows; one line per request wanted")
    clock = decided(tick_ns, rounded, path, finest_ns=_FINEST_NS)
    lines: Iterator[Burst] = map(Burst._make, sorted_lines)
    if clock.spread:
        lines = unrounded(
            lines, tick_ns, chance_of(prompts.seed), at=lambda burst: burst.stamp_ns, later=Burst.later
        )
    told = [f"{failed:,} requests have {FAILED}; they are kept as server_error"] if failed else []
    return PendingTrace(
        place=path,
        source="import:burstgpt",
        wall_zero_ns=0,
        rows=_rows(lines, prompts, requests, model),
        fraction_read=sorted_lines.fraction,
        clock_tick_ns=clock.tick_ns,
        notes=(RULE, UNSEEN, "the source has no wall clock; the zero is 1970-01-01", *told, *clock.notes),
    )


def read_bursts(source: SourceFile, watch: Watch = unwatched) -> Iterator[Burst]:
    """The CSV's lines one by one, checked. Raises `BadInput`."""
    for line, cells in read_columns(source, COLUMNS, "a BurstGPT trace", optional=OPTIONAL):
        if line % 256 == 0:
            watch(source.fraction_read())
        stamp, model, asked, answered, session, elapsed = cells
        place = f"{source.path}:{line}: column"
        yield Burst(
            _seconds_ns(stamp, f"{place} Timestamp"),
            model,
            token_count(asked.removesuffix(".0"), f"{place} Request tokens"),
            token_count(answered.removesuffix(".0"), f"{place} Response tokens"),
            session,
            _seconds_ns(elapsed, f"{place} Elapsed time") if elapsed else None,
        )


def _seconds_ns(text: str, place: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < _LATEST_S:
        raise BadInput(f"{place}: {text[:40]!r} found, seconds ≥ 0 wanted")
    return round(seconds * 1e6) * 1000


def _rows(
    bursts: Iterator[Burst], prompts: SyntheticPrompts, requests: ChatRequests, model: str | None
) -> Iterator[dict[str, Any]]:
    sessions, zero_ns = SessionFinder(), None
    for number, burst in enumerate(bursts, start=1):
        zero_ns = burst.stamp_ns if zero_ns is None else zero_ns
        named = sessions.by_header([("session-id", burst.session)])
        asked = dataclasses.replace(requests, model=model or burst.model or requests.model)
        row = asked.row(
            f"burstgpt-{number}",
            burst.stamp_ns - zero_ns,
            prompts.of_row(number, burst.input_tokens),
            input_tokens=burst.input_tokens,
            output_tokens=burst.output_tokens,
        )
        if named is not None:
            row["session_id"], row["turn"] = named
        if burst.elapsed_ns is not None:
            row["end_ns"] = row["arrival_ns"] + burst.elapsed_ns
        if not burst.output_tokens:
            row |= {"outcome": SERVER_ERROR, "error": FAILED}
        yield row
