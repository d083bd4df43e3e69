"""Where a capture listens and where it sends to: as they are typed, and what to do when one can't be had."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final
from urllib.parse import urlsplit

from capture.failures import BadInput, first_line

_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_EVERYWHERE: Final = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound to
_EXAMPLES: Final = {"--metrics": "127.0.0.1:9464"}


def parse_listen(text: str, place: str = "--listen") -> tuple[str, int]:
    """(host, port) of "host:port", ":port" or "port"; raises `BadInput`. Port 0 means any free one."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise BadInput(f"{place} {text}: HOST:PORT wanted, such as {_EXAMPLES.get(place, '127.0.0.1:8080')}")
    return host or "127.0.0.1", int(port)


def parse_upstream(text: str) -> tuple[str, str]:
    """("http://host:port", "host:port") of an upstream's URL; raises `BadInput`."""
    wanted = "http://HOST:PORT or https://HOST wanted, for example http://127.0.0.1:8000"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"--upstream {text}: {error}; {wanted}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"--upstream {text}: {wanted}")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise BadInput(f"--upstream {text}: no path, query or user can stand in it; {wanted}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"
    return f"{parts.scheme}://{authority}", authority


def refuse_itself(upstream: str, host: str, port: int) -> None:
    """Raise `BadInput` when the proxy that listens at `host`:`port` would be its own `upstream` (a URL)."""
    parts = urlsplit(upstream)
    here = _LOOPBACK if host in _LOOPBACK | _EVERYWHERE else {host}
    if parts.port == port and parts.hostname in here | {host}:
        raise BadInput(
            f"--upstream {upstream}: the proxy itself listens there; name the server behind it, "
            "or another address in --listen"
        )


def not_bound(place: str, host: str, port: int, error: BaseException) -> BadInput:
    """The refusal that says why nobody can listen at `host`:`port`, which `place` named, and the way out."""
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    text = first_line(error)
    if number is None or number <= 0:  # the resolver's, "[Errno -2] Name or service not known"
        reason, way_out = text.rpartition("] ")[2], "choose a name or an address of this machine"
    elif number == errno.EADDRNOTAVAIL:
        reason, way_out = os.strerror(number), "choose an address of this machine, or 0.0.0.0 for all"
    elif number == errno.EACCES:
        reason, way_out = os.strerror(number), "choose a port above 1023, or have CAP_NET_BIND_SERVICE"
    else:
        reason, way_out = os.strerror(number), "choose another port, or 0 for a free one"
    return BadInput(f"{place} {host}:{port}: {reason}; {way_out}")
