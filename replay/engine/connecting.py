"""How a sender reaches the target: TLS, proxy, socket, timeouts. Values and the TLS context; no traffic."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from capture.failures import BadInput
from replay.engine.target import Target


@dataclasses.dataclass(frozen=True)
class Connecting:
    """The ways and limits of a replay's connections. Timeouts in s; `timeout_s` counts from due (of a
    request that comes later than that, from then).

    `first_byte_timeout_s` counts from sent, None for none. `certificate` is a PEM file with the client's
    certificate (and its key, unless `key` names another file).
    """

    target: Target
    timeout_s: float
    connect_timeout_s: float
    first_byte_timeout_s: float | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    proxy_addresses: tuple[str, ...] = ()
    """The proxy's IP addresses that the target guard has vetted; a sender connects to no others."""
    unix_socket: str | None = None

    @property
    def dialled_addresses(self) -> tuple[str, ...]:
        """Where connections go: to the proxy if there is one, else to the target."""
        return self.proxy_addresses if self.proxy is not None else self.target.addresses

    @property
    def way(self) -> str:
        """What a failure to connect names: the option whose address did not answer."""
        if self.proxy is not None:
            return f"--proxy {proxy_target(self.proxy).base_url}"
        if self.unix_socket is not None:
            return f"--unix-socket {self.unix_socket}"
        return f"--target {self.target.base_url}"

    def check(self, sender: str) -> None:
        """Raise `BadInput` for what can't go together."""
        if self.proxy is not None:
            proxy_target(self.proxy)
        if self.proxy is not None and sender == "wire":
            raise BadInput("--proxy: the wire sender knows no proxies; leave --sender out, or choose session")
        if self.proxy is not None and self.unix_socket is not None:
            raise BadInput("--proxy: goes not with --unix-socket; leave one of them out")
        if (self.ca or self.certificate) and self.target.scheme != "https":
            raise BadInput("--ca and --client-cert: the target is plain http; name an https target")
        if self.key is not None and self.certificate is None:
            raise BadInput("--client-key: no --client-cert that it belongs to; name both")

    def tls(self) -> ssl.SSLContext | None:
        """The context of https connections, None for http; raises `BadInput` for unusable files."""
        if self.target.scheme != "https":
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"--ca {self.ca}: {_reason(error)}; a PEM file of certificates wanted") from error
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, self._no_passphrase)
            except (OSError, ssl.SSLError) as error:
                raise BadInput(
                    f"--client-cert {self.certificate}: {_reason(error)}; a PEM file with certificate and "
                    "key wanted, or the key's own file with --client-key"
                ) from error
        return context

    def _no_passphrase(self) -> str:
        # Without this, OpenSSL asks for it at the terminal, in each worker.
        raise BadInput(
            f"--client-key {self.key or self.certificate}: the key is encrypted, one without a passphrase "
            "wanted; decrypt it with `openssl pkey`"
        )


def proxy_target(text: str) -> Target:
    """ "http://[USER:PASSWORD@]HOST:PORT" → where the proxy is, no credentials in it; raises `BadInput`."""
    try:
        parts = urlsplit(text)
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 80
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        found = without_credentials(text)
        raise BadInput(f"--proxy: {found!r} found, http://HOST:PORT wanted, e.g. http://127.0.0.1:3128")
    return Target("http", parts.hostname, port)


def without_credentials(url: str) -> str:
    """The URL without what stands before an "@"."""
    scheme, found, rest = url.rpartition("://")
    return scheme + found + rest.rpartition("@")[2]


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
