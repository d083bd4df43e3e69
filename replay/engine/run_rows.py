"""Rows of a run, a batch at a time, column by column: what workers reported, and what nobody did. Pure.

Thousands of rows come in a second, on a machine that paces at the same time: one Python object per cell and
not one more. Where batches go is the `run_writer`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from replay.engine.exchange import FINISHED_FIELDS
from replay.engine.responses import Reading, read_response
from replay.engine.retry_after import retry_after_s
from replay.engine.run_format import DROP, KEEP, RUN_SCHEMA
from replay.transform.schedule_format import PHASES

_INSTANTS: Final = ("dequeued_ns", "connected_ns", "sent_ns", "first_byte_ns", "end_ns")
_BODY: Final = FINISHED_FIELDS.index("body")
_AS_REPORTED: Final = tuple(
    name for name in RUN_SCHEMA.names if name in FINISHED_FIELDS and name not in (*_INSTANTS, "phase", "body")
)

BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 32 << 20
"""With so many bytes of bodies, a batch is full: memory is bounded by it."""
BATCH_AGE_S: Final = 1.0

type Values = tuple[Any, ...]


class Gathering:
    """What workers reported, until it is worth a batch: each batch costs as much as some thirty rows."""

    def __init__(self, now_s: float) -> None:
        self._rows: dict[int, list[Values]] = {}
        self._count = self._body_bytes = 0
        self._began_s = now_s

    def put(self, worker: int, rows: Sequence[Values]) -> None:
        """Take what a worker reported (tuples of `FINISHED_FIELDS`)."""
        self._rows.setdefault(worker, []).extend(rows)
        self._count += len(rows)
        self._body_bytes += sum(len(values[_BODY]) for values in rows)

    def is_due(self, now_s: float) -> bool:
        """Whether `take` should be called: enough rows, enough bytes of bodies, or enough time."""
        full = self._count >= BATCH_ROWS or self._body_bytes >= BATCH_BYTES
        return full or (self._count > 0 and now_s - self._began_s >= BATCH_AGE_S)

    def take(self, now_s: float) -> dict[int, list[Values]]:
        """All rows, by worker; what comes later is gathered anew."""
        rows, self._rows, self._count, self._body_bytes = self._rows, {}, 0, 0
        self._began_s = now_s
        return rows


def batch_of_finished(
    worker: int,
    rows: Sequence[Values],
    zero_ns: int,
    bodies: str = DROP,
    phases: Sequence[str] = PHASES,
) -> pa.RecordBatch:
    """The run rows (`RUN_SCHEMA`) of what a worker reported (tuples of `FINISHED_FIELDS`, at least one).

    Instants become offsets from the zero. `bodies` is one of `BODIES`; of an answer that broke off, the body
    is what had come by then. `phases` are the names that phases are an index into.
    """
    found: dict[str, Values] = dict(zip(FINISHED_FIELDS, zip(*rows, strict=True), strict=True))
    read_ns, read_bytes = _arrays(found["read_ns"]), _arrays(found["read_bytes"])
    sizes = [one.tolist() for one in read_bytes]
    readings = list(
        map(read_response, found["body"], sizes, found["content_type"], found["content_encoding"])
    )
    answers = [reading.answer for reading in readings]
    columns: dict[str, Any] = {name: found[name] for name in _AS_REPORTED}
    columns |= {name: _since(found[name], zero_ns) for name in _INSTANTS}
    columns |= dict(zip(("error", "error_text"), _errors(found, readings), strict=True))
    columns |= {
        "phase": [phases[phase] for phase in found["phase"]],
        "first_token_ns": [
            None if reading.first_token_read is None else int(at_ns[reading.first_token_read]) - zero_ns
            for reading, at_ns in zip(readings, read_ns, strict=True)
        ],
        "chunk_ns": _lists(read_ns, np.int64, zero_ns),
        "chunk_bytes": _lists(read_bytes, np.int32),
        "chunk_tokens": _lists(_arrays([reading.tokens_per_read for reading in readings]), np.int32),
        "input_tokens": [answer.input_tokens for answer in answers],
        "output_tokens": [answer.output_tokens for answer in answers],
        "finish_reason": [answer.finish_reason for answer in answers],
        "retry_after_s": [
            retry_after_s(value, date) if value else None
            for value, date in zip(found["retry_after"], found["date"], strict=True)
        ],
        "worker": np.full(len(rows), worker, np.int32),
        **_bodies(found, bodies),
    }
    return _batch(columns)


def batch_of_unsent(facts: Sequence[Mapping[str, Any]], errors: Sequence[str]) -> pa.RecordBatch:
    """The rows of scheduled requests that no worker reported; `facts` are their columns up to `due_ns`."""
    length = len(facts)
    columns: dict[str, Any] = {
        name: [fact.get(name) for fact in facts]
        for name in RUN_SCHEMA.names[: RUN_SCHEMA.get_field_index("due_ns") + 1]
    }
    columns |= dict.fromkeys(("chunk_ns", "chunk_bytes", "chunk_tokens"), [[]] * length)
    columns |= dict.fromkeys(("bytes_out", "bytes_in", "in_flight"), [0] * length)
    columns |= {"error": errors, "worker": [-1] * length, "connection_reused": [False] * length}
    absent = pa.nulls(length)
    return _batch({name: columns.get(name, absent) for name in RUN_SCHEMA.names})


def _batch(columns: Mapping[str, Any]) -> pa.RecordBatch:
    arrays = []
    for field in RUN_SCHEMA:
        values = columns[field.name]
        if isinstance(values, pa.Array):
            arrays.append(values if values.type == field.type else values.cast(field.type))
        else:
            arrays.append(pa.array(values, type=field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=RUN_SCHEMA)


def _since(stamps_ns: Values, zero_ns: int) -> pa.Array:
    return pc.subtract(pa.array(stamps_ns, pa.int64()), pa.scalar(zero_ns, pa.int64()))


def _arrays(values: Sequence[Any]) -> list[np.ndarray]:
    """Integers as int64; of an exchange, they come as the bytes of an array."""
    return [
        np.frombuffer(one, np.int64) if isinstance(one, bytes) else np.asarray(one, np.int64)
        for one in values
    ]


def _lists(arrays: Sequence[np.ndarray], kind: type[np.integer[Any]], zero: int = 0) -> pa.Array:
    """A list column of integers, less `zero`."""
    ends = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    flat = np.concatenate([np.zeros(0, np.int64), *arrays]) - zero
    return pa.ListArray.from_arrays(ends, flat.astype(kind, copy=False))


def _errors(found: Mapping[str, Values], readings: Sequence[Reading]) -> tuple[list[Any], list[Any]]:
    """Errors and their texts, with what events inside a whole stream say of a failure."""
    errors, texts = list(found["error"]), list(found["error_text"])
    for at, reading in enumerate(readings):
        said = reading.answer.error
        if said is not None and errors[at] is None and (found["status"][at] or 0) < 400:
            errors[at], texts[at] = "stream_error", said
    return errors, texts


def _bodies(found: Mapping[str, Values], bodies: str) -> dict[str, Any]:
    answered = [
        body if status is not None else None
        for body, status in zip(found["body"], found["status"], strict=True)
    ]
    absent = pa.nulls(len(answered))
    return {
        "body_sha256": absent
        if bodies == DROP
        else [None if body is None else hashlib.sha256(body).digest() for body in answered],
        "body": answered if bodies == KEEP else absent,
    }
