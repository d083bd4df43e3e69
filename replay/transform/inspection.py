"""What a trace or a schedule holds, in numbers, as `inspect` shows it: the parts put together.

Instants are judged in `arrival_facts`, sessions, lengths and prefixes in `content_facts`, the clock in
`clock_doubts`; a trace is read in `traffic_columns`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.trace_reader import Trace, open_trace
from replay.transform.arrival_facts import ArrivalFacts, Distribution, arrival_facts
from replay.transform.burst_curve import WINDOWS_S
from replay.transform.clock_doubts import all_doubts, short_warnings
from replay.transform.content_facts import (
    ContentFacts,
    lone_facts,
    prefix_reuse,
    sampling_notes,
    session_facts,
    think_times_s,
)
from replay.transform.even_sample import EvenSample
from replay.transform.prompt_blocks import Rewrite, chains_as_sent, chains_of
from replay.transform.schedule_columns import ScheduleColumns, SentLengths
from replay.transform.schedule_format import Lineage
from replay.transform.traffic_columns import MOST_BLOCKS, TrafficColumns, read_columns

Int64 = npt.NDArray[np.int64]

_MORE_REUSE: Final = 0.1


@dataclasses.dataclass(frozen=True)
class TraceFacts:
    """What `peaktape inspect` says of a trace. Spans in s, sizes in bytes."""

    name: str
    fingerprint: str
    source: str
    upstreams: tuple[str, ...]
    arrivals: ArrivalFacts
    content: ContentFacts
    endpoints: Mapping[str, int]
    models: Mapping[str, int]
    outcomes: Mapping[str, int]
    statuses: Mapping[str, int]
    streams: int
    request_body_bytes: int
    input_tokens: int
    output_tokens: int
    rows_with_usage: int
    counts: Mapping[str, Any]
    sampling: str
    samples: tuple[float, ...]
    choice: Mapping[str, Any]
    redaction: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    began_wall_ns: int | None = None
    """The first arrival in ns since 1970, by the wall clock of the recording; None where it had none."""
    ended_wall_ns: int | None = None
    """The last arrival, likewise."""

    @property
    def production_factor(self) -> float:
        """How many times the recorded sessions production had, by the sample; NaN where parts differ."""
        return 1 / self.samples[0] if len(self.samples) == 1 else math.nan

    @property
    def dispersion(self) -> dict[str, float]:
        """Index of dispersion for counts by window, where at least 10 of those that matter most fit."""
        return dispersion_of(self.arrivals)


@dataclasses.dataclass(frozen=True)
class InspectedSchedule:
    """What `peaktape inspect` says of a schedule. `content` is None where its trace isn't there."""

    name: str
    lineage: Lineage
    arrivals: ArrivalFacts
    phases: Mapping[str, int]
    content: ContentFacts | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def dispersion(self) -> dict[str, float]:
        """As of a trace."""
        return dispersion_of(self.arrivals)


type Facts = TraceFacts | InspectedSchedule


def dispersion_of(arrivals: ArrivalFacts) -> dict[str, float]:
    """Index of dispersion for counts (variance/mean) at the windows of `WINDOWS_S`."""
    return {f"{p.window_s:g}s": p.dispersion for p in arrivals.bursts if p.window_s in WINDOWS_S}


def inspect_trace(trace: Trace, columns: TrafficColumns | None = None) -> TraceFacts:
    """All facts of a trace; `columns` where they have been read already."""
    columns = read_columns(trace) if columns is None else columns
    metadata = trace.metadata
    wall = [metadata.wall_zero_ns + int(trace.arrival_ns[end]) for end in (0, -1)]
    sessions = lone_facts(trace.rows)
    sampled: tuple[str, ...] = ()
    if columns.sessions is not None:
        numbers, arrival_ns, end_ns = columns.sessions.requests()
        sessions = session_facts(numbers, think_times_s(arrival_ns, end_ns, numbers), columns.sessions.one_in)
        sampled = sampling_notes(columns.sessions.one_in)
    return TraceFacts(
        name=trace.name,
        fingerprint=trace.fingerprint,
        source=metadata.source,
        upstreams=metadata.upstreams,
        arrivals=arrival_facts(columns.arrival_ns),
        content=ContentFacts(
            sessions=sessions,
            lengths=_known(columns.lengths),
            prefix=prefix_reuse(columns.chains.values()),
        ),
        endpoints=dict(columns.tally["endpoint"].most_common()),
        models=dict(columns.tally["model"].most_common()),
        outcomes=dict(columns.tally["outcome"].most_common()),
        statuses=dict(sorted(columns.tally["status"].items())),
        streams=columns.streams,
        request_body_bytes=columns.lengths["body_bytes"].sum,
        input_tokens=columns.lengths["input_tokens"].sum,
        output_tokens=columns.lengths["output_tokens"].sum,
        rows_with_usage=columns.rows_with_usage,
        counts=metadata.counts,
        sampling=metadata.sampling,
        samples=metadata.samples,
        choice=metadata.choice,
        redaction=metadata.redaction,
        notes=(*metadata.notes, *sampled),
        warnings=all_doubts(
            columns.arrival_ns, metadata.clock_tick_ns, metadata.recorded_ns, columns.ended_early
        ),
        began_wall_ns=wall[0] if metadata.wall_zero_ns else None,
        ended_wall_ns=wall[1] if metadata.wall_zero_ns else None,
    )


def inspect_schedule(
    name: str,
    schedule: ScheduleColumns,
    lineage: Lineage,
    trace: Trace | None,
    sent: SentLengths | None = None,
    rewrite: Rewrite | None = None,
) -> InspectedSchedule:
    """All facts of a schedule; those of its requests' contents where its trace is given.

    Prefix reuse is that of the prompts as `rewrite` has them sent, None leaving them as they were; lengths,
    in `sent`, are always the recorded ones.
    """
    if not len(schedule.due_ns):
        raise BadInput(f"{name}: a schedule without requests; make it again with `peaktape transform`")
    phases = schedule.phases.tolist()
    notes = list(sampling_notes(schedule.sessions.one_in))
    content = None
    if trace is None:
        notes.append(f"{lineage.trace_path} is not there as it was: lengths and prefixes are not known")
    else:
        content = _scheduled_content(schedule, trace, sent, rewrite)
        if sent is not None and sent.one_in > 1:
            notes.append(f"lengths are those of one request in {sent.one_in}: there are too many to look at")
        if rewrite is not None:
            notes.append("prefix reuse is that of the prompts as rewritten; lengths are the recorded ones")
    return InspectedSchedule(
        name=name,
        lineage=lineage,
        arrivals=arrival_facts(schedule.due_ns),
        phases={phase: count for phase, count in zip(lineage.phases, phases, strict=False) if count},
        content=content,
        notes=tuple(notes),
        warnings=short_warnings(schedule.due_ns),
    )


def trace_of(lineage: Lineage, known: Mapping[str, Trace], keys: Keys | None = None) -> Trace | None:
    """The trace that a schedule refers to: one of `known` (by fingerprint), or where the lineage says; None
    where it is gone or another one."""
    if lineage.trace_fingerprint in known:
        return known[lineage.trace_fingerprint]
    if not Path(lineage.trace_path).exists():
        return None
    try:
        found = open_trace(lineage.trace_path, keys)
    except BadInput:  # no longer a trace: as good as gone
        return None
    return found if found.fingerprint == lineage.trace_fingerprint else None


def reuse_warnings(one: Facts, other: Facts) -> tuple[str, ...]:
    """A doubt where B's prompts begin alike much more often than A's: caches would hit that would miss."""
    shares = [
        facts.content.prefix.share
        for facts in (one, other)
        if facts.content is not None and facts.content.prefix is not None
    ]
    if len(shares) < 2 or shares[1] - shares[0] < _MORE_REUSE:
        return ()
    return (
        f"prefix reuse is {shares[1]:.0%} where it was {shares[0]:.0%}: clones repeat their prompts, and a "
        "prefix cache hits where it would miss; make prompts unique in the replay",
    )


def _scheduled_content(
    schedule: ScheduleColumns, trace: Trace, sent: SentLengths | None, rewrite: Rewrite | None
) -> ContentFacts:
    row = schedule.first.row.tolist()
    if rewrite is None:
        known = chains_of(trace, np.unique(row).tolist(), MOST_BLOCKS)
        chains = [known[number] for number in row if number in known]
    else:
        places = [
            {"copy": int(copy), "session": int(session)}
            for copy, session in zip(schedule.first.copy, schedule.first.session, strict=True)
        ]
        chains = list(chains_as_sent(trace, row, places, rewrite, MOST_BLOCKS))
    numbers, _, _ = schedule.sessions.requests()
    sessions = session_facts(numbers, np.empty(0), schedule.sessions.one_in)
    return ContentFacts(
        sessions=dataclasses.replace(sessions, think_s=schedule.think_ns.distribution(1e9)),
        lengths=_known({} if sent is None else sent.samples),
        prefix=prefix_reuse(chains),
    )


def _known(lengths: Mapping[str, EvenSample]) -> dict[str, Distribution]:
    found = {name: one.distribution() for name, one in lengths.items()}
    return {name: one for name, one in found.items() if one is not None}
