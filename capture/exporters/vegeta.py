"""Traces → vegeta's JSON targets, for `vegeta attack -format=json -lazy`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Final, TextIO
from urllib.parse import urlsplit

from capture.exporters.export_file import ExportFormat, Losses, Row
from capture.failures import BadInput
from capture.privacy.credential_names import REDACTED
from capture.redaction import redacted_names
from capture.trace_format import TraceMetadata

HELD: Final = frozenset({"method", "scheme", "host", "path", "request_headers", "request_body"})
_HEADERS: Final = "{count} requests lack their redacted headers: put them back with vegeta attack -header"
_PARAMETERS: Final = "{count} requests have redacted parameters, which go out as REDACTED"


def vegeta(base_url: str | None = None) -> ExportFormat:
    """The format; targets lie at `base_url` ("http://host:port", maybe with a path), else where captured."""

    def write(file: TextIO, rows: Iterator[Row], _: TraceMetadata, losses: Losses) -> int:
        written = 0
        for row in rows:
            file.write(json.dumps(target_of(row, base_url), separators=(",", ":")) + "\n")
            losses.counted[_HEADERS] += bool(redacted_names(row["request_headers"]))
            losses.counted[_PARAMETERS] += REDACTED in row["path"]
            written += 1
        losses.counted = +losses.counted
        return written

    notes = ["a header that came several times keeps its values, but not its place among the others"]
    if base_url is None:
        notes.append("targets name the hosts of the capture: --target URL points them elsewhere")
    return ExportFormat("vegeta", HELD, write, tuple(notes))


def checked_base(url: str) -> str:
    """`url` itself when targets can lie there; raises `BadInput`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise BadInput(f"--target: {url[:60]!r} found, a URL such as http://staging:8000 wanted")
    return url


def target_of(row: Row, base_url: str | None) -> dict[str, object]:
    """One target of a trace row."""
    path = row["path"] if row["path"].startswith("/") else f"/{row['path']}"
    base = base_url.rstrip("/") if base_url else f"{row['scheme']}://{row['host']}"
    headers: dict[str, list[str]] = {}
    for name, value in row["request_headers"]:
        if value != REDACTED and not (base_url and name.lower() == "host"):
            headers.setdefault(name, []).append(value)
    target: dict[str, object] = {"method": row["method"], "url": base + path}
    if row["request_body"]:
        target["body"] = base64.b64encode(row["request_body"]).decode()
    return target | ({"header": headers} if headers else {})
