"""What goes over the wire for a trace row: target URL, headers, body. Pure; made ahead of the due instant."""

from __future__ import annotations

import dataclasses
import functools
import re
import string
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from capture.privacy.credential_names import REDACTED
from capture.trace_format import CLIENT_ABORTED
from replay.engine.rewriting import rewritten
from replay.engine.target import Target
from replay.transform.content_rules import ContentRules

TAG_HEADER: Final = "x-peaktape-request"
"""Every request carries "request_id/copy" here, so that a server's log can be joined with the run."""

# RFC 9110, 7.6.1: these belong to the recorded connection; the rest is computed anew for the new one.
_CONNECTION_HEADERS: Final = frozenset(
    (
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
    )
)


_METHOD_AS_IT_IS: Final = "!#$%&'*+^`|"
"""RFC 9110, 5.6.2, besides what `quote` leaves alone: a method of anything else could be a second line."""

# White space and "#" can't stand in a request line's target; all else goes out as it came in.
_PATH_AS_IT_IS: Final = "".join(set(string.printable) - set(string.whitespace) - {"#"})


POOLED: Final = "pooled"
RECORDED: Final = "recorded"
"""How requests share connections: any idle one, or as they did when they were recorded."""

# RFC 9110, 5.5: these would end the header, and begin another one or another request.
_UNSENDABLE: Final = re.compile(r"[\r\n\0]")

_BODILESS_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """What a replay changes in every request beside its tag: headers set (replacing those of the same name).

    With `aborts`, clients that hung up do so again; with `connections` "recorded" each recorded client
    connection (of each copy) is one connection again. `content` are the rules for what requests say, None
    where they say what was recorded.
    """

    headers: tuple[tuple[str, str], ...] = ()
    aborts: bool = True
    connections: str = POOLED
    content: ContentRules | None = None


class Prepared(NamedTuple):
    """A request ready to be staged, with what its run row needs; a tuple, since thousands a second pass."""

    number: int
    due_ns: int
    request_id: str
    copy: int
    session: int
    phase: int
    endpoint: str
    model: str | None
    stream: bool
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    wire: bytes | None = None
    """The request serialised, for a sender that takes it so; `body` is None then, unless it may be woven."""
    client: str | None = None
    """Whose connection it goes out on; None for any of the pool."""
    hang_up_after_reads: int | None = None
    """The recorded client was gone after so many reads of the body …"""
    hang_up_after_ns: int | None = None
    """… or, before any, this long after it had sent."""


def prepare(
    row: Mapping[str, Any],
    place: Mapping[str, int],
    rewrite: Rewrite,
    target: Target | None = None,
    *,
    keep_body: bool = False,
) -> Prepared:
    """A trace row (its columns as Python values) scheduled at `place` (a schedule row's values).

    `request_headers` are (name, value) pairs in a tuple. Serialised where a `target` is given: headers and
    body then stand in the bytes alone, unless they are to be kept.
    """
    if rewrite.content is not None:
        row = rewritten(row, place, rewrite.content)
    path, method, body = row["path"], row["method"], row["request_body"] or None
    kept = kept_headers(row["request_headers"], rewrite)
    tag = f"{row['request_id']}/{place['copy']}"
    parts = keep_body or target is None
    return Prepared(
        number=place["index"],
        due_ns=place["due_ns"],
        request_id=row["request_id"],
        copy=place["copy"],
        session=place["session"],
        phase=place["phase"],
        endpoint=f"{method} {path.partition('?')[0]}",
        model=row["model"],
        stream=row["stream"],
        method=method,
        path=path,
        headers=(*kept, (TAG_HEADER, tag)) if parts else (),
        body=body if parts else None,
        wire=serialise(target, method, path, kept, tag, body) if target else None,
        client=client_of(row, place["copy"]) if rewrite.connections == RECORDED else None,
        **(hang_up_of(row) if rewrite.aborts else {}),
    )


def client_of(row: Mapping[str, Any], copy: int) -> str | None:
    """A name of the recorded client connection, for each copy another; None where the trace knows none."""
    return None if row["connection"] is None else f"{row['connection']}/{copy}"


def hang_up_of(row: Mapping[str, Any]) -> dict[str, int]:
    """When the recorded client hung up: after so many reads of the answer, or before any, after a time."""
    if row.get("outcome") != CLIENT_ABORTED:
        return {}
    if row["chunks"]:
        return {"hang_up_after_reads": row["chunks"]}
    if row["end_ns"] is None or row["request_body_ns"] is None:
        return {}
    return {"hang_up_after_ns": max(0, row["end_ns"] - row["request_body_ns"])}


type Headers = tuple[tuple[str, str], ...]


@functools.lru_cache(2048)
def kept_headers(headers: Headers, rewrite: Rewrite) -> Headers:
    """The recorded headers less those of the connection and those redacted, with the rewrite's laid over.

    Cached: a client says the same in most of its requests.
    """
    replaced = {name.lower() for name, _ in rewrite.headers} | {TAG_HEADER}
    kept = [
        (name, _as_recorded(value))
        for name, value in headers
        if not name.startswith(":")
        and (low := name.lower()) not in _CONNECTION_HEADERS
        and low not in replaced
        and REDACTED not in value
        and not _UNSENDABLE.search(name + value)
    ]
    return (*kept, *rewrite.headers)


def _as_recorded(value: str) -> str:
    """The text whose UTF-8 is the recorded bytes (a trace has them as ISO 8859-1), where there is one."""
    try:
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeError:
        return value


def url_of(target: Target, path: str) -> str:
    """The absolute URL of a recorded path at the target."""
    return f"{target.scheme}://{target.authority}{path_at(target, path)}"


def path_at(target: Target, path: str) -> str:
    """The target's prefix and a recorded path; of an absolute-form or odd one, from its first slash."""
    if not path.startswith("/"):
        scheme, found, rest = path.partition("://")
        path = "/" + (rest.partition("/")[2] if found and scheme.isalpha() else path)
    # What no capture wrote may hold more than bytes.
    encoding = "latin-1" if path.isascii() or max(path) <= "\xff" else "utf-8"
    return target.prefix + quote(path, safe=_PATH_AS_IT_IS, encoding=encoding, errors="replace")


def serialised(prepared: Prepared, target: Target) -> Prepared:
    """The prepared request with its bytes, for a sender that takes it so."""
    headers = prepared.headers
    wire = serialise(target, prepared.method, prepared.path, headers, None, prepared.body)
    return prepared._replace(wire=wire)


def serialise(
    target: Target, method: str, path: str, headers: Headers, tag: str | None, body: bytes | None
) -> bytes:
    """A request as the bytes of HTTP/1.1 (RFC 9112): the same ones that aiohttp's client would send."""
    end = "" if tag is None else f"{TAG_HEADER}: {tag}\r\n"
    if body or method not in _BODILESS_METHODS:
        end += f"Content-Length: {len(body or b'')}\r\n"
    return b"".join((_head(target, method, path, headers), end.encode(), b"\r\n", body or b""))


@functools.lru_cache(2048)
def _head(target: Target, method: str, path: str, headers: Headers) -> bytes:
    lines = [f"{quote(method, safe=_METHOD_AS_IT_IS)} {path_at(target, path)} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append(f"Host: {target.host_header}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, ""]).encode("utf-8", "surrogateescape")
