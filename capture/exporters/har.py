"""Traces → HAR 1.2, so that nothing is lost but the codings of bodies.

What HAR has no member for stands in each entry's `_peaktape` (the standard leaves such names to whoever
writes them), and `peaktape import har` reads it back. Bodies are decoded, as in every HAR.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO
from urllib.parse import parse_qsl, quote, urlsplit

from capture.__about__ import VERSION
from capture.content_codings import decode_content
from capture.exporters.export_file import ExportFormat, Losses, Row
from capture.importers.har_entry import Unusable, address_of, bytes_of
from capture.importers.har_stated import INSTANTS, MEMBER
from capture.semantics import header
from capture.trace_format import MESSAGES, TRACE_SCHEMA, TraceMetadata

_STATED: Final = (
    *("request_id", "session_id", "turn", "http_version", "outcome", "error", "status", "response_bytes"),
    *("request_bytes", "input_tokens", "output_tokens", "model", "stream", "connection"),
)
_ADDRESS: Final = ("method", "scheme", "host", "path")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_CODED: Final = "{count} bodies are decoded, as a HAR's are: their Content-Encoding is lost"

type Pairs = Sequence[tuple[str, str]]


def write_har(file: TextIO, rows: Iterator[Row], metadata: TraceMetadata, losses: Losses) -> int:
    """Write one HAR document, an entry a line; how many entries."""
    head = {
        "version": "1.2",
        "creator": {"name": "peaktape", "version": VERSION},
        "comment": "; ".join((metadata.source, *metadata.notes)),
    }
    file.write('{"log":' + json.dumps(head)[:-1] + ',"entries":[')
    written = 0
    for written, row in enumerate(rows, start=1):
        entry = json.dumps(entry_of(row, metadata.wall_zero_ns, losses), separators=(",", ":"))
        file.write(("\n" if written == 1 else ",\n") + entry)
    file.write("\n]}}\n")
    return written


HAR: Final = ExportFormat("HAR", frozenset(TRACE_SCHEMA.names) - MESSAGES, write_har)


def entry_of(row: Row, wall_zero_ns: int, losses: Losses) -> dict[str, Any]:
    """The HAR entry of a trace row."""
    answer_headers: Pairs = row["response_headers"] or ()
    request_body = _decoded(row["request_body"], row["request_headers"], losses)
    answer = _decoded(row["response_body"], answer_headers, losses)
    url = _url(row)
    return {
        "startedDateTime": _stamp(wall_zero_ns + row["arrival_ns"]),
        "time": _span_ms(row["arrival_ns"], row["end_ns"]),
        "request": {
            "method": row["method"],
            "url": url,
            "httpVersion": row["http_version"],
            "cookies": [],
            "headers": _named(row["request_headers"]),
            "queryString": _named(parse_qsl(urlsplit(url).query, keep_blank_values=True)),
            "headersSize": -1,
            "bodySize": -1 if request_body is None else len(request_body),
            **_posted(request_body, row["request_headers"]),
        },
        "response": {
            "status": row["status"] or 0,
            "statusText": "",
            "httpVersion": row["http_version"],
            "cookies": [],
            "headers": _named(answer_headers),
            "content": _content(answer, answer_headers, row["response_bytes"]),
            "redirectURL": header(answer_headers, "location") or "",
            "headersSize": -1,
            "bodySize": row["response_bytes"],
            **({"_error": row["error"]} if row["error"] else {}),
        },
        "cache": {},
        "timings": _timings(row),
        **({"connection": row["connection"]} if row["connection"] else {}),
        MEMBER: _stated(row, url),
    }


def _url(row: Row) -> str:
    """A URL that a HAR reader takes; what it can't say is stated beside it."""
    scheme = row["scheme"] if row["scheme"] in _DEFAULT_PORTS else "http"
    authority = row["host"].removesuffix(_DEFAULT_PORTS[scheme])
    path = row["path"] if row["path"].startswith("/") else f"/{row['path']}"
    for url in (f"{scheme}://{authority}{path}", f"{scheme}://{authority}{quote(path, safe='/?&=%')}"):
        if _address(row["method"], url):
            return url
    return f"{scheme}://import.invalid{quote(path, safe='/?&=%')}"


def _address(method: str, url: str) -> dict[str, str] | None:
    try:
        return address_of({"request": {"method": method, "url": url}})._asdict()
    except Unusable:
        return None


def _stated(row: Row, url: str) -> dict[str, Any]:
    """What the entry itself does not say, or not exactly; instants from the arrival."""
    stated = {name: row[name] for name in _STATED}
    said = _address(row["method"], url) or {}
    stated |= {name: row[name] for name in _ADDRESS if said.get(name) != row[name]}
    for name in INSTANTS:
        stated[name] = None if row[name] is None else row[name] - row["arrival_ns"]
    stated["chunk_ns"] = [instant - row["arrival_ns"] for instant in row["chunk_ns"]]
    stated["chunk_bytes"] = row["chunk_bytes"]
    absent = ("request_body", "response_body", "response_headers")
    return stated | {name: None for name in absent if row[name] is None}


def _decoded(body: bytes | None, headers: Pairs, losses: Losses) -> bytes | None:
    coding = header(headers, "content-encoding")
    if not body or coding is None:
        return body
    losses.counted[_CODED] += 1
    decoded = decode_content(body, coding)
    return body if decoded is None else decoded


def _posted(body: bytes | None, headers: Pairs) -> dict[str, Any]:
    if not body:
        return {}
    kind = header(headers, "content-type") or ""
    return {"postData": {"mimeType": kind, "params": [], **_text(body, kind)}}


def _content(body: bytes | None, headers: Pairs, size: int) -> dict[str, Any]:
    kind = header(headers, "content-type") or ""
    if body is None:
        return {"size": size, "mimeType": kind, "comment": "not kept"}
    return {"size": len(body), "mimeType": kind, **_text(body, kind)}


def _text(body: bytes, kind: str) -> dict[str, str]:
    """The body as text where that text stands for exactly these bytes, else as base64."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or bytes_of(text, None, kind) != body:
        return {"text": base64.b64encode(body).decode(), "encoding": "base64"}
    return {"text": text}


def _timings(row: Row) -> dict[str, float]:
    sent_ns = row["arrival_ns"] if row["request_body_ns"] is None else row["request_body_ns"]
    first_ns = sent_ns if row["first_byte_ns"] is None else row["first_byte_ns"]
    return {
        "send": _span_ms(row["arrival_ns"], row["request_body_ns"]),
        "wait": _span_ms(sent_ns, row["first_byte_ns"]),
        "receive": _span_ms(first_ns, row["end_ns"]),
    }


def _span_ms(start_ns: int, end_ns: int | None) -> float:
    """Milliseconds; 0 where the end isn't known, since HAR wants a number."""
    return 0 if end_ns is None else max(0, end_ns - start_ns) / 1e6


def _stamp(epoch_ns: int) -> str:
    seconds, rest_ns = divmod(epoch_ns, 10**9)
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def _named(pairs: Pairs) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
