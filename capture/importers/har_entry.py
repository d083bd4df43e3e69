"""One HAR entry → one trace row. Pure; reads what is there and leaves null what is missing or malformed.

Instants: arrival is `startedDateTime`; the end is `time` later; the first byte is `receive` before the end,
the request's last byte `wait` before that. This holds whether `ssl` is counted within `connect` (the
standard) or beside it (mitmproxy). Bodies are the HAR's decoded ones, so `Content-Encoding` is left out
where there is a body; HTTP/2 pseudo-headers are left out as well: method, scheme, host and path say the same.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import math
import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from capture.importers.source_file import epoch_ns
from capture.semantics import header
from capture.trace_format import CLIENT_ABORTED, COMPLETE, IN_FLIGHT, NOT_ANSWERED, SERVER_ERROR

NO_RESPONSE: Final = "no response in the HAR"
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_BY_CLIENT: Final = re.compile(r"aborted|cancel|client|NS_BINDING", re.IGNORECASE)
_VERSIONS: Final = {"h2": "HTTP/2.0", "http/2": "HTTP/2.0", "h3": "HTTP/3", "http/3.0": "HTTP/3"}
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)

type Pairs = list[tuple[str, str]]


class Unusable(ValueError):  # noqa: N818 - the text is the cause, as it is counted
    """An entry that can't be a row; its text is the cause."""


class Address(NamedTuple):
    """What a request is for, and where: `host` is "host:port", `path` has the query."""

    method: str
    scheme: str
    host: str
    path: str


def address_of(entry: dict[str, Any]) -> Address:
    """Where the entry's request went; raises `Unusable`."""
    request = _object(entry.get("request"))
    method, url = request.get("method"), request.get("url")
    if not (isinstance(method, str) and method and isinstance(url, str)):
        raise Unusable("no method or URL")
    if "_fromCache" in entry:
        raise Unusable("answered by the browser's cache")
    try:
        parts = urlsplit(_sound(url))
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        raise Unusable("no usable URL") from None
    if port is None or not parts.hostname:
        raise Unusable("URL not http(s)")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(
        _sound(method),
        "https" if port and parts.scheme in ("https", "wss") else "http",
        f"{host}:{port}",
        path,
    )


def arrival_ns_of(entry: dict[str, Any]) -> int:
    """When the entry's request began, ns since the epoch; raises `Unusable`."""
    try:
        return epoch_ns(str(entry.get("startedDateTime")))
    except ValueError:
        raise Unusable("no usable startedDateTime") from None


def decimals_of(entry: dict[str, Any]) -> int:
    """With how many decimals of a second the entry's start is written."""
    found = re.search(r"[.,](\d+)", str(entry.get("startedDateTime")))
    return len(found[1]) if found else 0


def is_websocket(entry: dict[str, Any]) -> bool:
    """Whether the entry is a WebSocket's handshake."""
    url = _object(entry.get("request")).get("url")
    return "_webSocketMessages" in entry or (isinstance(url, str) and url.startswith(("ws:", "wss:")))


def row_of(entry: dict[str, Any], request_id: str, *, zero_ns: int) -> dict[str, Any]:
    """The entry as a trace row without what `semantics` fills in, unredacted; instants from `zero_ns`.

    `response_bytes` is the length of the body in the row, or what the HAR says when it lacks the body.
    Raises `Unusable`.
    """
    address, arrival_ns = address_of(entry), arrival_ns_of(entry) - zero_ns
    request, response = _object(entry.get("request")), _object(entry.get("response"))
    status, message = _status(response), response.get("_error") or entry.get("_error")
    outcome, error = _outcome(status, str(message) if message else None)
    headers, body = _request_parts(request)
    answer_headers, answer = _pairs(response.get("headers")), _response_body(response)
    row: dict[str, Any] = {
        "request_id": request_id,
        "session_id": None,
        "turn": 0,
        "arrival_ns": arrival_ns,
        **address._asdict(),
        "http_version": _version(request.get("httpVersion")),
        "request_headers": _without_coding(headers) if body else headers,
        "request_body": body,
        **NOT_ANSWERED,
        "outcome": outcome,
        "error": error and _sound(error)[:200],
        "status": status,
    }
    row |= _instants(entry, arrival_ns, outcome)
    if status is not None:
        row["response_headers"] = _without_coding(answer_headers) if answer else answer_headers
        row["response_body"] = answer
        row["response_bytes"] = _stated_bytes(response) if answer is None else len(answer)
    return row


def _outcome(status: int | None, message: str | None) -> tuple[str, str | None]:
    if message:
        return (CLIENT_ABORTED if _BY_CLIENT.search(message) else SERVER_ERROR), message
    return (COMPLETE, None) if status is not None else (IN_FLIGHT, NO_RESPONSE)


def _instants(entry: dict[str, Any], arrival_ns: int, outcome: str) -> dict[str, int | None]:
    timings = _object(entry.get("timings"))
    whole_ms = _milliseconds(entry.get("time"))
    if whole_ms is None or outcome == IN_FLIGHT or not (whole_ms or timings):
        return {"request_body_ns": None, "first_byte_ns": None, "end_ns": None}
    end_ns = arrival_ns + round(whole_ms * 1e6)
    first_byte_ns = request_body_ns = None
    receive_ms, wait_ms = _milliseconds(timings.get("receive")), _milliseconds(timings.get("wait"))
    if outcome == COMPLETE and receive_ms is not None:
        first_byte_ns = max(arrival_ns, end_ns - round(receive_ms * 1e6))
        if wait_ms is not None:
            request_body_ns = max(arrival_ns, first_byte_ns - round(wait_ms * 1e6))
    return {"request_body_ns": request_body_ns, "first_byte_ns": first_byte_ns, "end_ns": end_ns}


def _request_parts(request: dict[str, Any]) -> tuple[Pairs, bytes | None]:
    headers, posted = _pairs(request.get("headers")), _object(request.get("postData"))
    text, fields = posted.get("text"), posted.get("params")
    kind = header(headers, "content-type") or str(posted.get("mimeType") or "")
    if isinstance(text, str) and text:
        return headers, bytes_of(text, posted.get("encoding"), kind)
    if isinstance(fields, list) and fields and "urlencoded" in kind:
        pairs = [(str(f.get("name", "")), str(f.get("value", ""))) for f in fields if isinstance(f, dict)]
        return headers, urlencode(pairs, errors="replace").encode()
    size = request.get("bodySize")
    return headers, (None if isinstance(size, int) and size > 0 else b"")


def _response_body(response: dict[str, Any]) -> bytes | None:
    content = _object(response.get("content"))
    text = content.get("text")
    if isinstance(text, str):
        return bytes_of(text, content.get("encoding"), str(content.get("mimeType") or ""))
    return None if content.get("size") or content.get("comment") else b""


def bytes_of(text: str, encoding: Any, kind: str) -> bytes | None:
    """The bytes that a HAR's text stands for; None when its base64 is damaged."""
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None
    charset = _CHARSET.search(kind)
    try:
        return codecs.encode(text, charset[1] if charset else "utf-8")
    except (LookupError, ValueError, TypeError):
        return text.encode("utf-8", "replace")


def _stated_bytes(response: dict[str, Any]) -> int:
    for value in (_object(response.get("content")).get("size"), response.get("bodySize")):
        if isinstance(value, int) and 0 < value < 2**62:
            return value
    return 0


def _pairs(headers: Any) -> Pairs:
    """Header pairs of either notation in use: {"name", "value"} objects, or two-item lists."""
    pairs: Pairs = []
    for field in headers if isinstance(headers, list) else ():
        if isinstance(field, dict):
            name, value = field.get("name"), field.get("value")
        elif isinstance(field, list) and len(field) == 2:
            name, value = field
        else:
            continue
        if isinstance(name, str) and name and not name.startswith(":"):
            pairs.append((octets(name), octets("" if value is None else str(value))))
    return pairs


def _without_coding(headers: Pairs) -> Pairs:
    return [(name, value) for name, value in headers if name.lower() != "content-encoding"]


def _status(response: dict[str, Any]) -> int | None:
    status = response.get("status")
    return status if isinstance(status, int) and 100 <= status <= 999 else None


def _version(found: Any) -> str:
    text = found.strip().lower() if isinstance(found, str) else ""
    if not re.fullmatch(r"h[23]|http/\d(\.\d)?", text):
        return "unknown"
    return _VERSIONS.get(text, text.upper())


def _milliseconds(value: Any) -> float | None:
    """A timing that applies: HAR writes −1 where one does not. No longer than some 11 days."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable and 0 <= value <= 1e9 else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sound(text: str) -> str:
    """`text` without the half surrogate pairs that JSON lets in and UTF-8 does not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def octets(text: str) -> str:
    """A header's text as a trace keeps it: bytes as ISO 8859-1, UTF-8 where it doesn't fit."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("latin-1")
    return text
