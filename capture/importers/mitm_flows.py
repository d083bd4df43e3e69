"""mitmproxy flow files → traces as they are: one row per HTTP flow, bytes as they were on the wire.

Reads every version there was: mitmproxy's own converters begin with 0.11, `mitm_old` brings older flows
there. A flow file is in order of completion; rows are sorted by arrival in flat memory. mitmproxy is imported
only when a file is opened. Stamps in a flow file are wall-clock floats.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from capture.blame import blame
from capture.failures import BadInput
from capture.importers.captured_rows import CapturedRows, Row, Watch, unwatched
from capture.importers.mitm_old import migrated
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, reading
from capture.redaction import RedactionPolicy
from capture.semantics import header
from capture.trace_format import COMPLETE, IN_FLIGHT, NOT_ANSWERED
from capture.trace_writer import batch_of

if TYPE_CHECKING:
    from mitmproxy.flow import Flow
    from mitmproxy.http import HTTPFlow, Response

CLOCK_TICK_NS: Final = 1000
_YEAR_2200_S: Final = 7_258_118_400
_LEFT: Final = ("reset by client", "client disconnected")


@dataclasses.dataclass
class _Seen:
    """What reading found beside rows."""

    sockets: int = 0
    damage: str | None = None


def open_mitm(
    path: Path,
    policy: RedactionPolicy,
    *,
    salvage: bool = False,
    folder: Path | None = None,
    watch: Watch = unwatched,
) -> PendingTrace:
    """Begin to import the flow file at `path`; flows that aren't HTTP are counted as dropped, by kind.

    A flow that was saved twice counts once, as it was first saved with an answer. Raises `BadInput` when a
    flow is damaged or cut off, saying how many before it are whole; with `salvage`, those become the trace
    and a note tells of the damage.
    """
    rows, seen = CapturedRows(policy, folder), _Seen()
    rows.merged = lambda made: _saved_once(made, rows.dropped)
    with SourceFile(path) as source, reading(path):
        if source.starts_like_json():
            raise BadInput(f"{path}: JSON found, mitmproxy flows wanted; for a HAR use `peaktape import har`")
        _take_flows(source, rows, seen, watch)
    if seen.damage and not (salvage and rows.count):
        way_out = f"; add --salvage to import the {rows.count} before it" if rows.count else ""
        raise BadInput(f"{path}: {seen.damage}{way_out}")
    if not rows.count:
        causes = ", ".join(f"{count} {cause}" for cause, count in rows.dropped.items())
        raise BadInput(f"{path}: no HTTP flow found ({causes}); a recording of HTTP traffic wanted")
    return rows.pending(path, "import:mitm", clock_tick_ns=CLOCK_TICK_NS, notes=_notes(seen))


def _take_flows(source: SourceFile, rows: CapturedRows, seen: _Seen, watch: Watch) -> None:
    """Read every flow; stops at the first that can't be read and says so in `seen.damage`."""
    from mitmproxy.http import HTTPFlow

    for number, (offset_bytes, flow) in enumerate(_flows(source.binary), start=1):
        watch(source.fraction_read())
        if isinstance(flow, str):
            seen.damage = f"flow {number}, at byte {offset_bytes}: {flow}"
        elif not isinstance(flow, HTTPFlow):
            rows.dropped[f"{flow.type} flow"] += 1
        else:
            try:
                _take(flow, number, rows, seen)
            except Exception as error:  # whatever a malformed part leads to
                seen.damage = f"flow {number}, at byte {offset_bytes}: {_reason(error)}"
                return


def _take(flow: HTTPFlow, number: int, rows: CapturedRows, seen: _Seen) -> None:
    """Count in one HTTP flow; raises one of many errors when its parts are not of their types."""
    if not _is_instant(flow.request.timestamp_start):
        rows.dropped["no arrival time"] += 1
        return
    row = row_of(flow, f"mitm-{number}", zero_ns=0)
    batch_of([row | {"stream": False}])
    seen.sockets += flow.websocket is not None or bool(flow.response and flow.response.status_code == 101)
    rows.add(row | {"flow_id": flow.id})


def _saved_once(made: Iterator[Row], dropped: Counter[str]) -> Iterator[Row]:
    """Rows by arrival, of each flow the first one with an answer: one that is saved twice arrived once."""
    for _, group in itertools.groupby(made, key=lambda row: row["arrival_ns"]):
        first: dict[str, Row] = {}
        for row in group:
            ident = row.pop("flow_id")
            known = first.setdefault(ident, row)
            if known is not row:
                dropped["saved twice"] += 1
                if known["response_headers"] is None and row["response_headers"] is not None:
                    first[ident] = row
        yield from first.values()


def _flows(file: io.BufferedReader) -> Iterator[tuple[int, Flow | str]]:
    """Each flow with its offset; for one that can't be read the reason instead, as the last."""
    from mitmproxy.flow import Flow
    from mitmproxy.io import compat, tnetstring

    for number in itertools.count(1):
        offset_bytes = file.tell()
        if not file.peek(1):
            return
        try:
            loaded = tnetstring.load(file)
            if not isinstance(loaded, dict):
                raise ValueError(f"no flow, but {type(loaded).__name__}")
            flow = Flow.from_state(migrated(loaded, number, compat.migrate_flow))
        except Exception as error:  # the reader leaks whatever a damaged flow makes it stumble over
            yield offset_bytes, _reason(error)
            return
        yield offset_bytes, flow


def _reason(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0][:200]
    if "flow format version" in first_line:
        return f"{first_line.rstrip('.')}; convert it with a mitmproxy that does"
    return f"damaged, cut off or no mitmproxy flow ({first_line or type(error).__name__})"


def row_of(flow: HTTPFlow, request_id: str, *, zero_ns: int) -> dict[str, Any]:
    """The flow as a trace row without what `semantics` fills in, unredacted; instants from `zero_ns`."""
    from capture.flow_parts import head_of
    from capture.raw_headers import with_text

    request, response = flow.request, flow.response
    outcome, error, own_status = _outcome(flow)
    row: dict[str, Any] = {
        "request_id": request_id,
        "session_id": None,
        "turn": 0,
        "arrival_ns": _epoch_ns(request.timestamp_start) - zero_ns,
        **with_text(head_of(request).columns()),
        "request_body": request.raw_content,
        "request_body_ns": _offset_ns(request.timestamp_end, zero_ns),
        **NOT_ANSWERED,
        "outcome": outcome,
        "error": error,
        "status": own_status,
        "end_ns": _offset_ns(flow.error.timestamp if flow.error else None, zero_ns),
    }
    return row if response is None else row | _answer(response, zero_ns, ended=outcome == COMPLETE)


def _answer(response: Response, zero_ns: int, *, ended: bool) -> dict[str, Any]:
    """The columns that the answer fills; its end only where it `ended` as it should."""
    from capture.raw_headers import pairs_of

    headers = pairs_of(response.headers.fields)
    columns = {
        "status": response.status_code,
        "response_headers": headers,
        "response_body": response.raw_content,
        "response_bytes": _body_bytes(response.raw_content, headers),
        "first_byte_ns": _offset_ns(response.timestamp_start, zero_ns),
    }
    return columns | ({"end_ns": _offset_ns(response.timestamp_end, zero_ns)} if ended else {})


def _outcome(flow: HTTPFlow) -> tuple[str, str | None, int | None]:
    """Outcome, error text, and the status that the proxy answered with where the server gave none.

    A flow whose answer has no end, and no error, was still under way when it was saved.
    """
    whole = flow.request.timestamp_end is not None
    if flow.error is not None:
        message = flow.error.msg
        left = any(words in message.lower() for words in _LEFT)
        failure = blame(message, request_is_whole=whole, client_left=left)
        return failure.outcome, message, failure.status
    if flow.response is None or flow.response.timestamp_end is None:
        return IN_FLIGHT, None, None
    return COMPLETE, None, None


def _body_bytes(body: bytes | None, headers: list[tuple[str, str]]) -> int:
    """Length of the body, or of the one that wasn't kept as its Content-Length states it."""
    if body is not None:
        return len(body)
    stated = header(headers, "content-length") or ""
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 16 else 0


def _is_instant(seconds: float | None) -> TypeGuard[float]:
    """Whether a stamp can be one: a number after 1970 and before 2200."""
    return isinstance(seconds, int | float) and 0 < seconds < _YEAR_2200_S


def _epoch_ns(seconds: float) -> int:
    """A float of this size holds µs, not ns."""
    return round(seconds * 1e6) * CLOCK_TICK_NS


def _offset_ns(seconds: float | None, zero_ns: int) -> int | None:
    return _epoch_ns(seconds) - zero_ns if _is_instant(seconds) else None


def _notes(seen: _Seen) -> Iterator[str]:
    yield "flow files hold no chunk instants"
    if seen.sockets:
        yield f"{seen.sockets} WebSocket connections kept as their handshake alone, without messages"
    if seen.damage:
        yield f"salvaged: what follows {seen.damage.partition(':')[0]} is left out, since it is damaged"
