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
_LOCAL_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215


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
    def tls_name(self) -> str:
        """The name that a certificate must bear: certificates know no dot at the end (RFC 6125)."""
        return self.host.rstrip(".")

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
    """ "host[:port]" → (host, port), as lower case without brackets; what is no authority is all host."""
    try:
        parts = urlsplit(f"//{authority}")
    except ValueError:  # a bracket that nothing closes, for one
        return authority.lower(), default_port
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
    """The addresses that "HOST:PORT:ADDRESS" texts give the target; empty without any text.

    The form is curl's `--resolve`; an IPv6 address may stand in brackets. Raises `BadInput`, also when none
    is for the target: it would be looked up by DNS then, and lead elsewhere than was asked.
    """
    pins = tuple(pins)
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
        if (_name(host), int(port)) == (_name(target.host), target.port):
            found.add(str(ip))
    if pins and not found:
        raise BadInput(f"--resolve {pins[0]!r}: not for the target; {target.authority}:ADDRESS wanted")
    if found and _literal(target.host) is not None:
        raise BadInput(f"--resolve: the target {target.host} is an address already; leave one of them out")
    return frozenset(found)


@dataclass(frozen=True)
class Guard:
    """What a replay may not be fired at without the user's word, and the words that were given.

    `captured` are the (host, port) pairs the trace was captured from, `captured_addresses` the (IP, port)
    pairs behind them.
    """

    captured: frozenset[tuple[str, int]]
    captured_addresses: frozenset[tuple[str, int]] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    allow_captured_host: bool = False

    def check(self, target: Target, addresses: Iterable[str], option: str = "--target") -> None:
        """Raise `TargetRefused` unless a replay may fire at `target`, `BadInput` if it has no address.

        `addresses` are the target's IPs. `option` is what named it: a proxy is checked like a target, since
        all the load goes to it first.
        """
        addresses = tuple(addresses)
        where = f"{option} {target.base_url}"
        if not addresses:
            raise BadInput(f"{where}: {target.host} does not resolve; correct the name")
        self._refuse_captured(where, target, addresses)
        open_to_all = [address for address in addresses if not _is_near(_unmapped(address))]
        if open_to_all and not self._is_allowed(target):
            raise TargetRefused(
                f"{where}: {open_to_all[0]} is a public address; "
                f"add --allow-host {target.host} if you may send this load there"
            )

    def check_behind_proxy(self, target: Target, addresses: Iterable[str]) -> None:
        """Raise `TargetRefused` unless a replay may ask a proxy for `target`.

        The proxy looks its name up, maybe elsewhere than here: so a name needs the user's word, whatever
        `addresses` it has here. They still tell the captured host.
        """
        literal = _literal("127.0.0.1" if _name(target.host) == "localhost" else target.host)
        if literal is not None:
            self.check(target, [str(literal)])
            return
        where = f"--target {target.base_url}"
        self._refuse_captured(where, target, addresses)
        if not self._is_allowed(target):
            raise TargetRefused(
                f"{where}: the proxy looks {target.host} up, so where it leads can't be seen from here; "
                f"add --allow-host {target.host} if you may send this load there"
            )

    def check_socket(self, target: Target) -> None:
        """Raise `TargetRefused` when the target of a Unix socket bears the name of a captured host.

        The socket is a file of this machine, but may be the end of a tunnel. It has no port, so servers of
        this machine can't be told apart.
        """
        if _place(target.host, target.port)[0] != LOOPBACK:
            self._refuse_captured(f"--target {target.base_url}", target, ())

    def _refuse_captured(self, where: str, target: Target, addresses: Iterable[str]) -> None:
        here = {_place(host, target.port) for host in (target.host, *addresses)}
        taboo = {_place(*place) for place in (*self.captured, *self.captured_addresses)}
        if here & taboo and not self.allow_captured_host:
            raise TargetRefused(
                f"{where}: the trace was captured from this host; aim at staging, "
                "or add --allow-captured-host if this really is no production"
            )

    def _is_allowed(self, target: Target) -> bool:
        allowed = {_name(host) for host in self.allowed_hosts}
        return bool({_name(target.host), _name(target.authority)} & allowed)


def _name(host: str) -> str:
    """A host's name in the one form in which two are the same: lower case, no dot at its end, punycode."""
    host = host.lower().rstrip(".")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _place(host: str, port: int) -> tuple[str, int | None]:
    """What makes two addresses the same host: the name, and on this machine, which holds many, the port."""
    try:
        ip = _unmapped(host)
    except ValueError:
        return (LOOPBACK, port) if _name(host) == "localhost" else (_name(host), None)
    return (LOOPBACK, port) if ip.is_loopback or ip.is_unspecified else (str(ip), None)


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address)
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def _is_near(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and (ip.teredo or ip in _LOCAL_NAT64):
        return False  # counted as private, but an IPv4 address of anywhere is behind it
    return ip.is_loopback or ip.is_private or ip.is_link_local
