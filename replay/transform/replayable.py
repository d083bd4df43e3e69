"""Which recorded requests can be sent again, over HTTP/1.1 as the senders speak, and why the others can't.

Pure functions of a trace's columns; large ones are read only where the small ones leave it open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from capture.trace_format import COMPLETE
from capture.trace_reader import Trace

UPGRADED: Final = "WebSocket and other upgraded connections"
GRPC: Final = "gRPC calls"
NOT_WHOLE: Final = "requests whose body never arrived whole"

Mask = npt.NDArray[np.bool_]


class Choosing:
    """Chooses, batch by batch, the rows of a trace that can be sent again, and counts the others by why.

    A replay sends HTTP/1.1, one request per row: an upgraded connection or a gRPC call would be garbage.
    A request whose body never came whole, or was not kept, has nothing to send again. `columns` are those
    that `choose` needs: those of which the files' statistics leave open whether all rows fit.
    """

    def __init__(self, trace: Trace) -> None:
        self.left_out: dict[str, int] = {}
        names: list[str] = []
        if trace.may_differ("outcome", COMPLETE):
            names += ["outcome", "request_body_ns"]
        if trace.may_hold("status", 101):
            names.append("status")
        if trace.may_lack("request_body"):
            names += ["outcome", "request_body_ns", "request_bytes", "request_body", "request_headers"]
        if trace.may_reach("http_version", "HTTP/2"):
            names += ["http_version", "request_headers"]
        self.columns = tuple(dict.fromkeys(names))

    def choose(self, batch: pa.RecordBatch) -> Mask:
        """Which rows of the trace's next batch can be sent again, bool[n]; counts the others."""
        fits = np.ones(batch.num_rows, np.bool_)
        if not self.columns:
            return fits
        for why, mask in ((UPGRADED, _upgraded(batch)), (GRPC, _grpc(batch)), (NOT_WHOLE, ~_whole(batch))):
            count = int((fits & mask).sum())
            if count:
                self.left_out[why] = self.left_out.get(why, 0) + count
            fits &= ~mask
        return fits


def told(left_out: Mapping[str, int]) -> str:
    """What was left out, for a person: "left out 3 gRPC calls, 1 …"."""
    return "left out " + ", ".join(f"{count} {why}" for why, count in left_out.items())


def _mask(column: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)


def _upgraded(batch: pa.RecordBatch) -> Mask:
    if "status" not in batch.schema.names:
        return np.zeros(batch.num_rows, np.bool_)
    return _mask(pc.equal(batch.column("status"), 101))


def _grpc(batch: pa.RecordBatch) -> Mask:
    """By the content type; only HTTP/2 carries gRPC (gRPC-Web and Connect are plain requests)."""
    found = np.zeros(batch.num_rows, np.bool_)
    if "http_version" not in batch.schema.names:
        return found
    http2 = _mask(pc.starts_with(batch.column("http_version"), "HTTP/2"))
    if not http2.any():
        return found
    headers = batch.column("request_headers")
    fields = headers.flatten()
    kinds = pc.and_(
        pc.match_like(fields.field("name"), "content-type", ignore_case=True),
        pc.match_substring_regex(fields.field("value"), r"^application/grpc($|[+; ])", ignore_case=True),
    )
    rows = pc.list_parent_indices(headers).to_numpy(zero_copy_only=False)
    found[rows[_mask(kinds)]] = True
    return found & http2


def _whole(batch: pa.RecordBatch) -> Mask:
    """Whether each request is all there to be sent again: its end was seen, and its body, if any, is kept."""
    if "outcome" not in batch.schema.names:
        return np.ones(batch.num_rows, np.bool_)
    ended = pc.or_(pc.equal(batch.column("outcome"), COMPLETE), pc.is_valid(batch.column("request_body_ns")))
    if "request_body" not in batch.schema.names:
        return _mask(ended)
    counted = _mask(pc.is_valid(batch.column("request_bytes")))
    bodiless = _mask(pc.is_null(batch.column("request_body")))
    nothing = _mask(pc.equal(batch.column("request_bytes"), 0))
    nothing &= _mask(pc.is_valid(batch.column("request_body_ns")))
    missing = bodiless & counted & ~nothing
    for row in np.flatnonzero(bodiless & ~counted):
        headers: Any = {
            pair["name"].lower(): pair["value"] for pair in batch.column("request_headers")[row].as_py()
        }
        missing[row] = headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers
    return _mask(ended) & ~missing
