"""HAR files → traces as they are: one row per entry, headers and bodies kept, arrivals as the HAR says.

HAR 1.2 (w3c.github.io/web-performance/specs/HAR) as browsers and proxies write it: with a byte order mark,
gzipped, or deflated (mitmproxy's `.zhar`). A HAR is one JSON document; it is read entry by entry. What one
entry becomes is in `har_entry`, what only peaktape's own HARs state in `har_stated`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capture.failures import BadInput
from capture.importers.captured_rows import CapturedRows, Watch, unwatched
from capture.importers.clock import Rounded
from capture.importers.har_entry import Unusable, decimals_of, is_websocket, row_of
from capture.importers.har_stated import stated_in
from capture.importers.json_stream import JsonText, NotJson
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, reading
from capture.redaction import RedactionPolicy


@dataclasses.dataclass
class _Seen:
    entries: int = 0
    decimals: int = 0
    sockets: int = 0


def open_har(
    path: Path,
    policy: RedactionPolicy,
    *,
    rounded: Rounded = Rounded.KEEP,
    seed: int = 0,
    folder: Path | None = None,
    watch: Watch = unwatched,
) -> PendingTrace:
    """Begin to import the HAR at `path`: entries sorted by start, redacted and read as in a live capture.

    An entry without method, URL or start can't be a row: it is counted as dropped, by cause. Raises
    `BadInput` when the file is no HAR, or has no entry that can be a row.
    """
    rows, seen = CapturedRows(policy, folder), _Seen()
    for number, entry in enumerate(read_entries(path, watch), start=1):
        seen.entries = number
        try:
            row = row_of(entry, f"har-{number}", zero_ns=0)
        except Unusable as cause:
            rows.dropped[str(cause)] += 1
            continue
        stated = stated_in(entry, row["arrival_ns"])
        if "path" in stated:
            stated["path"] = policy.path(stated["path"])
        row["stated"] = stated
        rows.add(row)
        seen.decimals = max(seen.decimals, decimals_of(entry))
        seen.sockets += is_websocket(entry)
    if not rows.count:
        causes = ", ".join(f"{count} {cause}" for cause, count in rows.dropped.items())
        raise BadInput(
            f"{path}: no entry that can be a request ({causes or 'log.entries is empty'}); "
            "a HAR with requests wanted"
        )
    # The step of the clock by the decimals it was written with, at finest 1 µs.
    tick_ns = int(10 ** (9 - min(6, seen.decimals)))
    return rows.pending(
        path, "import:har", clock_tick_ns=tick_ns, notes=_notes(seen), rounded=rounded, seed=seed
    )


def read_entries(path: Path, watch: Watch = unwatched) -> Iterator[dict[str, Any]]:
    """The entries of a HAR, one by one; raises `BadInput` when `path` holds no HAR."""
    with SourceFile(path, deflated=True) as source, reading(path):
        text = JsonText(source.text())
        try:
            for number, (line, entry) in enumerate(text.items("log", "entries"), start=1):
                watch(source.fraction_read())
                if not isinstance(entry, dict):
                    raise BadInput(
                        f"{path}:{line}: entry {number}: {type(entry).__name__} found, an object wanted; "
                        "export it again"
                    )
                yield entry
        except NotJson as trouble:
            raise BadInput(
                f"{path}:{trouble.line}: not JSON or no HAR ({trouble}); a whole HAR wanted; export it again"
            ) from None
        if not text.list_found:
            raise BadInput(f"{path}: no list log.entries in it; a whole HAR wanted; export it again")


def _notes(seen: _Seen) -> Iterator[str]:
    yield (
        "a HAR holds decoded bodies: Content-Encoding is left out of the headers of rows with a body; "
        "it holds no chunk instants, unless peaktape wrote it"
    )
    if seen.sockets:
        yield f"{seen.sockets} WebSocket connections kept as their handshake alone, without messages"
