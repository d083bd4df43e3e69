"""The fields of one access-log line → a trace row. Pure; how a line is taken apart is in `log_format`."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from capture.importers.source_file import epoch_ns
from capture.trace_format import CLIENT_ABORTED, COMPLETE, PROXY_ERROR, SERVER_ERROR

NO_HOST: Final = "import.invalid"
_LOCAL: Final = re.compile(
    r"\[?(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: ([+-])(\d\d)(\d\d))?\]?"
)
_EARLIEST_NS: Final = -20 * 366 * 86_400 * 10**9
_LATEST_NS: Final = 230 * 365 * 86_400 * 10**9
_EPOCH: Final = re.compile(r"(\d{9,10})(?:\.(\d{1,9}))?|(\d{13})|(\d{16})|(\d{19})")
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_REQUEST: Final = re.compile(r"([A-Z][A-Z-]{1,19}) (\S+)(?: (HTTP/\d(?:\.\d)?))?", re.ASCII)
_VERSIONS: Final = {"HTTP/2": "HTTP/2.0", "HTTP/3.0": "HTTP/3", "H2": "HTTP/2.0", "H3": "HTTP/3"}
_CLOSED_BY_CLIENT: Final = 499
_CLOSED_BY_SERVER: Final = 444
_ENVOY_OWN: Final = frozenset({"UF", "UC", "UH", "UO", "NR", "URX", "LR", "UR", "UT", "NC", "UPE", "SI"})
_LONGEST_NS: Final = 10**15

type Fields = Mapping[str, str]


class Unreadable(ValueError):  # noqa: N818 - says what was found and what was wanted
    """A field that is not what it should be; its text is "found, wanted"."""


class Entry(NamedTuple):
    """One request of a log: its stamp in ns since the epoch, what it stamps, and the rest of its row."""

    stamp_ns: int
    stamps_end: bool
    duration_ns: int | None
    first_byte_after_ns: int | None
    columns: dict[str, Any] | None
    """None when it is no HTTP request."""

    def later(self, by_ns: int) -> Entry:
        """The same request, stamped `by_ns` later."""
        return self._replace(stamp_ns=self.stamp_ns + by_ns)

    def row(self, request_id: str) -> dict[str, Any]:
        """The trace row, instants in ns since the epoch."""
        arrival_ns = self.stamp_ns - (self.duration_ns or 0 if self.stamps_end else 0)
        after, took = self.first_byte_after_ns, self.duration_ns
        return {
            **(self.columns or {}),
            "request_id": request_id,
            "arrival_ns": arrival_ns,
            "first_byte_ns": None if after is None else arrival_ns + after,
            "end_ns": None if took is None else arrival_ns + took,
            "chunk_ns": [],
            "chunk_bytes": [],
        }


def entry_of(fields: Fields) -> Entry:
    """The request that a line's fields tell of; raises `Unreadable`."""
    for name in ("start", "end", "stamp"):
        if name in fields:
            text = fields[name]
            stamp_ns = instant_ns(f"{text}.{fields['fraction']}" if "fraction" in fields else text)
            break
    else:
        raise Unreadable("no instant found, one wanted")
    ended = name == "end" or (name == "stamp" and "duration_s" in fields)
    after = fields.get("first_byte_ms")
    return Entry(
        stamp_ns,
        ended,
        _duration_ns(fields),
        None if after is None else _span_ns(after, 1e6),
        _columns(fields),
    )


@functools.lru_cache(1024)
def instant_ns(text: str) -> int:
    """A stamp in the common log's form, ISO 8601, or a count since 1970 → ns since 1970; `Unreadable` where
    it is none, or lies far off (offsets must fit int64)."""
    found_ns = _any_instant_ns(text)
    if not _EARLIEST_NS <= found_ns < _LATEST_NS:
        raise Unreadable(f"{text[:40]!r} found, an instant from about 1950 to 2200 wanted")
    return found_ns


def _any_instant_ns(text: str) -> int:
    local = _LOCAL.fullmatch(text)
    if local is not None and local[2] in _MONTHS:
        return _local_ns(local, text)
    epoch = _EPOCH.fullmatch(text)
    if epoch is not None:
        if epoch[1]:
            return int(epoch[1]) * 10**9 + int((epoch[2] or "").ljust(9, "0"))
        digits = epoch[3] or epoch[4] or epoch[5]
        return int(digits.ljust(19, "0"))
    try:
        return epoch_ns(text)
    except ValueError:
        raise Unreadable(
            f"{text[:40]!r} found, an instant such as 10/Oct/2000:13:55:36 -0700, 2000-10-10T20:55:36Z or "
            "971211336.123 wanted"
        ) from None


def _local_ns(found: re.Match[str], text: str) -> int:
    day, month, year, hour, minute, second, decimals, sign, zone_h, zone_min = found.groups()
    try:
        instant = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
        )
        zone = timedelta(hours=int(zone_h or 0), minutes=int(zone_min or 0))
        instant = instant + zone if sign == "-" else instant - zone
    except (ValueError, OverflowError):
        raise Unreadable(f"{text[:40]!r} found, an instant that exists wanted") from None
    seconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * 10**9 + int((decimals or "0").ljust(9, "0"))


def _duration_ns(fields: Fields) -> int | None:
    for name, unit_ns in (("duration_us", 1e3), ("duration_ms", 1e6), ("duration_s", 1e9)):
        if name in fields:
            return _span_ns(fields[name], unit_ns)
    return None


def _span_ns(text: str, unit_ns: float) -> int:
    try:
        span_ns = float(text) * unit_ns
    except ValueError:
        span_ns = math.nan
    if not 0 <= span_ns < _LONGEST_NS:
        raise Unreadable(f"{text[:40]!r} found, a duration wanted")
    return round(span_ns)


def _columns(fields: Fields) -> dict[str, Any] | None:
    asked = _asked(fields)
    if asked is None:
        return None
    method, target, version = asked
    status, outcome, error = _answer(fields)
    scheme, host = _address(fields)
    headers = [(_title(name), value) for name, value in _headers(fields)]
    if "host" in fields:
        headers.insert(0, ("Host", fields["host"]))
    size = fields.get("body_bytes", "")
    return {
        "session_id": None,
        "turn": 0,
        "method": method,
        "scheme": scheme,
        "host": host,
        "path": target,
        "http_version": version,
        "request_headers": headers,
        "request_body": b"" if method in ("GET", "HEAD", "OPTIONS") else None,
        "request_body_ns": None,
        "outcome": outcome,
        "error": error,
        "status": status,
        "response_headers": None,
        "response_body": None,
        "response_bytes": int(size) if size.isdigit() and len(size) < 16 else 0,
        "connection": fields.get("connection"),
    }


def _asked(fields: Fields) -> tuple[str, str, str] | None:
    if "request" in fields:
        found = _REQUEST.fullmatch(fields["request"])
        return None if found is None else (found[1], _origin(found[2]), _version(found[3] or "HTTP/0.9"))
    method, target = fields.get("method", "GET"), fields.get("target") or fields.get("path")
    if target is None or not re.fullmatch(r"[A-Z][A-Z-]{1,19}", method):
        return None
    if "target" not in fields and "query" in fields:
        target += "?" + fields["query"].removeprefix("?")
    return method, _origin(target), _version(fields.get("protocol", ""))


def _origin(target: str) -> str:
    """The path of a request's target; of an absolute one, what follows the authority."""
    absolute = re.fullmatch(r"https?://[^/?#]*(.*)", target)
    return target if absolute is None else absolute[1] or "/"


def _version(text: str) -> str:
    upper = text.upper()
    return _VERSIONS.get(upper, upper) or "unknown"


def _answer(fields: Fields) -> tuple[int | None, str, str | None]:
    text = fields.get("status", "")
    if text and not (text.isdigit() and len(text) <= 3):
        raise Unreadable(f"status {text[:20]!r} found, 100 to 999 wanted")
    status = int(text or 0)
    flags = {flag for flag in re.split(r"[ ,]", fields.get("flags", "")) if flag not in ("", "-")}
    named = f"response flags {','.join(sorted(flags))}" if flags else None
    if status == _CLOSED_BY_CLIENT or "DC" in flags or (text and status == 0 and not flags):
        return None if status in (0, _CLOSED_BY_CLIENT) else status, CLIENT_ABORTED, named
    if status == _CLOSED_BY_SERVER:
        return None, PROXY_ERROR, "closed without an answer (444)"
    if flags & _ENVOY_OWN:
        return status or None, SERVER_ERROR, named
    return status or None, COMPLETE, None


def _address(fields: Fields) -> tuple[str, str]:
    scheme = fields.get("scheme", "").lower()
    name, colon, port = fields.get("host", NO_HOST).rpartition(":")
    if not (colon and port.isdigit()):
        name, port = fields.get("host", NO_HOST), fields.get("port", "")
    scheme = scheme if scheme in ("http", "https") else "https" if port == "443" else "http"
    return scheme, f"{name}:{port if port.isdigit() else '443' if scheme == 'https' else '80'}"


def _headers(fields: Fields) -> list[tuple[str, str]]:
    return [(name[7:], value) for name, value in fields.items() if name.startswith("header:")]


def _title(name: str) -> str:
    return "-".join(
        part.capitalize() if part.islower() or part.isupper() else part for part in name.split("-")
    )
