"""How a request failed, by what a tool wrote of it: a status, a kind of `run_format.ERRORS`, a line."""

from __future__ import annotations

import dataclasses
import http
import re
from typing import Final

_STATUS: Final = re.compile(
    r"(?:\bHTTP Error |\berror '|\bstatus(?: code)?[ :=]+)([1-5]\d\d)\b", re.IGNORECASE
)
_REASONS: Final = {status.phrase.lower(): status.value for status in http.HTTPStatus if status.value >= 300}
_MOST_TEXT: Final = 300

_KINDS: Final = (
    ("dns", ("name or service not known", "nodename nor servname", "ClientConnectorDNSError", "gaierror")),
    ("connect_refused", ("ConnectionRefusedError", "Connection refused", "Connect call failed")),
    ("connect_timeout", ("ConnectTimeout", "ConnectionTimeoutError")),
    ("timeout", ("TimeoutError", "ReadTimeout", "RequestTimeout", "timed out")),
    ("tls", ("SSLError", "CertificateError", "SSLCertVerificationError")),
    (
        "reset",
        (
            *("ServerDisconnectedError", "ConnectionResetError", "ClientPayloadError", "ClientOSError"),
            *("RemoteProtocolError", "ReadError", "StreamInterruptedError", "IncompleteRead"),
        ),
    ),
    ("connect_failed", ("ClientConnectorError", "ConnectError")),
)
"""Exceptions of the HTTP clients that these tools use (aiohttp, httpx), and what the system calls them."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Columns of a run: `status` of an answer, or the kind of `error`, and its text."""

    status: int | None
    error: str | None
    error_text: str | None


def failure(text: str, code: int | None = None) -> Failure:
    """The failure that `text` tells of: a traceback, a message, or the reason phrase of a status.

    With a status of 400 or more there is no `error`, as in every run. A failure that can't be told is
    "unstated".
    """
    line = _told(text)
    status = code if code is not None and 100 <= code < 600 else _status(text)
    if status is not None and status >= 300:
        return Failure(status, None, line)
    for kind, marks in _KINDS:
        if any(mark.lower() in text.lower() for mark in marks):
            return Failure(None, kind, line)
    return Failure(None, "unstated", line)


def _status(text: str) -> int | None:
    found = _STATUS.search(text)
    if found:
        return int(found[1])
    return _REASONS.get(text.strip().lower())


def _told(text: str) -> str | None:
    """The last line that says something: of a traceback, that is the exception."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:_MOST_TEXT] if lines else None
