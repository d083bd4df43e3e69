"""The target guard: may a replay fire at this address? Pure decisions; `resolve` is the only I/O.

A replay is a load test: aimed at production by accident it is an outage. So: never at the host the trace
came from, and never at a public host unless the user says its name twice.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from capture.failures import BadInput, TargetRefused

LOOPBACK: Final = "this machine"


@dataclass(frozen=True)
class Target:
    """Where to fire: scheme, host, port, and a path prefix (without a trailing slash)."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    addresses: tuple[str, ...] = ()
    """The IP addresses behind the host that the guard has vetted; a sender connects to no others."""

    @property
    def authority(self) -> str:
        """ "host:port", an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """What the Host header says: without the port where it is the scheme's own (RFC 9110, 7.2)."""
        default = 443 if self.scheme == "https" else 80
        return self.authority.rpartition(":")[0] if self.port == default else self.authority

    @property
    def base_url(self) -> str:
        """The URL that a recorded path is appended to."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_target(text: str) -> Target:
    """ "http://127.0.0.1:9000[/prefix]" → Target; raises `BadInput`."""
    wanted = "http://HOST[:PORT][/PREFIX] or https://… wanted"
    try:
        parts: SplitResult = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"--target: {text!r} found ({error}), {wanted}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"--target: {text!r} found, {wanted}")
    if parts.query or parts.fragment or parts.username is not None:
        raise BadInput(f"--target: {text!r} holds a query, a fragment or credentials; {wanted}")
    default = 443 if parts.scheme == "https" else 80
    return Target(parts.scheme, parts.hostname, port or default, parts.path.rstrip("/"))


def split_authority(authority: str, default_port: int) -> tuple[str, int]:
    """ "host[:port]" → (host, port), as lower case without brackets."""
    parts = urlsplit(f"//{authority}")
    try:
        port = parts.port
    except ValueError:
        port = None
    return (parts.hostname or authority).lower(), port or default_port


def resolve(host: str, port: int) -> frozenset[str]:
    """IP addresses of a host; empty when its name does not resolve."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(str(entry[4][0]).split("%")[0] for entry in found)


def pinned_addresses(pins: Iterable[str], target: Target) -> frozenset[str]:
    """The addresses that "HOST:PORT:ADDRESS" texts give the target; empty when none is for it; `BadInput`.

    The form is curl's `--resolve`; an IPv6 address may stand in brackets.
    """
    found = set()
    for text in pins:
        host, _, rest = text.partition(":")
        port, _, address = rest.partition(":")
        try:
            ip = ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            ip = None
        if not host or not port.isdecimal() or ip is None:
            raise BadInput(f"--resolve {text!r} found, HOST:PORT:ADDRESS wanted, e.g. api.test:443:10.0.0.7")
        if (host.lower(), int(port)) == (target.host.lower(), target.port):
            found.add(str(ip))
    return frozenset(found)


def check_target(
    target: Target,
    addresses: Iterable[str],
    captured: Iterable[tuple[str, int]],
    captured_addresses: Iterable[tuple[str, int]],
    *,
    allowed_hosts: Iterable[str] = (),
    allow_captured_host: bool = False,
) -> None:
    """Raise `TargetRefused` unless a replay may fire at `target`.

    `addresses` are the target's IPs; `captured` the (host, port) pairs the trace was captured from and
    `captured_addresses` the (IP, port) pairs behind them.
    """
    addresses = tuple(addresses)
    if not addresses:
        raise BadInput(f"--target {target.base_url}: {target.host} does not resolve; correct the name")
    here = {_place(host, target.port) for host in (target.host, *addresses)}
    if here & {_place(*place) for place in (*captured, *captured_addresses)} and not allow_captured_host:
        raise TargetRefused(
            f"--target {target.base_url}: the trace was captured from this host; aim at staging, "
            "or add --allow-captured-host if this really is no production"
        )
    open_to_all = [address for address in addresses if not _is_near(_unmapped(address))]
    allowed = {host.lower() for host in allowed_hosts}
    if open_to_all and target.host.lower() not in allowed and target.authority.lower() not in allowed:
        raise TargetRefused(
            f"--target {target.base_url}: {open_to_all[0]} is a public address; "
            f"add --allow-host {target.host} if you may send this load there"
        )


def _place(host: str, port: int) -> tuple[str, int | None]:
    """What makes two addresses the same host: the name, and on this machine, which holds many, the port."""
    try:
        ip = _unmapped(host)
    except ValueError:
        return (LOOPBACK, port) if host.lower() == "localhost" else (host.lower(), None)
    return (LOOPBACK, port) if ip.is_loopback or ip.is_unspecified else (str(ip), None)


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address)
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def _is_near(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return ip.is_loopback or ip.is_private or ip.is_link_local
