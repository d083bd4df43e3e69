"""Starts mitmproxy as a capture proxy: our own small `Master`, only the addons that are needed, on uvloop.

Nothing of what is captured is decided here: that is the addon's and the recorder's. See `addon` for running
inside a mitmproxy of your own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from mitmproxy import certs, options
from mitmproxy.net.http import http1
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import _http1

from capture import flow_control, http1_framing, http1_layers, network_reads
from capture.addon import CaptureAddon
from capture.addresses import not_bound
from capture.bare_addons import Master, core, proxyserver, tlsconfig
from capture.connections import Connections, Reachability
from capture.descriptors import DescriptorWatch, allow_many_files
from capture.direct_hooks import DirectAddons, direct_hooks
from capture.event_loop import new_loop, shared_port_loop
from capture.failures import BadInput
from capture.handover import Handover
from capture.http_versions import HttpVersions, NextLayer
from capture.log_limits import AlikeFilter
from capture.structured_log import stderr_handler

IDLE_TIMEOUT_S: Final = 24 * 3600
"""mitmproxy closes silent connections after 10 minutes; a long generation may be silent for longer."""
KEY_BITS: Final = 2048
"""Of the proxy's own certificate authority; what mitmproxy makes."""
_COLLECT_S: Final = 5.0
_PARENT_CHECK_S: Final = 0.25


@dataclasses.dataclass(frozen=True)
class ProxyOptions:
    """Where the proxy listens and where it sends to; `upstream` None makes it a regular proxy.

    `upstream_ca` is a PEM file to trust for an https upstream besides nothing else; `certificates` is the
    folder of the proxy's own certificate authority. With `parent_pid` the proxy ends, as on SIGTERM, once
    that process is its parent no more. With `shared_port` several proxies may listen on the same address.
    """

    listen_host: str
    listen_port: int
    upstream: str | None = None
    keep_host_header: bool = True
    upstream_ca: Path | None = None
    certificates: Path | None = None
    parent_pid: int | None = None
    shared_port: bool = False


def run_proxy(chosen: ProxyOptions, recorder: Handover | None, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the address that is listened on, "http://host:port".

    Every request seen has been handed to `recorder` when this returns; without one it is passed on and that
    is all. Raises `BadInput` when the address
    can't be listened on.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_certificate_folder(chosen.certificates))
        if chosen.shared_port:
            _refuse_taken(chosen)
        stack.enter_context(direct_hooks())
        stack.enter_context(_own_http())
        allow_many_files()
        runner = stack.enter_context(
            asyncio.Runner(loop_factory=shared_port_loop if chosen.shared_port else new_loop)
        )
        runner.run(_serve(chosen, recorder, on_ready, folder))


@contextlib.contextmanager
def _own_http() -> Iterator[None]:
    """While this lasts, connections and their framing are ours, where mitmproxy looks its own up."""
    ours: tuple[tuple[Any, str, Any], ...] = (
        (http_layers, "Http1Server", http1_layers.Http1Server),
        (http_layers, "Http1Client", http1_layers.Http1Client),
        (http_layers, "Http2Server", flow_control.Http2Server),
        (http_layers, "Http2Client", flow_control.Http2Client),
        (http_layers, "validate_headers", http1_framing.check),
        (http1, "expected_http_body_size", http1_framing.body_bytes),
        (http1, "connection_close", http1_framing.ends_connection),
        (_http1, "make_error_response", http1_framing.refusal),
    )
    before = [getattr(place, name) for place, name, _ in ours]
    for place, name, own in ours:
        setattr(place, name, own)
    try:
        yield
    finally:
        for (place, name, _), own in zip(ours, before, strict=True):
            setattr(place, name, own)


def refuse_no_authority(file: Path | None) -> None:
    """Raise `BadInput` when `file` holds no certificate to trust: every request would be a 502."""
    if file is None:
        return
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error
        raise BadInput(f"--upstream-ca {file}: {reason}; a PEM file of certificates wanted") from error


def _refuse_taken(chosen: ProxyOptions) -> None:
    """Raise `BadInput` when somebody listens there who isn't one of ours: the kernel would not say so."""
    if chosen.parent_pid == os.getppid() or not chosen.listen_port:
        return
    family = socket.AF_INET6 if ":" in chosen.listen_host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((chosen.listen_host, chosen.listen_port))
        except OSError as error:
            raise not_bound("--listen", chosen.listen_host, chosen.listen_port, error) from error


class _BindCheck:
    """Stands where mitmproxy looks for its `errorcheck`: a failed bind becomes one line and exit code 2."""

    name = "errorcheck"

    def __init__(self, servers: proxyserver.Proxyserver, chosen: ProxyOptions) -> None:
        self._servers = servers
        self._chosen = chosen

    async def shutdown_if_errored(self) -> None:
        for server in self._servers.servers:
            error = server.last_exception
            if error is not None:
                raise not_bound("--listen", self._chosen.listen_host, self._chosen.listen_port, error)

    def finish(self) -> None:
        """Nothing to undo."""


async def _serve(
    chosen: ProxyOptions, recorder: Handover | None, on_ready: Callable[[str], None], folder: Path
) -> None:
    master = Master(options.Options())
    master.addons = DirectAddons(master)
    servers = proxyserver.Proxyserver()  # type: ignore[no-untyped-call]
    addons = (
        [CaptureAddon(recorder, network_reads.read_number, network_reads.event_ns)]
        if recorder is not None
        else []
    )
    master.addons.add(  # type: ignore[no-untyped-call]
        core.Core(),
        servers,
        NextLayer(),
        tlsconfig.TlsConfig(),
        _BindCheck(servers, chosen),
        *addons,
        HttpVersions(),
        Connections(servers),
        Reachability(),
        _Ready(servers, on_ready),
    )
    try:
        master.options.update(**_mitmproxy_options(chosen, folder))  # type: ignore[no-untyped-call]
        with _signals_end(master), _quiet_until_ready():
            tasks = (_end_with_parent(master, chosen.parent_pid), _collect_often())
            besides = [asyncio.create_task(task) for task in tasks]
            await master.run()
            for beside in besides:
                beside.cancel()
    finally:
        for addon in addons:
            addon.done()


def _mitmproxy_options(chosen: ProxyOptions, folder: Path) -> dict[str, Any]:
    return {
        "mode": [f"reverse:{chosen.upstream}" if chosen.upstream else "regular"],
        "listen_host": chosen.listen_host,
        "listen_port": chosen.listen_port,
        "keep_host_header": chosen.keep_host_header,
        "ssl_verify_upstream_trusted_ca": str(chosen.upstream_ca) if chosen.upstream_ca else None,
        "confdir": str(folder),
        "connection_strategy": "lazy",  # "eager" hides the requests made while the upstream is down
        "http3": False,
        "websocket": False,  # upgraded connections pass raw: their bytes stay as they are
        "rawtcp": True,
        "tcp_timeout": IDLE_TIMEOUT_S,
    }


class _Ready:
    """Says where the proxy listens once it does, and settles the memory that start-up left."""

    def __init__(self, servers: proxyserver.Proxyserver, on_ready: Callable[[str], None]) -> None:
        self._servers = servers
        self._on_ready = on_ready

    def running(self) -> None:
        # Full collections are what stalls a proxy for tens of ms: leave start-up's objects out of them, and
        # have them when there is little to look through (`_collect_often`).
        gc.collect()
        gc.freeze()
        gc.set_threshold(2000, 10, 1_000_000)
        host, port, *_ = self._servers.listen_addrs()[0]
        self._on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


@contextlib.contextmanager
def _signals_end(master: Master) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    # The writer thread gives the interpreter back after 0.5 ms instead of 5: clients feel it less.
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)


async def _end_with_parent(master: Master, parent_pid: int | None) -> None:
    while parent_pid is not None:
        if os.getppid() != parent_pid:  # polled: works on every system, and needs nobody's last word
            master.shutdown()  # type: ignore[no-untyped-call]
            return
        await asyncio.sleep(_PARENT_CHECK_S)


async def _collect_often() -> None:
    """What few cycles each request leaves is collected before it is much: a pause of a ms, not of tens."""
    descriptors = DescriptorWatch()
    while True:
        await asyncio.sleep(_COLLECT_S)
        gc.collect()
        descriptors.look()


@contextlib.contextmanager
def _quiet_until_ready() -> Iterator[None]:
    """mitmproxy's warnings go to stderr in one line each; a failed bind is told by `_BindCheck` alone."""
    root = logging.getLogger()
    handler = stderr_handler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: "failed to listen" not in record.getMessage())
    handler.addFilter(AlikeFilter())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


@contextlib.contextmanager
def _certificate_folder(chosen: Path | None) -> Iterator[Path]:
    """The folder of the proxy's certificate authority: kept between captures, unless it can't be.

    Raises `BadInput` when a chosen one holds none and takes none.
    """
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    folder = chosen or Path(base) / "peaktape" / "mitmproxy"
    trouble = _trouble_with_authority(folder)
    if not trouble:
        yield folder
        return
    if chosen:
        raise BadInput(f"--certificates {folder}: {trouble}; choose another folder")
    with tempfile.TemporaryDirectory(prefix="peaktape-") as temporary:
        yield Path(temporary)


def _trouble_with_authority(folder: Path) -> str:
    """Why the authority in `folder` can't be used, or made where there is none; "" when it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        certs.CertStore.from_store(folder, "mitmproxy", KEY_BITS)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:
        return "its mitmproxy-ca.pem can't be used"
    return ""
