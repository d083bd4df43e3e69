"""mitmproxy flow files → traces as they are: one row per HTTP flow, bytes as they were on the wire.

Reads every version that the installed mitmproxy reads. A flow file is in order of completion, so it is read
twice: once to check it and to find each flow's arrival and place, once to make the rows in order of arrival.
mitmproxy is imported only when a file is opened. Stamps in a flow file are wall-clock floats.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeGuard

from capture.exchange import blame
from capture.failures import BadInput
from capture.importers.pending_trace import PendingTrace, RowsDrawn
from capture.importers.source_file import SourceFile, reading
from capture.redaction import RedactionPolicy, redact
from capture.semantics import fill_semantics, header
from capture.sessions import SessionFinder
from capture.trace_format import COMPLETE, IN_FLIGHT
from capture.trace_writer import batch_of

if TYPE_CHECKING:
    from mitmproxy.flow import Flow
    from mitmproxy.http import HTTPFlow, Response

CLOCK_TICK_NS: Final = 1000
_YEAR_2200_S: Final = 7_258_118_400
_LEFT: Final = ("reset by client", "client disconnected")


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where a flow stands in its file; sorts by arrival."""

    arrival_epoch_ns: int
    number: int
    offset_bytes: int


@dataclasses.dataclass
class Contents:
    """What the first reading finds. `places` by flow id: a flow that was saved twice counts once, as it was
    first saved with an answer."""

    places: dict[str, Place] = dataclasses.field(default_factory=dict)
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    hosts: set[str] = dataclasses.field(default_factory=set)
    websockets: set[str] = dataclasses.field(default_factory=set)
    unanswered: set[str] = dataclasses.field(default_factory=set)
    damage: str | None = None

    def take(self, flow: HTTPFlow, number: int, offset_bytes: int) -> None:
        """Count in one HTTP flow; raises one of many errors when its parts are not of their types."""
        if not _is_instant(flow.request.timestamp_start):
            self.dropped["no arrival time"] += 1
            return
        row = row_of(flow, flow.id, zero_ns=0)
        batch_of([row | {"stream": False}])
        if flow.websocket is not None or (flow.response and flow.response.status_code == 101):
            self.websockets.add(flow.id)
        if flow.id in self.places:
            self.dropped["saved twice"] += 1
            if flow.id not in self.unanswered or flow.response is None:
                return
        if flow.response is None:
            self.unanswered.add(flow.id)
        else:
            self.unanswered.discard(flow.id)
        self.places[flow.id] = Place(_epoch_ns(flow.request.timestamp_start), number, offset_bytes)
        self.hosts.add(row["host"])


def open_mitm(path: Path, policy: RedactionPolicy, *, salvage: bool = False) -> PendingTrace:
    """Begin to import the flow file at `path`; flows that aren't HTTP are counted as dropped, by kind.

    Raises `BadInput` when a flow is damaged or cut off, saying how many before it are whole; with
    `salvage`, those become the trace and a note tells of the damage.
    """
    with SourceFile(path) as source, reading(path):
        if source.starts_like_json():
            raise BadInput(f"{path}: JSON found, mitmproxy flows wanted; for a HAR use `peaktape import har`")
        contents = survey(source.binary)
    if contents.damage and not (salvage and contents.places):
        whole = len(contents.places)
        way_out = f"; add --salvage to import the {whole} before it" if whole else ""
        raise BadInput(f"{path}: {contents.damage}{way_out}")
    places = sorted(contents.places.values())
    if not places:
        causes = ", ".join(f"{count} {cause}" for cause, count in contents.dropped.items())
        raise BadInput(f"{path}: no HTTP flow found ({causes}); a recording of HTTP traffic wanted")
    drawn = RowsDrawn(len(places))
    return PendingTrace(
        place=path,
        source="import:mitm",
        wall_zero_ns=places[0].arrival_epoch_ns,
        rows=_rows(path, places, policy, drawn),
        fraction_read=drawn.fraction,
        clock_tick_ns=CLOCK_TICK_NS,
        upstreams=tuple(sorted(contents.hosts)),
        redaction=policy.describe(),
        notes=tuple(_notes(contents)),
        dropped=dict(contents.dropped),
    )


def survey(file: BinaryIO) -> Contents:
    """Read every flow once; stops at the first that can't be read and says so in `damage`."""
    from mitmproxy.http import HTTPFlow

    contents = Contents()
    for number, (offset_bytes, flow) in enumerate(_flows(file), start=1):
        if isinstance(flow, str):
            contents.damage = f"flow {number}, at byte {offset_bytes}: {flow}"
        elif not isinstance(flow, HTTPFlow):
            contents.dropped[f"{flow.type} flow"] += 1
        else:
            try:
                contents.take(flow, number, offset_bytes)
            except Exception as error:  # whatever a malformed part leads to
                contents.damage = f"flow {number}, at byte {offset_bytes}: {_reason(error)}"
                break
    return contents


def _flows(file: BinaryIO) -> Iterator[tuple[int, Flow | str]]:
    """Each flow with its offset; for one that can't be read the reason instead, as the last."""
    from mitmproxy.io import FlowReader

    flows = iter(FlowReader(file).stream())
    while True:
        offset_bytes = file.tell()
        try:
            flow = next(flows)
        except StopIteration:
            return
        except Exception as error:  # the reader leaks whatever a damaged flow makes it stumble over
            yield offset_bytes, _reason(error)
            return
        yield offset_bytes, flow


def _reason(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0][:200]
    if "flow format version" in first_line:
        return f"{first_line.rstrip('.')}; convert it with a mitmproxy that does"
    return f"damaged, cut off or no mitmproxy flow ({first_line or type(error).__name__})"


def _rows(
    path: Path, places: list[Place], policy: RedactionPolicy, drawn: RowsDrawn
) -> Iterator[dict[str, Any]]:
    from mitmproxy.http import HTTPFlow

    sessions = SessionFinder()
    zero_ns = places[0].arrival_epoch_ns
    with path.open("rb") as file, reading(path):
        for place in places:
            file.seek(place.offset_bytes)
            _, flow = next(_flows(file))
            if not isinstance(flow, HTTPFlow):
                raise BadInput(f"{path}: flow {place.number}: changed while it was read; import it again")
            row = row_of(flow, f"mitm-{place.number}", zero_ns=zero_ns)
            fill_semantics(row, sessions)
            redact(row, policy)
            drawn.rows += 1
            yield row


def row_of(flow: HTTPFlow, request_id: str, *, zero_ns: int) -> dict[str, Any]:
    """The flow as a trace row without what `semantics` fills in, unredacted; instants from `zero_ns`."""
    from capture.addon import head_of

    request, response = flow.request, flow.response
    outcome, error, own_status = _outcome(flow)
    head = head_of(request)
    row: dict[str, Any] = {
        "request_id": request_id,
        "session_id": None,
        "turn": 0,
        "arrival_ns": _epoch_ns(request.timestamp_start) - zero_ns,
        "method": head.method,
        "scheme": head.scheme,
        "host": head.host,
        "path": head.path,
        "http_version": head.http_version,
        "request_headers": head.headers,
        "request_body": request.raw_content,
        "request_body_ns": _offset_ns(request.timestamp_end, zero_ns),
        "outcome": outcome,
        "error": error,
        "status": own_status,
        "response_headers": None,
        "response_body": None,
        "response_bytes": 0,
        "first_byte_ns": None,
        "chunk_ns": [],
        "chunk_bytes": [],
        "end_ns": _offset_ns(flow.error.timestamp if flow.error else None, zero_ns),
    }
    return row if response is None else row | _answer(response, zero_ns, ended=outcome == COMPLETE)


def _answer(response: Response, zero_ns: int, *, ended: bool) -> dict[str, Any]:
    """The columns that the answer fills; its end only where it `ended` as it should."""
    from capture.addon import pairs_of

    headers = pairs_of(response.headers)
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


def _notes(contents: Contents) -> Iterator[str]:
    yield "flow files hold no chunk instants"
    if contents.websockets:
        count = len(contents.websockets)
        yield f"{count} WebSocket connections kept as their handshake alone, without messages"
    if contents.damage:
        yield f"salvaged: what follows {contents.damage.partition(':')[0]} is left out, since it is damaged"
