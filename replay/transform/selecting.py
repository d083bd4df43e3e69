"""Which requests a step is meant for: by endpoint, model, tenant, length. Read from a trace when asked for.

Light columns only, and the request's headers where a tenant is named; the rest of a trace is not touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from capture.failures import BadInput
from capture.quantities import quoted
from capture.trace_reader import Trace
from capture.trace_stream import numbered_batches, untold
from replay.transform.settings import COUNT, WORD, Kind, Settings, setting

Mask = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]


def _endpoint(text: str, place: str) -> str:
    found = WORD.parse(text, place)
    if not found.startswith("/"):
        raise BadInput(f"{place}: {quoted(text)} found, a path such as /v1/chat/completions or /v1/* wanted")
    return str(found)


def _tenant(text: str, place: str) -> str:
    header, colon, value = text.partition(":")
    if not colon or not header.strip() or not value.strip():
        raise BadInput(f"{place}: {quoted(text)} found, HEADER:VALUE such as x-tenant:acme wanted")
    return f"{header.strip().lower()}:{value.strip()}"


ENDPOINT: Final = Kind(_endpoint, str)
TENANT: Final = Kind(_tenant, str)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(Settings):
    """The requests that fulfil all that is given; all of them where nothing is.

    `endpoint` is a path without query, or "/branch/*"; `tenant` "header:value"; tokens are what answers
    stated of the prompt (a request without a statement is not among them), bytes the request body's size.
    """

    endpoint: str | None = setting("endpoint", ENDPOINT, None, last=True)
    model: str | None = setting("model", WORD, None, last=True)
    tenant: str | None = setting("tenant", TENANT, None, last=True)
    min_input_tokens: int | None = setting("min_input_tokens", COUNT, None, last=True)
    max_input_tokens: int | None = setting("max_input_tokens", COUNT, None, last=True)
    min_body_bytes: int | None = setting("min_body_bytes", COUNT, None, last=True)
    max_body_bytes: int | None = setting("max_body_bytes", COUNT, None, last=True)

    @property
    def all(self) -> bool:
        """Whether every request is among them."""
        return self.selection == Selection()

    @property
    def selection(self) -> Selection:
        """Only what selects, of a step that has further settings."""
        fields = dataclasses.fields(Selection)
        return Selection(**{field.name: getattr(self, field.name) for field in fields})


def selected(trace: Trace, selection: Selection, on_rows: Callable[[int], None] = untold) -> Mask:
    """Which rows of the trace fulfil `selection`, bool[rows]; raises `BadInput` when none does.

    `on_rows` is told how many rows more were read.
    """
    found = np.ones(trace.rows, np.bool_)
    names = _columns(trace, selection)
    if names:
        for first, batch in numbered_batches(trace, names, on_rows):
            found[first : first + batch.num_rows] = _fulfil(batch, selection)
    if not found.any():
        way_out = (
            "is the value written so, and did the capture's policy keep the header's?"
            if selection.tenant is not None
            else "look at it with `peaktape inspect`"
        )
        raise BadInput(f"{trace.name}: no request in it has {selection}; {way_out}")
    return found


def tenants_of(trace: Trace, header: str, on_rows: Callable[[int], None] = untold) -> Int32:
    """A number per value of the request header `header`, int32[rows]; −1 where a request has none.

    Raises `BadInput` when no request has it. `on_rows` as above.
    """
    numbers: dict[str, int] = {}
    found = np.full(trace.rows, -1, np.int32)
    for first, batch in numbered_batches(trace, ["request_headers"], on_rows):
        rows, values = _header_values(batch, header)
        # The first of several headers of one name counts: written last, it stays.
        found[first + rows[::-1]] = [numbers.setdefault(value, len(numbers)) for value in values][::-1]
    if not numbers:
        raise BadInput(
            f"{trace.name}: no request in it has the header {header!r}; was it kept by the capture's policy?"
        )
    return found


def _columns(trace: Trace, selection: Selection) -> list[str]:
    names = [] if selection.endpoint is None else ["path"]
    names += [] if selection.model is None else ["model"]
    names += [] if selection.tenant is None else ["request_headers"]
    if selection.min_input_tokens is not None or selection.max_input_tokens is not None:
        names.append("input_tokens")
    if selection.min_body_bytes is not None or selection.max_body_bytes is not None:
        names.append("request_bytes")
        if trace.may_lack("request_bytes"):
            names.append("request_body")
    return names


def _fulfil(batch: pa.RecordBatch, selection: Selection) -> Mask:
    conditions: list[pa.Array] = []
    if selection.endpoint is not None:
        paths = pc.replace_substring_regex(batch.column("path"), r"\?.*", "")
        branch = selection.endpoint.removesuffix("*")
        conditions.append(
            pc.starts_with(paths, branch) if branch != selection.endpoint else pc.equal(paths, branch)
        )
    if selection.model is not None:
        conditions.append(pc.equal(batch.column("model"), selection.model))
    if selection.min_input_tokens is not None:
        conditions.append(pc.greater_equal(batch.column("input_tokens"), selection.min_input_tokens))
    if selection.max_input_tokens is not None:
        conditions.append(pc.less_equal(batch.column("input_tokens"), selection.max_input_tokens))
    if selection.min_body_bytes is not None:
        conditions.append(pc.greater_equal(_body_bytes(batch), selection.min_body_bytes))
    if selection.max_body_bytes is not None:
        conditions.append(pc.less_equal(_body_bytes(batch), selection.max_body_bytes))
    found = np.ones(batch.num_rows, np.bool_)
    for condition in conditions:
        found &= np.asarray(pc.fill_null(condition, False).to_numpy(zero_copy_only=False), np.bool_)
    if selection.tenant is not None:
        header, _, value = selection.tenant.partition(":")
        rows, values = _header_values(batch, header)
        mine = np.zeros(batch.num_rows, np.bool_)
        mine[rows[np.array([other == value for other in values], np.bool_)]] = True
        found &= mine
    return found


def _body_bytes(batch: pa.RecordBatch) -> pa.Array:
    counted = batch.column("request_bytes")
    if "request_body" not in batch.schema.names:
        return counted
    return pc.coalesce(counted, pc.binary_length(batch.column("request_body")).cast(pa.int64()))


def _header_values(batch: pa.RecordBatch, header: str) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """The rows that have the header, int64, and its values there."""
    headers = batch.column("request_headers")
    fields = headers.flatten()
    mine = pc.equal(pc.utf8_lower(fields.field("name")), header.lower())
    rows = pc.list_parent_indices(headers).filter(mine).to_numpy(zero_copy_only=False)
    return rows.astype(np.int64), fields.field("value").filter(mine).to_pylist()
