"""How HTTP/1 messages are framed where mitmproxy is stricter than the servers and clients around it.

What a server or a client of our time would take, and can be read in one way only, is passed on, spelt so that
all read it alike: equal lengths become one. What two readers may frame differently stays refused (RFC 9112,
6.3 and 11.2). `proxy` puts these functions where mitmproxy looks for its own. Functions of messages.
"""

from __future__ import annotations

import re
from typing import Final

from mitmproxy import http
from mitmproxy.net.http import http1, status_codes
from mitmproxy.net.http.validate import validate_headers

_strict_body_bytes = http1.expected_http_body_size
_strict_check = validate_headers
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+")
_UNBROKEN: Final = re.compile(rb"[\x21-\x39\x3b-\x7e\x80-\xff]+")
_LETTERS: Final = re.compile(rb"[^a-z]")
_FRAMING: Final = frozenset((b"contentlength", b"transferencoding"))
_QUOTED: Final = re.compile(r":? b?(?:'.*'|\".*\")", re.DOTALL)
_ADVICE: Final = " Disable the validate_inbound_headers option to skip this security check."


def body_bytes(request: http.Request, response: http.Response | None = None) -> int | None:
    """The length of a message's body as its head states it: None when in chunks, -1 when it ends with the
    connection. Lengths that are stated more than once and agree become one in the message.

    Raises ValueError when the head can be read in several ways, or in none.
    """
    try:
        size = _strict_body_bytes(request, response)
    except ValueError:
        headers = request.headers if response is None else response.headers
        if not _settled(headers, is_answer=response is not None):
            raise
        return _strict_body_bytes(request, response)
    has_coding = size == -1 and response is not None and "transfer-encoding" in response.headers
    if response is not None and has_coding and _settled(response.headers, is_answer=True):
        return _strict_body_bytes(request, response)
    return size


def _settled(headers: http.Headers, *, is_answer: bool) -> bool:
    """Make one length of what `headers` state equally several times; whether that has changed them.

    Of answers also: `chunked` stated twice is once (those who hand on another's headers send it so), and
    `identity` says nothing.
    """
    codings = headers.get_all("transfer-encoding")
    if codings and not is_answer:
        return False
    before = headers.fields
    if codings and {one.strip().lower() for one in codings} == {"chunked"}:
        headers["transfer-encoding"] = "chunked"
    elif codings and {one.strip().lower() for one in codings} == {"identity"}:
        del headers["transfer-encoding"]
    stated = [one.strip() for line in headers.get_all("content-length") for one in line.split(",")]
    if stated and all(map(_LENGTH.fullmatch, stated)) and len({int(one) for one in stated}) == 1:
        headers["content-length"] = str(int(stated[0]))
    return headers.fields != before


def check(message: http.Request | http.Response) -> None:
    """Raise ValueError for a request that servers may frame differently than we do.

    Names of headers may have characters that they should not have, as long as no server can take such a name
    for a length; answers are the server's own affair, and `body_bytes` has read them.
    """
    if isinstance(message, http.Response):
        return
    try:
        _strict_check(message)
    except ValueError:
        odd = [name for name, _ in message.headers.fields if not _TOKEN.fullmatch(name)]
        if not odd:
            raise
        if not all(_UNBROKEN.fullmatch(name) and not _is_framing(name) for name in odd):
            raise ValueError("a header name with a space or a control character in it") from None
        rest = message.copy()
        rest.headers = http.Headers([one for one in message.headers.fields if _TOKEN.fullmatch(one[0])])
        _strict_check(rest)


def _is_framing(name: bytes) -> bool:
    """Whether somebody who drops what does not belong into a name would take it for a length."""
    return _LETTERS.sub(b"", name.lower()) in _FRAMING


def ends_connection(http_version: str, headers: http.Headers) -> bool:
    """Whether a connection ends with a message (RFC 9112, 9.3), in whichever case its options are written."""
    if "connection" in headers:
        options = {one.strip().lower() for one in headers["connection"].split(",")}
        if "close" in options:
            return True
        if "keep-alive" in options:
            return False
    return http_version not in ("HTTP/1.1", "HTTP/2.0")


def without_void_framing(answer: http.Response) -> None:
    """Take from an answer's head what says nothing of its length, and what clients stumble over.

    A length beside chunks is void (RFC 9112, 6.3), and so is a coding of a body that can't be (6.1).
    """
    headers = answer.headers
    if "transfer-encoding" not in headers:
        return
    if answer.status_code == 204:
        del headers["transfer-encoding"]
    elif "chunked" in headers["transfer-encoding"].lower() and "content-length" in headers:
        del headers["content-length"]


def unquoted(message: str) -> str:
    """A failure's text without what was sent, which no log and no trace may hold."""
    return _QUOTED.sub("", message).replace(_ADVICE, "")


def refusal(status: int, message: str = "") -> bytes:
    """The proxy's own answer, which ends the connection; it says who gives it, and why."""
    reason = status_codes.RESPONSES.get(status, "")
    said = f"{status} {reason}, by the peaktape capture proxy: {message.replace(_ADVICE, '')}\n"
    headers = http.Headers(Connection="close", Content_Type="text/plain; charset=utf-8")
    answer = http.Response.make(status, said.encode("utf-8", "replace"), headers)
    return bytes(http1.assemble_response(answer))  # type: ignore[no-untyped-call]
