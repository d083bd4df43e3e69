"""Arrival stamps: when the first byte of each request reached the demo server, on the monotonic clock.

They are the ground truth for a load generator's lateness: CLOCK_MONOTONIC is shared by all processes of a
host, so a stamp minus the run's zero compares with the run's due instants. Answering is not here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from capture.failures import BadInput

REQUEST_HEADER: Final = "x-peaktape-request"
"""The header by which a replay names a request: "request_id/copy"."""

ARRIVALS_SCHEMA: Final = pa.schema(
    [
        # CLOCK_MONOTONIC when the read that held the request's first byte was handed over.
        pa.field("monotonic_ns", pa.int64(), nullable=False),
        pa.field("request", pa.string()),
        pa.field("path", pa.string(), nullable=False),
    ]
)


class StampingHandler(RequestHandler):
    """aiohttp's server protocol, which also notes when a request's first byte came, before parsing it.

    Whoever reads a request's body calls `next_request` after it; a client that pipelines gets the stamp of
    the read that its request shared.
    """

    __slots__ = ("first_byte_ns",)

    first_byte_ns: int

    def data_received(self, data: bytes) -> None:
        """Stamp, then parse."""
        if not getattr(self, "first_byte_ns", 0):
            self.first_byte_ns = time.monotonic_ns()
        super().data_received(data)

    def next_request(self) -> None:
        """The body is read: the next byte begins another request."""
        self.first_byte_ns = 0


class StampingServer(web.Server):
    """aiohttp's low-level server with `StampingHandler` as its protocol."""

    def __call__(self) -> RequestHandler:
        """A protocol for one new connection."""
        return StampingHandler(self, loop=self._loop, **self._kwargs)


class ArrivalLog:
    """Arrivals in memory (some 100 bytes each), written as Parquet at the end."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, str | None, str]] = []

    def note(self, monotonic_ns: int, headers: Mapping[str, str], path: str) -> None:
        """Remember one request."""
        self._rows.append((monotonic_ns, headers.get(REQUEST_HEADER), path))

    def write(self, path: Path) -> None:
        """Write the arrivals to `path` with `ARRIVALS_SCHEMA`, ascending, replacing what is there."""
        from capture.trace_writer import replace_when_whole  # a server writes at its end, if at all

        self._rows.sort(key=lambda row: row[0])
        columns = [
            pa.array([row[i] for row in self._rows], type=field.type)
            for i, field in enumerate(ARRIVALS_SCHEMA)
        ]
        with replace_when_whole(path, overwrite=True) as temporary:
            pq.write_table(pa.Table.from_arrays(columns, schema=ARRIVALS_SCHEMA), temporary)


def read_arrivals(path: Path) -> pa.Table:
    """The arrivals that a server wrote when it stopped, by `ARRIVALS_SCHEMA`; raises `BadInput`."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{path}: not a readable arrival log ({error}); stop the server first") from error
    if not table.schema.equals(ARRIVALS_SCHEMA):
        raise BadInput(f"{path}: not an arrival log; make one with `peaktape demo-server --arrivals`")
    return table
