"""One connection opened before a replay, as its senders will: is the target there, and how far is it?"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import time
from typing import Final
from urllib.parse import unquote, urlsplit

from capture.failures import BadInput
from replay.engine.connecting import Connecting, proxy_target

ALERT_WAIT_S: Final = 0.05
MOST_HEAD_BYTES: Final = 65536


def connect_time_ns(connecting: Connecting) -> int:
    """Time to open one connection in ns: TCP, a proxy's tunnel, TLS. Raises `BadInput` when it can't be.

    Also when the server closes it with a TLS alert: one that wants a client certificate does so just then.
    """
    target, context = connecting.target, connecting.tls()
    began_ns = time.monotonic_ns()
    try:
        with _opened(connecting) as plain:
            if context is None:
                return time.monotonic_ns() - began_ns
            if connecting.proxy is not None:
                _tunnel(plain, connecting)
            with context.wrap_socket(plain, server_hostname=target.tls_name) as wrapped:
                took_ns = time.monotonic_ns() - began_ns
                _await_alert(wrapped, took_ns)
                return took_ns
    except ssl.SSLError as error:
        raise BadInput(f"--target {target.base_url}: {_tls_failure(error, target.host)}") from error
    except (OSError, UnicodeError) as error:
        found = f"can't connect ({'no answer' if isinstance(error, TimeoutError) else error})"
        raise BadInput(f"{connecting.way}: {found}; start it or correct the address") from error


def _opened(connecting: Connecting) -> socket.socket:
    timeout_s = connecting.connect_timeout_s
    if connecting.unix_socket is not None:
        with contextlib.ExitStack() as on_failure:
            unix = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            unix.settimeout(timeout_s)
            unix.connect(connecting.unix_socket)
            on_failure.pop_all()
            return unix
    port = proxy_target(connecting.proxy).port if connecting.proxy is not None else connecting.target.port
    *others, last = connecting.dialled_addresses
    for address in others:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), timeout=timeout_s)
    return socket.create_connection((last, port), timeout=timeout_s)


def _tunnel(plain: socket.socket, connecting: Connecting) -> None:
    """Have the proxy connect to the target (RFC 9110, 9.3.6); raises `BadInput` when it refuses."""
    authority = connecting.target.authority
    parts = urlsplit(connecting.proxy or "")
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
    plain.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MOST_HEAD_BYTES:
        # By the byte: what follows the head is the target's, and for TLS to read.
        if not (data := plain.recv(1)):
            break
        head += data
    status = head.partition(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise BadInput(
            f"{connecting.way}: {status or 'nothing'!r} found when asked for {authority}, 200 wanted; "
            "is it an HTTP proxy that may connect there?"
        )


def _await_alert(wrapped: ssl.SSLSocket, took_ns: int) -> None:
    """In TLS 1.3 a client is done before the server has looked at its certificate: listen for a moment."""
    wrapped.settimeout(min(1.0, max(ALERT_WAIT_S, 2 * took_ns / 1e9)))
    try:
        wrapped.recv(1)
    except ssl.SSLEOFError:
        return
    except ssl.SSLError:
        raise
    except OSError:  # nothing came, as it should be; or the server has little patience
        return


def _tls_failure(error: ssl.SSLError, host: str) -> str:
    """What was found, and the way out, as far as the error tells."""
    if isinstance(error, ssl.SSLCertVerificationError):
        found = error.verify_message.rstrip(".")
        if "mismatch" in found:
            return (
                f"the certificate is not for {host} ({found}); name the host as its certificate does, "
                "and say with --resolve where it is"
            )
        return f"the certificate is not trusted ({found}); name the authority that issued it with --ca"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"the server broke TLS off ({reason}); if it wants a client certificate, add --client-cert"
    return f"no TLS ({reason}); is it an http:// target?"
