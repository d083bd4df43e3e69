"""From closed exchanges to segments on disk: a bounded queue, and one writer thread off the event loop.

The event loop only appends (`opened`, `closed`); it never waits. Semantics, redaction, Arrow and Parquet
happen in the thread, in batches small enough not to hold the interpreter for long. What can't be kept is
dropped and counted by cause; recording goes on as soon as it can. Files are in `segments`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from capture.__about__ import VERSION
from capture.counts import Counts
from capture.exchange import Exchange
from capture.failures import where_it_failed
from capture.redaction import RedactionPolicy, redact
from capture.segments import SegmentFolder, drop_cause
from capture.semantics import fill_semantics
from capture.sessions import SessionFinder
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of

BATCH_ROWS: Final = 200
BATCH_BYTES: Final = 2 << 20
_POLL_S: Final = 0.1
_RETRY_S: Final = 1.0

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RecorderOptions:
    """How much is held, when a segment is closed, and what of a response is kept."""

    segment_bytes: int = 64 << 20
    segment_s: float = 10.0
    queue_rows: int = 50_000
    queue_bytes: int = 256 << 20
    response_bodies: bool = True
    redaction: RedactionPolicy = dataclasses.field(default_factory=RedactionPolicy)


class Recorder:
    """Records closed exchanges into rolling segments under `folder`.

    `opened`, `closed` and `drop` are called by the event loop; `counts` by anyone; `stop` once, at the end.
    """

    def __init__(
        self, folder: Path, options: RecorderOptions, source: str, upstreams: tuple[str, ...] = ()
    ) -> None:
        self.zero_ns = time.monotonic_ns()
        self._wall_zero_ns = time.time_ns()
        self._options = options
        self._source = source
        self._upstreams = set(upstreams)
        self._segments = SegmentFolder(folder)
        self._sessions = SessionFinder()
        self._queue: deque[Exchange] = deque()
        self._put_bytes = self._taken_bytes = 0  # each written by one thread alone
        self._seen = self._closed = self._recorded = 0
        self._dropped: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._drop_lock = threading.Lock()
        self._trouble = ""
        self._written_totals: dict[str, Any] | None = None
        self._segment_began_s = self._retry_at_s = 0.0
        self._empty_too = True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peaktape-recorder", daemon=True)

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def opened(self) -> None:
        """A request was seen."""
        self._seen += 1

    def closed(self, exchange: Exchange) -> None:
        """Take a closed exchange, or drop it when the queue is full."""
        self._closed += 1
        if (
            len(self._queue) >= self._options.queue_rows
            or self._put_bytes - self._taken_bytes >= self._options.queue_bytes
        ):
            self._drop("queue_full", 1)
            return
        self._put_bytes += exchange.held_bytes
        self._queue.append(exchange)

    def lost(self, cause: str) -> None:
        """A request that was seen can't be recorded."""
        self._closed += 1
        self._drop(cause, 1)

    def counts(self) -> Counts:
        """What has been counted up to now."""
        return Counts(
            seen=self._seen,
            recorded=self._recorded,
            dropped=dict(self._dropped),
            in_flight=self._seen - self._closed,
            segment=self._segments.number,
            disk_bytes=self._segments.disk_bytes,
            trouble=self._trouble,
        )

    def metadata(self, about_to_be_recorded: int = 0) -> TraceMetadata:
        """The trace's metadata as it stands now, or once that many more rows are on disk."""
        counts = self.counts()
        counts = dataclasses.replace(counts, recorded=counts.recorded + about_to_be_recorded)
        return TraceMetadata(
            wall_zero_ns=self._wall_zero_ns,
            source=self._source,
            upstreams=tuple(sorted(self._upstreams)),
            redaction={**self._options.redaction.describe(), "left_out": dict(self._left_out)},
            counts=counts.totals(),
            tool_version=VERSION,
        )

    def stop(self, *, empty_too: bool = True) -> None:
        """Write everything that was taken, and end the thread.

        A capture that saw nothing leaves one segment without rows, unless `empty_too` is false.
        """
        self._empty_too = empty_too
        self._stopping.set()
        self._thread.join()

    def _drop(self, cause: str, rows: int) -> None:
        with self._drop_lock:
            self._dropped[cause] += rows

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_S):
            self._guarded(self._drain)
            self._guarded(self._roll)
        self._guarded(self._drain)
        self._guarded(self._close_last)

    def _guarded(self, step: Callable[[], None]) -> None:
        """The thread outlives whatever goes wrong in one step; the loss shows in the counts."""
        try:
            step()
        except Exception as error:
            said = "peaktape: the recorder failed in %s and goes on (%s)"
            logger.error(said, step.__name__, where_it_failed(error))

    def _drain(self) -> None:
        while self._queue:
            rows: list[dict[str, Any]] = []
            size_bytes = 0
            while self._queue and len(rows) < BATCH_ROWS and size_bytes < BATCH_BYTES:
                exchange = self._queue.popleft()
                self._taken_bytes += exchange.held_bytes
                size_bytes += exchange.held_bytes
                row = self._row_of(exchange)
                if row is not None:
                    rows.append(row)
            self._add(rows)
            self._roll()

    def _row_of(self, exchange: Exchange) -> dict[str, Any] | None:
        """The row as it may be written, or None when its credentials could not be taken out."""
        row = exchange.row()
        try:
            fill_semantics(row, self._sessions)
        except Exception as error:  # what a request means is worth less than the request
            said = "peaktape: %s is recorded without its meaning (%s)"
            logger.warning(said, exchange.request_id, where_it_failed(error))
        try:
            redact(row, self._options.redaction, self._left_out)
        except Exception as error:  # a traceback could show what must not be shown
            said = "peaktape: %s can't be redacted and is dropped (%s)"
            logger.warning(said, exchange.request_id, where_it_failed(error))
            self._drop("not_redacted", 1)
            return None
        if not self._options.response_bodies:
            row["response_body"] = None
        self._upstreams.add(row["host"])
        return row

    def _add(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        if self._segments.held_bytes >= 4 * self._options.segment_bytes:
            self._drop(self._trouble.split(":")[0] or "disk_error", len(rows))
            return
        if not self._segments.rows:
            self._segment_began_s = time.monotonic()
        try:
            self._segments.add(batch_of(rows))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            if len(rows) == 1:
                logger.warning("peaktape: %s is dropped: %s", rows[0]["request_id"], error)
                self._drop("unwritable", 1)
                return
            for row in rows:
                self._add([row])

    def _roll(self) -> None:
        """Close the segment when it is large or old enough, not more often than the disk can be retried."""
        now_s = time.monotonic()
        due = (
            self._segments.held_bytes >= self._options.segment_bytes
            or now_s - self._segment_began_s >= self._options.segment_s
        )
        if self._segments.rows and due and now_s >= self._retry_at_s:
            self._close_segment()

    def _close_segment(self) -> bool:
        metadata = self.metadata(self._segments.rows)
        try:
            rows = self._segments.close_segment(metadata)
        except OSError as error:
            self._retry_at_s = time.monotonic() + _RETRY_S
            self._trouble = f"{drop_cause(error)}: {error.strerror or error}"
            return False
        self._trouble = ""
        self._recorded += rows
        self._written_totals = dict(metadata.counts)
        return True

    def _close_last(self) -> None:
        """The last segment; one without rows when counts changed since the one before, or there is none."""
        stale = self.counts().totals() != self._written_totals and (self._seen > 0 or self._empty_too)
        if (self._segments.rows or stale) and not self._close_segment():
            self._drop(self._trouble.split(":")[0], self._segments.discard())
            self._close_segment()  # a segment without rows may still fit, and says what was lost
