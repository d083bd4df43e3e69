"""The feeder: reads a worker's share of the trace ahead of time, makes requests of it, and hands them over.

A process of its own: reading and preparing hold the interpreter for milliseconds, which a thread beside
the pacer would take from it. Windows go out as the worker takes them; single requests (later turns) are
answered on a second channel, so that neither waits for the other.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from capture.child_processes import leave_to_the_parent
from capture.failures import PeaktapeError
from capture.trace_reader import Trace, open_trace
from replay.engine.feed import END, FAILED, WINDOW, Share
from replay.engine.frames import FrameSplitter, frame, plain_frame
from replay.engine.requests import Prepared, Rewrite, prepare, serialised
from replay.engine.target import Target
from replay.engine.weaving import Said, woven
from replay.transform.schedule_format import Schedule, read_schedule

READ_ROWS: Final = 128
WINDOW_ROWS: Final = 16
WINDOW_BYTES: Final = 256 << 10
"""A window is unpacked by the worker in one go: small ones don't keep it from what is due."""

PLACE: Final = ("due_ns", "copy", "session", "phase")
COLUMNS: Final = (
    *("request_id", "method", "path", "request_headers", "request_body", "model", "stream"),
    *("outcome", "request_body_ns", "chunk_ns", "end_ns", "connection"),
)
REWRITTEN: Final = (*COLUMNS, "input_tokens")


def prepared_windows(
    trace: Trace,
    schedule: Schedule,
    share: np.ndarray,
    rewrite: Rewrite,
    target: Target | None = None,
    *,
    keep_bodies: bool = False,
) -> Iterator[list[Prepared]]:
    """The share's requests in due order, some `READ_ROWS` at a time; serialised for a given `target`.

    With `keep_bodies`, headers and body stay beside the bytes.
    """
    step = min(READ_ROWS, trace.rows_a_group)  # groups of large bodies are short
    for start in range(0, len(share), step):
        index = share[start : start + step]
        places = {name: getattr(schedule, name)[index].tolist() for name in PLACE}
        places["index"] = index.tolist()
        rows = rows_of(trace.take(schedule.row[index], COLUMNS if rewrite.content is None else REWRITTEN))
        yield [
            prepare(row, dict(zip(places, place, strict=True)), rewrite, target, keep_body=keep_bodies)
            for row, place in zip(rows, zip(*places.values(), strict=True), strict=True)
        ]


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as Python values, `request_headers` as tuples of pairs; read column by column, far quicker."""
    columns = {
        name: _pairs(column) if name == "request_headers" else column.to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if name != "chunk_ns"
    }
    columns["chunks"] = batch.column("chunk_ns").value_lengths().to_pylist()
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _pairs(column: pa.ListArray) -> list[tuple[tuple[str, str], ...]]:
    flat = column.flatten()
    pairs = list(zip(flat.field("name").to_pylist(), flat.field("value").to_pylist(), strict=True))
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False)).tolist()
    return [tuple(pairs[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def by_size(requests: list[Prepared]) -> Iterator[list[Prepared]]:
    """Cut into windows of at most `WINDOW_ROWS` requests and, several requests long, `WINDOW_BYTES`."""
    window: list[Prepared] = []
    size_bytes = 0
    for request in requests:
        length = len(request.wire or b"") + len(request.body or b"")
        if window and (len(window) == WINDOW_ROWS or size_bytes + length > WINDOW_BYTES):
            yield window
            window, size_bytes = [], 0
        window.append(request)
        size_bytes += length
    if window:
        yield window


def _feed(share: Share, windows: socket.socket) -> None:
    """Send all windows and the end, or what went wrong; whatever happens, the channel is closed at last."""
    with contextlib.suppress(BrokenPipeError, ConnectionError):  # the worker has gone
        try:
            reader = _opened(share)
            read = _prepared(share, reader, share.rows(reader[1]))
            for window in itertools.chain.from_iterable(map(by_size, read)):
                windows.sendall(plain_frame((WINDOW, list(map(tuple, window)))))
            windows.sendall(frame((END, None)))
        except PeaktapeError as error:
            windows.sendall(frame((FAILED, str(error))))
        except (BrokenPipeError, ConnectionError):
            raise
        except Exception as error:
            windows.sendall(frame((FAILED, f"{share.trace}: can't be read ({error!r}); is it still there?")))
        finally:
            windows.shutdown(socket.SHUT_WR)


def _prepared(share: Share, reader: tuple[Trace, Schedule], rows: np.ndarray) -> Iterator[list[Prepared]]:
    return prepared_windows(*reader, rows, share.rewrite, share.serialise_for, keep_bodies=share.weaving)


def _opened(share: Share) -> tuple[Trace, Schedule]:
    trace = open_trace(share.trace, share.keys)
    trace.arrival_ns  # noqa: B018 - read now what finding rows takes, not when the first is wanted
    return trace, read_schedule(Path(share.schedule))[0]


def _answer(share: Share, singles: socket.socket) -> None:
    """Answer each index with its request, or why it can't be read, until the worker closes the channel.

    A request and what was said before it are answered with the request that says so.
    """
    splitter = FrameSplitter()
    reader = _opened(share) if share.first_turns_only else None
    while data := singles.recv(65536):
        for question in splitter.feed(data):
            if isinstance(question, int):
                singles.sendall(frame((question, _single(share, reader, question))))
            else:
                prepared, said = question
                singles.sendall(frame((prepared.number, _woven(share, prepared, said))))


def _single(share: Share, reader: tuple[Trace, Schedule] | None, index: int) -> Prepared | str:
    if reader is None:
        return "replay: only a partly-open replay asks for single requests"
    try:
        (requests,) = _prepared(share, reader, np.array([index], np.int64))
    except PeaktapeError as error:
        return str(error)
    return requests[0]


def _woven(share: Share, prepared: Prepared, said: Said) -> Prepared:
    request = woven(prepared, said)
    return request if share.serialise_for is None else serialised(request, share.serialise_for)


def main(windows_descriptor: int, singles_descriptor: int) -> None:
    """Entry of the feeder process; the descriptors are its ends of two socket pairs."""
    leave_to_the_parent(signal.SIGINT, signal.SIGTERM)  # it ends with its worker, whose channels then close
    windows, singles = socket.socket(fileno=windows_descriptor), socket.socket(fileno=singles_descriptor)
    splitter, found = FrameSplitter(), list[Any]()
    while not found:
        data = singles.recv(65536)
        if not data:
            return
        found = splitter.feed(data)
    share: Share = found[0]
    threading.Thread(target=_feed, args=(share, windows), daemon=True, name="feed").start()
    with contextlib.suppress(OSError, PeaktapeError):  # what can't be opened, the windows' channel tells
        _answer(share, singles)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
