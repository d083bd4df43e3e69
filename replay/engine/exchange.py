"""One request on its way: the instants it passes, and the row that leaves the worker. No I/O in here.

Instants are absolute monotonic ns while the request lives; the collector takes the run's zero off. Reads
are kept as they came, in bytes; what they say is parsed later, in the collector's process.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

from replay.engine.requests import Prepared

HUNG_UP = ("aborted", "the client hung up, as it did when it was recorded")
"""Error and text of an exchange that ends where the recorded client was gone."""


def _int64() -> array[int]:
    return array("q")


@dataclasses.dataclass(slots=True, eq=False)
class Exchange:
    """The life of one prepared request, filled in as it goes."""

    prepared: Prepared
    dequeued_ns: int | None = None
    connected_ns: int | None = None
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    last_read_ns: int | None = None
    end_ns: int | None = None
    status: int | None = None
    error: str | None = None
    error_text: str | None = None
    bytes_out: int = 0
    bytes_in: int = 0
    in_flight: int = 0
    connection_reused: bool = False
    content_type: str = ""
    content_encoding: str = ""
    retry_after: str = ""
    date: str = ""
    """Kept beside a Retry-After only, which may be relative to it."""
    body: bytes = b""
    read_ns: array[int] = dataclasses.field(default_factory=_int64)
    read_bytes: array[int] = dataclasses.field(default_factory=_int64)
    """Eight bytes a read, and no object that stays."""
    staged_again: bool = False
    over: bool = False

    def note_read(self, came_ns: int, size_bytes: int) -> int:
        """Note bytes that came; when, and that is never before what they answer, or what came before them.

        (A wall clock that was put forward between the kernel's stamp and the read would make it so.)
        """
        last_ns = self.last_read_ns
        if last_ns is None:
            self.first_byte_ns = came_ns = max(came_ns, self.sent_ns or 0)
        elif came_ns < last_ns:
            came_ns = last_ns
        self.last_read_ns = came_ns
        self.bytes_in += size_bytes
        return came_ns

    def hangs_up_now(self) -> bool:
        """Whether the recorded client was gone after as many reads as have come."""
        after = self.prepared.hang_up_after_reads
        return after is not None and len(self.read_ns) >= after

    def fail(self, error: str, text: str) -> None:
        """Note an error of the run format's vocabulary; the first one stays."""
        if self.error is None:
            self.error, self.error_text = error, text[:200] or None


FINISHED_FIELDS = (
    "index",
    "request_id",
    "copy",
    "session",
    "phase",
    "endpoint",
    "model",
    "stream",
    "due_ns",
    "dequeued_ns",
    "connected_ns",
    "sent_ns",
    "first_byte_ns",
    "end_ns",
    "status",
    "error",
    "error_text",
    "bytes_out",
    "bytes_in",
    "in_flight",
    "connection_reused",
    "content_type",
    "content_encoding",
    "retry_after",
    "date",
    "body",
    "read_ns",
    "read_bytes",
)


def finished(exchange: Exchange) -> tuple[Any, ...]:
    """The values named by `FINISHED_FIELDS`, in that order: small and quick to pickle."""
    prepared = exchange.prepared
    return (
        prepared.number,
        prepared.request_id,
        prepared.copy,
        prepared.session,
        prepared.phase,
        prepared.endpoint,
        prepared.model,
        prepared.stream,
        prepared.due_ns,
        exchange.dequeued_ns,
        exchange.connected_ns,
        exchange.sent_ns,
        exchange.first_byte_ns,
        exchange.end_ns,
        exchange.status,
        exchange.error,
        exchange.error_text,
        exchange.bytes_out,
        exchange.bytes_in,
        exchange.in_flight,
        exchange.connection_reused,
        exchange.content_type,
        exchange.content_encoding,
        exchange.retry_after,
        exchange.date,
        exchange.body,
        exchange.read_ns,
        exchange.read_bytes,
    )
