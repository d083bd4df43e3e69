"""What goes over the wire for a trace row: target URL, headers, body. Pure; made ahead of the due instant."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from capture.redaction import REDACTED
from replay.engine.target import Target

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


# White space and "#" can't stand in a request line's target; all else goes out as it came in.
_PATH_AS_IT_IS: Final = "".join(set(string.printable) - set(string.whitespace) - {"#"})


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """What a replay changes in every request: headers set (replacing those of the same name), the tag."""

    headers: tuple[tuple[str, str], ...] = ()
    tag: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """One request ready to be staged, with what its run row needs."""

    index: int
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


def prepare(row: Mapping[str, Any], place: Mapping[str, int], rewrite: Rewrite) -> Prepared:
    """A trace row (`row`, its columns as Python values) scheduled at `place` (a schedule row's values)."""
    path = row["path"]
    return Prepared(
        index=place["index"],
        due_ns=place["due_ns"],
        request_id=row["request_id"],
        copy=place["copy"],
        session=place["session"],
        phase=place["phase"],
        endpoint=f"{row['method']} {path.partition('?')[0]}",
        model=row["model"],
        stream=row["stream"],
        method=row["method"],
        path=path,
        headers=rewritten(
            [(pair["name"], pair["value"]) for pair in row["request_headers"]],
            rewrite,
            f"{row['request_id']}/{place['copy']}",
        ),
        body=row["request_body"],
    )


def rewritten(headers: Sequence[tuple[str, str]], rewrite: Rewrite, tag: str) -> tuple[tuple[str, str], ...]:
    """The recorded headers less those of the connection and those redacted, with the rewrite's laid over."""
    replaced = {name.lower() for name, _ in rewrite.headers} | {TAG_HEADER}
    kept = [
        (name, _as_recorded(value))
        for name, value in headers
        if not name.startswith(":")
        and (low := name.lower()) not in _CONNECTION_HEADERS
        and low not in replaced
        and REDACTED not in value
    ]
    kept.extend(rewrite.headers)
    if rewrite.tag:
        kept.append((TAG_HEADER, tag))
    return tuple(kept)


def _as_recorded(value: str) -> str:
    """The text whose UTF-8 is the recorded bytes (a trace has them as ISO 8859-1), where there is one."""
    try:
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeError:
        return value


def url_of(target: Target, path: str) -> str:
    """The absolute URL of a recorded path; an absolute-form or odd path is appended from its first slash."""
    if not path.startswith("/"):
        scheme, found, rest = path.partition("://")
        path = "/" + (rest.partition("/")[2] if found and scheme.isalpha() else path)
    return target.base_url + quote(path, safe=_PATH_AS_IT_IS, encoding="latin-1")
