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
    """The ways and limits of a replay's connections. Timeouts in s; `timeout_s` counts from due.

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
    unix_socket: str | None = None

    def check(self, sender: str) -> None:
        """Raise `BadInput` for what can't go together."""
        if self.proxy is not None and urlsplit(self.proxy).scheme != "http":
            raise BadInput(f"--proxy: {self.proxy!r} found, http://HOST:PORT wanted")
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
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise BadInput(
                    f"--client-cert {self.certificate}: {_reason(error)}; a PEM file with certificate and "
                    "key wanted, or the key's own file with --client-key"
                ) from error
        return context


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
