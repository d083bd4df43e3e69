"""What is read of a mitmproxy flow, as values. Nothing is changed here, and nothing kept."""

from __future__ import annotations

from typing import Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState

from capture.exchange import RequestHead
from capture.framed_messages import is_framed

STREAM_FROM_BYTES: Final = 1 << 20
"""Uploads longer than this, or of a length not told, are passed on as they come."""


def head_of(request: http.Request) -> RequestHead:
    """A request's head as values; bytes are ISO 8859-1."""
    host = request.data.host
    return RequestHead(
        method=request.data.method.decode("latin-1"),
        scheme=request.data.scheme.decode("latin-1"),
        host=f"[{host}]:{request.data.port}" if ":" in host else f"{host}:{request.data.port}",
        path=request.data.path.decode("latin-1"),
        http_version=request.data.http_version.decode("latin-1"),
        headers=pairs_of(request.headers),
    )


def is_upload(request: http.Request) -> bool:
    """Whether a request's body is passed on as it comes: calls of gRPC, large ones, ones of unknown length.

    A short body of a stated length is sent on in one piece, once it is whole.
    """
    length = request.headers.get("content-length")
    if length is not None and length.isdecimal():
        return int(length) > STREAM_FROM_BYTES or is_framed(pairs_of(request.headers))
    return request.is_http2 or "transfer-encoding" in request.headers


def trailers_of(message: http.Message) -> list[tuple[str, str]] | None:
    """The trailer fields of a message, None when it has none."""
    return None if message.trailers is None else pairs_of(message.trailers)


def pairs_of(headers: http.Headers) -> list[tuple[str, str]]:
    """Header fields as (name, value) pairs in their order, bytes as ISO 8859-1."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.fields]


def client_left(flow: http.HTTPFlow, message: str) -> bool:
    """Whether the client's side is what broke: its socket is closed, or it reset its HTTP/2 stream.

    mitmproxy says "reset by client" of servers too; a server's is one where the client doesn't speak HTTP/2.
    """
    if "reset by client" in message:
        return flow.request.is_http2
    return not flow.client_conn.state & ConnectionState.CAN_READ
