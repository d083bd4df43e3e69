"""Which version of HTTP is spoken on either side: the one that would be spoken without a proxy.

With TLS a client is offered what its server chose. HTTP/2 without TLS (h2c), how plaintext gRPC speaks, is
what mitmproxy leaves out: a client that opens with HTTP/2's preface ("prior knowledge") is answered in
HTTP/2, and its plaintext server is spoken to so as well. The other way to it, an upgrade from HTTP/1.1, is
not offered on (RFC 9113 did away with it): such a client goes on in HTTP/1.1.
"""

from __future__ import annotations

from typing import Final

from mitmproxy import http, tls
from mitmproxy.proxy import layer, server_hooks

from capture.bare_addons import next_layer

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class NextLayer(next_layer.NextLayer):
    """mitmproxy's choice of the next protocol, with plaintext HTTP/2 seen first."""

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Note HTTP/2 after its preface, wait while it may become one; the choice is mitmproxy's."""
        client, context = bytes(nextlayer.data_client()), nextlayer.context  # type: ignore[no-untyped-call]
        speaks_http1 = context.client.alpn in (None, b"")
        if nextlayer.layer is None and speaks_http1 and client and PREFACE.startswith(client[: len(PREFACE)]):
            if len(client) < len(PREFACE):
                return  # not told from "POST" or "PUT" yet
            context.client.alpn = b"h2"
            context.client.alpn_offers = [b"h2"]
        super().next_layer(nextlayer)


class HttpVersions:
    """Mirrors HTTP's version from one side to the other, and takes back offers to upgrade to h2c."""

    name = "peaktape_http_versions"

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Ask the server first, if it has TLS: its choice of a version is then the client's."""
        data.establish_server_tls_first = data.context.server.tls

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        plain = not data.client.tls and not data.server.tls
        if plain and data.client.alpn == b"h2":
            data.server.alpn = b"h2"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.server_conn.error = None  # a server that was down when the client came gets another try
        headers = flow.request.headers
        if headers.get("upgrade", "").lower() == "h2c":
            for name in ("upgrade", "connection", "http2-settings"):
                headers.pop(name, None)
