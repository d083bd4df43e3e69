"""What is read of a mitmproxy flow, as values. Nothing is changed here, and nothing kept."""

from __future__ import annotations

from typing import Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState

from capture.exchange import RequestHead
from capture.framed_messages import is_framed
from capture.raw_headers import RawFields

STREAM_FROM_BYTES: Final = 1 << 20
"""Uploads longer than this, or of a length not told, are passed on as they come."""


def head_of(request: http.Request) -> RequestHead:
    """A request's head as values; its header fields stay bytes, the rest is decoded as ISO 8859-1."""
    data = request.data
    host = data.host
    return RequestHead(
        method=data.method.decode("latin-1"),
        scheme=data.scheme.decode("latin-1"),
        host=f"[{host}]:{data.port}" if ":" in host else f"{host}:{data.port}",
        path=data.path.decode("latin-1"),
        http_version=data.http_version.decode("latin-1"),
        headers=data.headers.fields,
    )


def is_upload(request: http.Request) -> bool:
    """Whether a request's body is passed on as it comes: calls of gRPC, large ones, ones of unknown length.

    A short body of a stated length is sent on in one piece, once it is whole.
    """
    fields, chunked = request.data.headers.fields, False
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length" and value.isdigit():
            return int(value) > STREAM_FROM_BYTES or is_framed(fields)
        chunked = chunked or lower == b"transfer-encoding"
    return chunked or request.is_http2


def trailers_of(message: http.Message) -> RawFields | None:
    """The trailer fields of a message, None when it has none."""
    return None if message.trailers is None else message.trailers.fields


def client_left(flow: http.HTTPFlow, message: str) -> bool:
    """Whether the client's side is what broke: its socket is closed, or it reset its HTTP/2 stream.

    mitmproxy says "reset by client" of servers too; a server's is one where the client doesn't speak HTTP/2.
    """
    if "reset by client" in message:
        return flow.request.is_http2
    return not flow.client_conn.state & ConnectionState.CAN_READ
