"""What is read of a mitmproxy flow, as values. Nothing is changed here, and nothing kept."""

from __future__ import annotations

import functools
from typing import Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState

from capture.exchange import RequestHead
from capture.framed_messages import is_framed

STREAM_FROM_BYTES: Final = 1 << 20
"""Uploads longer than this, or of a length not told, are passed on as they come."""
_LENGTH_NAME_BYTES: Final = len(b"content-length")
_CODING_NAME_BYTES: Final = len(b"transfer-encoding")


def head_of(request: http.Request) -> RequestHead:
    """A request's head as values; all but its host stay bytes: who reads the row decodes them."""
    data = request.data
    authority = _authority(data.host, data.port)
    return RequestHead(data.method, data.scheme, authority, data.path, data.http_version, data.headers.fields)


@functools.lru_cache(256)
def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_upload(request: http.Request) -> bool:
    """Whether a request's body is passed on as it comes: calls of gRPC, large ones, ones of unknown length.

    A short body of a stated length is sent on in one piece, once it is whole.
    """
    fields, chunked = request.data.headers.fields, False
    for name, value in fields:
        size_bytes = len(name)
        if size_bytes == _LENGTH_NAME_BYTES and name.lower() == b"content-length" and value.isdigit():
            return int(value) > STREAM_FROM_BYTES or is_framed(fields)
        if size_bytes == _CODING_NAME_BYTES:
            chunked = chunked or name.lower() == b"transfer-encoding"
    return chunked or request.is_http2


def client_left(flow: http.HTTPFlow, message: str) -> bool:
    """Whether the client's side is what broke: its socket is closed, or it reset its HTTP/2 stream.

    mitmproxy says "reset by client" of servers too; a server's is one where the client doesn't speak HTTP/2.
    """
    if "reset by client" in message:
        return flow.request.is_http2
    return not flow.client_conn.state & ConnectionState.CAN_READ
