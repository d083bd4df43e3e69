"""One metadata of a trace's many files: what they say of the captures that they come from, put together.

A function of values; reading them is `trace_reader`'s.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from capture.trace_format import TraceMetadata


def merged(files: Sequence[tuple[TraceMetadata, int]]) -> TraceMetadata:
    """One metadata for files, each given as its metadata and its number of rows.

    The earliest zero, the union of upstreams and notes, the sum of counts. Segments of one capture carry
    running totals of that capture, so the largest of each counts; what it recorded and is in none of these
    files is "elsewhere".
    """
    first = min((metadata for metadata, _ in files), key=lambda metadata: metadata.wall_zero_ns)
    if len(files) == 1 and int(first.counts.get("recorded", 0)) <= files[0][1]:
        return first
    captures: dict[tuple[str, int], TraceMetadata] = {}
    rows: Counter[tuple[str, int]] = Counter()
    for metadata, rows_here in files:
        key = (metadata.source, metadata.wall_zero_ns)
        rows[key] += rows_here
        known = captures.get(key)
        if known is None or metadata.counts.get("seen", 0) >= known.counts.get("seen", 0):
            captures[key] = metadata
    return dataclasses.replace(
        first,
        counts=_counts(captures, rows),
        upstreams=tuple(sorted({host for metadata, _ in files for host in metadata.upstreams})),
        choice=_choice(first, captures.values()),
        sampling="; ".join(sorted({metadata.sampling for metadata in captures.values()})),
        recorded_ns=_recorded(captures.values(), first.wall_zero_ns),
        notes=tuple(dict.fromkeys(note for metadata in captures.values() for note in metadata.notes)),
    )


def _choice(first: TraceMetadata, captures: Iterable[TraceMetadata]) -> dict[str, Any]:
    """What the first was chosen by, and the shares of sessions of all, where they differ."""
    shares = sorted({share for metadata in captures for share in metadata.samples})
    return {**first.choice, "sample": shares} if len(shares) > 1 else dict(first.choice)


def _counts(captures: Mapping[Any, TraceMetadata], rows: Counter[Any]) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    not_chosen: Counter[str] = Counter()
    for metadata in captures.values():
        dropped.update(metadata.counts.get("dropped", {}))
        not_chosen.update(metadata.counts.get("not_chosen", {}))
    elsewhere = 0
    for key, metadata in captures.items():
        elsewhere += max(0, int(metadata.counts.get("recorded", 0)) - rows[key])
        elsewhere += int(metadata.counts.get("elsewhere", 0))
    counts: dict[str, Any] = {
        "seen": sum(int(metadata.counts.get("seen", 0)) for metadata in captures.values()),
        "recorded": rows.total(),
        "dropped": dict(dropped),
    }
    if not_chosen:
        counts["not_chosen"] = dict(not_chosen)
    if elsewhere:
        counts["elsewhere"] = elsewhere
    return counts


def _recorded(captures: Iterable[TraceMetadata], zero_ns: int) -> tuple[tuple[int, int | None], ...]:
    """When each of the captures recorded, from the common zero."""
    spans = []
    for metadata in captures:
        shift_ns = metadata.wall_zero_ns - zero_ns
        for start, end in metadata.recorded_ns:
            spans.append((start + shift_ns, None if end is None else end + shift_ns))
    return tuple(sorted(spans, key=lambda span: span[0]))
