"""HAR files → traces as they are: one row per entry, headers and bodies kept, arrivals as the HAR says.

HAR 1.2 (w3c.github.io/web-performance/specs/HAR) as browsers and proxies write it: with a byte order mark,
gzipped, or deflated (mitmproxy's `.zhar`). A HAR is one JSON document, so it is read whole. What one entry
becomes is in `har_entry`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capture.failures import BadInput
from capture.importers.har_entry import Unusable, address_of, arrival_ns_of, decimals_of, is_websocket, row_of
from capture.importers.pending_trace import PendingTrace, RowsDrawn
from capture.importers.source_file import whole_content
from capture.redaction import RedactionPolicy, redact
from capture.semantics import fill_semantics
from capture.sessions import SessionFinder


def open_har(path: Path, policy: RedactionPolicy) -> PendingTrace:
    """Begin to import the HAR at `path`: entries sorted by start, redacted and read as in a live capture.

    An entry without method, URL or start can't be a row: it is counted as dropped, by cause. Raises
    `BadInput` when the file is no HAR, or has no entry that can be a row.
    """
    entries = read_entries(path)
    dropped: Counter[str] = Counter()
    arrivals: list[tuple[int, int]] = []
    hosts: set[str] = set()
    for number, entry in enumerate(entries):
        try:
            host = address_of(entry).host
            arrivals.append((arrival_ns_of(entry), number))
            hosts.add(host)
        except Unusable as cause:
            dropped[str(cause)] += 1
    arrivals.sort()
    if not arrivals:
        causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items()) or "log.entries is empty"
        raise BadInput(f"{path}: no entry that can be a request ({causes}); a HAR with requests wanted")
    kept = [(number, entries[number]) for _, number in arrivals]
    drawn = RowsDrawn(len(kept))
    return PendingTrace(
        place=path,
        source="import:har",
        wall_zero_ns=arrivals[0][0],
        rows=_rows(kept, arrivals[0][0], policy, drawn),
        fraction_read=drawn.fraction,
        clock_tick_ns=_tick_ns([entry for _, entry in kept]),
        upstreams=tuple(sorted(hosts)),
        redaction=policy.describe(),
        notes=tuple(_notes([entry for _, entry in kept])),
        dropped=dict(dropped),
    )


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a HAR, as they stand in it; raises `BadInput` when `path` holds no HAR."""
    content = whole_content(path)
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start}: not UTF-8 text; a HAR (JSON) wanted") from error
    except RecursionError as error:
        raise BadInput(f"{path}: JSON nested too deep; a HAR wanted") from error
    except ValueError as error:
        raise BadInput(f"{path}: not JSON ({error}); a whole HAR wanted; export it again") from error
    log = document.get("log", {}) if isinstance(document, dict) else {}
    entries = log.get("entries", ()) if isinstance(log, dict) else ()
    if not isinstance(entries, list):
        raise BadInput(f"{path}: no list log.entries in it; a whole HAR wanted; export it again")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise BadInput(
                f"{path}: entry {number + 1}: {type(entry).__name__} found, an object wanted; export it again"
            )
    return entries


def _rows(
    kept: list[tuple[int, dict[str, Any]]], zero_ns: int, policy: RedactionPolicy, drawn: RowsDrawn
) -> Iterator[dict[str, Any]]:
    sessions = SessionFinder()
    for number, entry in kept:
        row = row_of(entry, f"har-{number + 1}", zero_ns=zero_ns)
        fill_semantics(row, sessions)
        redact(row, policy)
        drawn.rows += 1
        yield row


def _tick_ns(entries: list[dict[str, Any]]) -> int:
    """The step of the clock by the decimals it was written with, at finest 1 µs."""
    return int(10 ** (9 - min(6, max(map(decimals_of, entries)))))


def _notes(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "a HAR holds decoded bodies: Content-Encoding is left out of the headers of rows with a body; "
        "it holds no chunk instants"
    )
    sockets = sum(map(is_websocket, entries))
    if sockets:
        yield f"{sockets} WebSocket connections kept as their handshake alone, without messages"
