"""The feed: a worker's share of the schedule, read from the trace ahead of time on a thread of its own.

Reading inline would stall the pacer for up to a tenth of a second; a thread with a short queue does not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from capture.failures import PeaktapeError
from capture.trace_reader import Trace, open_trace
from replay.engine.requests import Prepared, Rewrite, prepare
from replay.engine.target import Target
from replay.transform.schedule_format import Schedule, read_schedule

WINDOW_ROWS: Final = 128
QUEUE_WINDOWS: Final = 4
PLACE: Final = ("due_ns", "copy", "session", "phase")
COLUMNS: Final = (
    *("request_id", "method", "path", "request_headers", "request_body", "model", "stream"),
    *("outcome", "request_body_ns", "chunk_ns", "end_ns"),
)


def share_of(schedule: Schedule, worker: int, workers: int) -> np.ndarray:
    """Row indices (int64, ascending) of a worker's share: whole sessions, dealt out by their number."""
    return np.flatnonzero(schedule.session % workers == worker)


def prepared_windows(
    trace: Trace, schedule: Schedule, share: np.ndarray, rewrite: Rewrite, target: Target | None = None
) -> Iterator[list[Prepared]]:
    """The share's requests in due order, `WINDOW_ROWS` at a time; serialised for `target`, if it is given."""
    for start in range(0, len(share), WINDOW_ROWS):
        index = share[start : start + WINDOW_ROWS]
        places = {name: getattr(schedule, name)[index].tolist() for name in PLACE}
        places["index"] = index.tolist()
        rows = rows_of(trace.take(schedule.row[index], COLUMNS))
        yield [
            prepare(row, dict(zip(places, place, strict=True)), rewrite, target)
            for row, place in zip(rows, zip(*places.values(), strict=True), strict=True)
        ]


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as Python values, `request_headers` as tuples of pairs; column by column is far quicker."""
    columns = {
        name: _pairs(column) if name == "request_headers" else column.to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _pairs(column: pa.ListArray) -> list[tuple[tuple[str, str], ...]]:
    flat = column.flatten()
    pairs = list(zip(flat.field("name").to_pylist(), flat.field("value").to_pylist(), strict=True))
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False)).tolist()
    return [tuple(pairs[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


@dataclasses.dataclass(frozen=True)
class Share:
    """Which requests a worker is fed, and in which form.

    `serialise_for` is the target of a sender that takes bytes. With `first_turns_only` the later turns are
    left out; `Feed.fetch` brings them one by one.
    """

    trace: str
    schedule: str
    worker: int
    workers: int
    rewrite: Rewrite
    serialise_for: Target | None = None
    first_turns_only: bool = False

    def rows(self, schedule: Schedule) -> np.ndarray:
        """Indices of the share's requests, int64, ascending."""
        mine = share_of(schedule, self.worker, self.workers)
        return mine[schedule.after[mine] < 0] if self.first_turns_only else mine


class Feed:
    """Windows of prepared requests, read by a thread, waited for by the loop. `None` ends it."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Prepared] | Exception | None] = asyncio.Queue(QUEUE_WINDOWS)
        self._ready = asyncio.Event()
        self._stopped = False
        self._schedule: Schedule | None = None
        self._apart: Trace | None = None
        self._fetcher = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._thread = threading.Thread(target=self._read, daemon=True, name="feed")
        self._thread.start()

    async def ready(self) -> None:
        """Return when the first window is there (or the first failure)."""
        await self._ready.wait()

    @property
    def schedule(self) -> Schedule:
        """The whole schedule, once `ready`; raises `RuntimeError` when it could not be read."""
        if self._schedule is None:
            raise RuntimeError("feed: no schedule was read")
        return self._schedule

    async def next(self) -> list[Prepared] | None:
        """The next window, None at the end; raises what went wrong while reading."""
        window = await self._queue.get()
        if isinstance(window, Exception):
            raise window
        return window

    def fetch(self, index: int) -> asyncio.Future[Prepared]:
        """One request by its index in the schedule, read apart from the windows."""
        return asyncio.wrap_future(self._fetcher.submit(self._fetch, index))

    def _fetch(self, index: int) -> Prepared:
        share = self._share
        if self._apart is None:
            self._apart = open_trace(share.trace)
        rows = np.array([index], np.int64)
        windows = prepared_windows(self._apart, self.schedule, rows, share.rewrite, share.serialise_for)
        return next(windows)[0]

    def stop(self) -> None:
        """Read no further."""
        self._stopped = True
        self._fetcher.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> None:
        share = self._share
        try:
            opened, (planned, _) = open_trace(share.trace), read_schedule(Path(share.schedule))
            self._schedule = planned
            rows = share.rows(planned)
            for window in prepared_windows(opened, planned, rows, share.rewrite, share.serialise_for):
                if self._stopped or not self._put(window):
                    return
            self._put(None)
        except PeaktapeError as error:
            self._put(error)
        except Exception as error:
            self._put(RuntimeError(f"feed: {type(error).__name__}: {error}"))

    def _put(self, window: list[Prepared] | Exception | None) -> bool:
        async def put() -> None:
            self._ready.set()
            await self._queue.put(window)

        try:
            asyncio.run_coroutine_threadsafe(put(), self._loop).result()
        except (RuntimeError, concurrent.futures.CancelledError):  # the loop has gone: the worker is stopping
            return False
        return True
