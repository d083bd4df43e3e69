"""Format strings of nginx, Apache and Envoy → how to take a line of such a log apart. Pure.

What a field is called here does not depend on the server: see `FIELDS`. Fields that tell nothing about a
request are matched and left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from capture.failures import BadInput

FIELDS: Final = {
    "start": "when the request came, as text",
    "end": "when the request was over, as text",
    "stamp": "when, as text, without saying which of the two",
    "fraction": "decimals of the instant's second",
    "request": "method, target and protocol",
    "method": "",
    "target": "path with query",
    "path": "path without query",
    "query": "without its question mark",
    "protocol": "",
    "scheme": "",
    "host": "with or without port",
    "port": "",
    "status": "",
    "body_bytes": "bytes of the response's body",
    "duration_s": "",
    "duration_ms": "",
    "duration_us": "",
    "first_byte_ms": "from the start",
    "flags": "Envoy's response flags",
    "client": "the client's address",
    "connection": "",
    "header:NAME": "a request header",
}
COMMON: Final = '%h %l %u %t "%r" %>s %b'
COMBINED: Final = COMMON + ' "%{Referer}i" "%{User-Agent}i"'
ENVOY: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)

_INSTANTS: Final = ("start", "end", "stamp")
_NGINX: Final = {
    "remote_addr": "client",
    "time_local": "end",
    "time_iso8601": "end",
    "msec": "end",
    "request": "request",
    "request_method": "method",
    "request_uri": "target",
    "uri": "path",
    "document_uri": "path",
    "args": "query",
    "query_string": "query",
    "server_protocol": "protocol",
    "scheme": "scheme",
    "host": "host",
    "server_port": "port",
    "status": "status",
    "body_bytes_sent": "body_bytes",
    "request_time": "duration_s",
    "connection": "connection",
    "request_id": "header:X-Request-ID",
}
_APACHE: Final = {
    "h": "client",
    "a": "client",
    "t": "start",
    "r": "request",
    "m": "method",
    "U": "path",
    "q": "query",
    "H": "protocol",
    "v": "host",
    "V": "host",
    "p": "port",
    "s": "status",
    "b": "body_bytes",
    "B": "body_bytes",
    "D": "duration_us",
    "T": "duration_s",
}
_ENVOY: Final = {
    "START_TIME": "start",
    "PROTOCOL": "protocol",
    "RESPONSE_CODE": "status",
    "RESPONSE_FLAGS": "flags",
    "BYTES_SENT": "body_bytes",
    "DURATION": "duration_ms",
    "RESPONSE_DURATION": "first_byte_ms",
    "DOWNSTREAM_REMOTE_ADDRESS": "client",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "client",
    "CONNECTION_ID": "connection",
}
_ENVOY_REQUEST: Final = {
    ":method": "method",
    ":path": "target",
    ":authority": "host",
    ":scheme": "scheme",
    "x-forwarded-proto": "scheme",
    "x-envoy-original-path": "target",
}
_NGINX_TOKEN: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_ENVOY_TOKEN: Final = re.compile(r"%([A-Z][A-Z0-9_]+)(?:\(([^)]*)\))?(?::\d+)?%")
_APACHE_TOKEN: Final = re.compile(r"%(?:[!\d,]*|[<>])?(?:\{([^}]*)\})?([<>]?\^?[a-zA-Z]{1,2}|%)")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_SHORT: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "v": "\v", "f": "\f"}

type Piece = tuple[str, str]
"""("text", literal) or (field, "") or ("", "") for a field that is left alone."""


class LineFormat:
    """Takes lines of one format apart."""

    def __init__(self, pieces: list[Piece], *, tail: str = "") -> None:
        """`tail` is a pattern of what may follow the last piece."""
        self.fields: list[str] = []
        parts: list[str] = []
        for at, (kind, text) in enumerate(pieces):
            if kind == "text":
                parts.append(re.escape(text))
                continue
            after = pieces[at + 1][1][:1] if at + 1 < len(pieces) else ""
            pattern = _up_to(after, instant=kind in _INSTANTS)
            parts.append(f"({pattern})" if kind else pattern)
            if kind:
                self.fields.append(kind)
        self._line = re.compile("".join(parts) + tail)

    def read(self, line: str) -> dict[str, str] | None:
        """The fields of a line, without those that are empty or "-"; None when it isn't of this format."""
        found = self._line.fullmatch(line)
        if found is None:
            return None
        pairs = zip(self.fields, found.groups(), strict=True)
        return {name: unescaped(text) for name, text in pairs if text and text != "-"}


def line_format(text: str) -> LineFormat:
    """The format that a server's configuration names; raises `BadInput` when it tells too little."""
    pieces = list(pieces_of(text))
    fields = {kind for kind, _ in pieces}
    if not fields & {"start", "end"}:
        raise BadInput(
            f"--format: no instant found in {text[:60]!r}; $time_local, $time_iso8601, $msec, %t or "
            "%START_TIME% wanted"
        )
    if not ("request" in fields or fields & {"target", "path"}):
        raise BadInput(
            f"--format: no request found in {text[:60]!r}; $request, $request_uri, %r, %U "
            "or %REQ(:PATH)% wanted"
        )
    return LineFormat(pieces)


def pieces_of(text: str) -> Iterator[Piece]:
    """A format string in its pieces: nginx's where it holds $names, Envoy's %NAMES%, else Apache's."""
    token, field = _language(text)
    text = text if token is not _APACHE_TOKEN else text.replace('\\"', '"').replace("\\t", "\t")
    at = 0
    for found in token.finditer(text):
        literal = text[at : found.start()]
        name = field(found)
        if name is None:  # an escaped per cent sign
            continue
        if literal:
            yield "text", literal.replace("%%", "%") if token is not _NGINX_TOKEN else literal
        yield name, ""
        at = found.end()
    if text[at:]:
        yield "text", text[at:].rstrip("\n")


def _language(text: str) -> tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]]:
    if _ENVOY_TOKEN.search(text):
        return _ENVOY_TOKEN, _envoy_field
    if _NGINX_TOKEN.search(text):
        return _NGINX_TOKEN, _nginx_field
    return _APACHE_TOKEN, _apache_field


def _nginx_field(found: re.Match[str]) -> str:
    name = found[1] or found[2]
    if name.startswith("http_"):
        sent = name.removeprefix("http_").replace("_", "-")
        return "host" if sent == "host" else f"header:{sent}"
    return _NGINX.get(name, "")


def _apache_field(found: re.Match[str]) -> str | None:
    argument, letter = found[1] or "", found[2].lstrip("<>")
    if letter == "%":
        return None
    if letter == "i":
        return "host" if argument.lower() == "host" else f"header:{argument}"
    if letter == "T" and argument:
        return {"s": "duration_s", "ms": "duration_ms", "us": "duration_us"}.get(argument, "")
    if letter == "t" and argument.endswith("sec_frac"):
        return "fraction"
    if letter == "t" and argument:
        return "end" if argument.startswith("end:") else "start"
    return _APACHE.get(letter, "")


def _envoy_field(found: re.Match[str]) -> str:
    name, argument = found[1], found[2] or ""
    if name != "REQ":
        return _ENVOY.get(name, "")
    wanted = argument.split("?")[-1].lower()
    known = _ENVOY_REQUEST.get(wanted, "")
    return known or ("" if wanted.startswith(":") else f"header:{wanted}")


def _up_to(after: str, *, instant: bool) -> str:
    """A pattern for a field that ends before the character `after`, or with the line."""
    if after == '"':
        return r'(?:[^"\\]|\\.)*'
    if after in ("", " ") and instant:  # Apache's %t brings its brackets along, and a zone after a space
        return r"(?:\[[^\]]*\]|\S+(?: [+-]\d{4})?)"
    if after in ("", " "):  # nginx lists the upstreams it tried with ", " and " : "
        return r"\S*(?:(?:(?<=,) | : )\S*)*"
    return f"[^{re.escape(after)}]*"


def unescaped(text: str) -> str:
    """A field's text without the escapes that nginx, Apache and JSON logs write."""
    return _ESCAPE.sub(_one_unescaped, text) if "\\" in text else text


def _one_unescaped(found: re.Match[str]) -> str:
    if found[1] or found[2]:
        return chr(int(found[1] or found[2], 16))
    return _SHORT.get(found[3], found[3])
