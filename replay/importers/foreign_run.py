"""A run as another tool tells it, and the making of a run file's table and metadata of it. Pure.

Where its rows come from is each tool's module; where they go is `foreign_file`.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from capture.__about__ import VERSION
from capture.failures import BadInput
from replay.engine.run_format import RUN_SCHEMA, UNSTATED, RunMetadata

LONGEST_NS: Final = 31 * 86_400 * 10**9
UNSTATED_TARGET: Final = "an unstated target"
_INSTANTS: Final = (
    *("due_ns", "dequeued_ns", "connected_ns", "sent_ns", "first_byte_ns", "first_token_ns", "end_ns"),
)


Ints = npt.NDArray[np.int64]
NO_CHUNKS: Final = np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class ForeignRequest:
    """One request; None for what the tool does not say. Instants are ns on the tool's own clock.

    `name` is what the same request is called in another run: its place in the data, or a digest of its
    content. `session` is what the tool calls its conversation, if it is of one. `chunk_ns` are instants of
    content-bearing events in order, int64; empty where the tool keeps none.
    """

    name: str
    sent_ns: int
    endpoint: str
    stream: bool
    due_ns: int | None = None
    dequeued_ns: int | None = None
    connected_ns: int | None = None
    first_byte_ns: int | None = None
    first_token_ns: int | None = None
    chunk_ns: Ints = dataclasses.field(default_factory=lambda: NO_CHUNKS)
    end_ns: int | None = None
    session: str | None = None
    model: str | None = None
    status: int | None = None
    error: str | None = None
    error_text: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    connection_reused: bool | None = None


def instants_of(first_ns: int, gaps_ns: npt.NDArray[np.float64]) -> Ints:
    """The first instant and those that follow it by the gaps: int64, one more than the gaps."""
    return np.concatenate([[first_ns], first_ns + np.rint(np.cumsum(gaps_ns)).astype(np.int64)])


@dataclasses.dataclass(frozen=True)
class ForeignRun:
    """What a tool's result says: who made it, of which load, and every request.

    `plan` says in words what load was asked for, as far as it is stated: runs of one plan and tool compare.
    `wall_zero_ns` is the Unix instant that the clock's zero stands for. `left_out` counts by cause what can't
    be a row.
    """

    made_by: str
    requests: Sequence[ForeignRequest]
    wall_zero_ns: int = 0
    version: str = ""
    label: str = ""
    target: str = ""
    plan: tuple[str, ...] = ()
    mode: str = UNSTATED
    partial: bool = False
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


def without_due(told: ForeignRun) -> ForeignRun:
    """The run without the due instants that its tool states, which is said in its notes."""
    requests = [dataclasses.replace(one, due_ns=None) for one in told.requests]
    return dataclasses.replace(
        told, requests=requests, notes=(*told.notes, "due times were left out as asked")
    )


def run_of(
    told: ForeignRun,
    *,
    source: Path,
    label: str,
    target: str | None = None,
    bounds: Mapping[str, float] | None = None,
) -> tuple[pa.Table, RunMetadata]:
    """The table (`RUN_SCHEMA`) and the metadata of a run; rows by due instant, or else by sent.

    Of requests of one name the n-th to be sent is copy n − 1. `source` is the file, `bounds` are those of
    validity that the user states. Raises `BadInput` for instants too far apart to be of one run.
    """
    rows = sorted(told.requests, key=lambda one: one.sent_ns if one.due_ns is None else one.due_ns)
    zero_ns = min((min(one.sent_ns, one.due_ns or one.sent_ns) for one in rows), default=0)
    last_ns = max((max(one.end_ns or one.sent_ns, one.sent_ns) for one in rows), default=0)
    if last_ns - zero_ns > LONGEST_NS:
        raise BadInput(
            f"{source}: instants {(last_ns - zero_ns) / 86_400e9:,.0f} days apart found, a run of at most "
            "31 days wanted: a clock was set, or the file is damaged"
        )
    version = f", version {told.version}" if told.version else ""
    metadata = RunMetadata(
        label=label,
        target=target or told.target or UNSTATED_TARGET,
        zero_monotonic_ns=0,
        zero_wall_ns=zero_ns + told.wall_zero_ns,
        trace_fingerprint="",
        schedule_fingerprint=_fingerprint(told),
        steps=told.plan,
        scheduled=len(rows),
        mode=told.mode,
        sender=told.made_by,
        sender_reason=f"its result {source.name} was imported{version}",
        partial=told.partial,
        bounds=bounds or {},
        made_by=told.made_by,
        notes=told.notes,
        tool_version=VERSION,
    )
    return _table(rows, zero_ns), metadata


def digest_of(asked: str) -> str:
    """What a request is called by what was asked: 16 hex digits of the SHA-256, the model's name left out.

    `asked` is JSON, or any text: two builds are often served under two names, and asked the same.
    """
    try:
        content = _nameless(json.loads(asked))
    except (ValueError, RecursionError):
        content = asked
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _nameless(asked: Any) -> Any:
    if not isinstance(asked, dict):
        return asked
    found = {name: value for name, value in asked.items() if name != "model"}
    return found | ({"body": _nameless(found["body"])} if "body" in found else {})


def _fingerprint(told: ForeignRun) -> str:
    """SHA-256 of the tool and of the load that it was asked for: there is no schedule to take it of."""
    return hashlib.sha256(json.dumps([told.made_by, *told.plan]).encode()).hexdigest()


def _table(rows: Sequence[ForeignRequest], zero_ns: int) -> pa.Table:
    count = len(rows)
    columns: dict[str, Any] = {
        name: [None if (at := getattr(one, name)) is None else at - zero_ns for one in rows]
        for name in _INSTANTS
    }
    columns |= {
        name: [getattr(one, name) for one in rows]
        for name in ForeignRequest.__dataclass_fields__
        if name in RUN_SCHEMA.names and name not in (*_INSTANTS, "session", "chunk_ns")
    }
    columns |= {
        "request_id": [one.name for one in rows],
        "copy": _copies(rows),
        "session": _sessions(rows),
        "phase": ["base"] * count,
        **_chunks(rows, zero_ns),
    }
    absent = pa.nulls(count)
    arrays = [
        found if isinstance(found, pa.ListArray) else pa.array(found, type=field.type)
        for field in RUN_SCHEMA
        for found in [columns.get(field.name, absent)]
    ]
    return pa.Table.from_arrays(arrays, schema=RUN_SCHEMA)


def _chunks(rows: Sequence[ForeignRequest], zero_ns: int) -> dict[str, pa.ListArray]:
    """The columns of chunks: instants, sizes that nobody stated, and one content-bearing event each."""
    ends = np.cumsum([0, *(len(one.chunk_ns) for one in rows)], dtype=np.int32)
    instants = np.concatenate([np.empty(0, np.int64), *(one.chunk_ns for one in rows)]) - zero_ns
    columns = {
        "chunk_ns": pa.array(instants, pa.int64()),
        "chunk_bytes": pa.nulls(len(instants), pa.int32()),
        "chunk_tokens": pa.array(np.ones(len(instants), np.int32)),
    }
    return {name: pa.ListArray.from_arrays(ends, values) for name, values in columns.items()}


def _copies(rows: Sequence[ForeignRequest]) -> list[int]:
    """How often the name of each row came before it."""
    seen: collections.Counter[str] = collections.Counter()
    copies = []
    for one in rows:
        copies.append(seen[one.name])
        seen[one.name] += 1
    return copies


def _sessions(rows: Sequence[ForeignRequest]) -> list[int]:
    """A number per conversation; a request of none is one of its own."""
    numbers: dict[str, int] = {}
    return [at if one.session is None else numbers.setdefault(one.session, at) for at, one in enumerate(rows)]
