"""vegeta's JSON targets → a trace. A target says what is sent and not when, so the rate is the user's.

Source: github.com/tsenart/vegeta, README, "json" target format: one object per line with method, url, body
(base64) and header (a list of values per name).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from capture.failures import BadInput
from capture.importers.har_entry import Unusable, address_of, octets
from capture.importers.json_stream import object_in
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, reading
from capture.redaction import RedactionPolicy, redact
from capture.semantics import fill_semantics
from capture.sessions import SessionFinder
from capture.trace_format import NOT_ANSWERED

NO_ANSWER: Final = "a target holds no answer"


class Target(NamedTuple):
    """One target: where it goes ("host:port", path with query), its header pairs, its body."""

    method: str
    scheme: str
    host: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


def open_vegeta(path: Path, policy: RedactionPolicy, *, rate: float) -> PendingTrace:
    """Begin to import the targets at `path`, `rate` a second, evenly, from 1970 on.

    Raises `BadInput` with line, found and wanted; for later lines when their rows are drawn.
    """
    source = SourceFile(path)
    notes = (
        f"vegeta targets hold no instants: arrivals are even, {rate:g} a second; the zero is 1970-01-01",
        "vegeta targets hold no answers, and headers in no order",
    )
    return PendingTrace(
        place=path,
        source="import:vegeta",
        wall_zero_ns=0,
        rows=_rows(source, policy, rate),
        fraction_read=source.fraction_read,
        redaction=policy.describe(),
        notes=notes,
    )


def read_targets(source: SourceFile) -> Iterator[tuple[int, Target]]:
    """(line, target) of every line, checked; blank lines are passed over. Raises `BadInput`."""
    with source, reading(source.path):
        for number, text in enumerate(source.text(), start=1):
            if text.strip():
                yield number, _target(text, f"{source.path}:{number}")


def _target(text: str, place: str) -> Target:
    found = object_in(text, place, "is this vegeta's JSON format (vegeta attack -format=json)?")
    fields = {name.lower(): value for name, value in found.items()}
    asked = {"method": fields.get("method"), "url": fields.get("url")}
    try:
        address = address_of({"request": asked})
    except Unusable as cause:
        shown = f"{asked['method']!r:.20} {asked['url']!r:.60}"
        raise BadInput(f"{place}: {shown} found ({cause}), a method and an http(s) URL wanted") from None
    body = fields.get("body") or ""
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BadInput(f"{place}: field body: {body!r:.40} found, base64 wanted") from None
    return Target(*address, _pairs(fields.get("header") or {}, place), content)


def _pairs(header: Any, place: str) -> list[tuple[str, str]]:
    pairs = []
    for name, values in header.items() if isinstance(header, Mapping) else [("", header)]:
        if not (name and isinstance(values, list) and all(isinstance(value, str) for value in values)):
            raise BadInput(f"{place}: field header: {header!r:.40} found, lists of values by name wanted")
        pairs += [(octets(name), octets(value)) for value in values]
    return pairs


def _rows(source: SourceFile, policy: RedactionPolicy, rate: float) -> Iterator[dict[str, Any]]:
    sessions = SessionFinder()
    for number, (line, target) in enumerate(read_targets(source)):
        row: dict[str, Any] = {
            "request_id": f"vegeta-{line}",
            "session_id": None,
            "turn": 0,
            "arrival_ns": round(number * 1e9 / rate),
            "method": target.method,
            "scheme": target.scheme,
            "host": target.host,
            "path": target.path,
            "http_version": "HTTP/1.1",
            "request_headers": target.headers,
            "request_body": target.body,
            **NOT_ANSWERED,
            "error": NO_ANSWER,
        }
        fill_semantics(row, sessions)
        redact(row, policy)
        yield row
