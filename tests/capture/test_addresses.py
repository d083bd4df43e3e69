"""Addresses as they are typed, what of them is refused and how, and who says that nothing is reached."""

from __future__ import annotations

import errno
import logging
import os
import socket

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test.tflow import tclient_conn, tserver_conn

from capture.addresses import not_bound, parse_listen, refuse_itself
from capture.connections import Reachability
from capture.descriptors import DescriptorWatch
from capture.failures import BadInput


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses_to_listen_on(text: str, meant: tuple[str, int]) -> None:
    assert parse_listen(text) == meant


@pytest.mark.parametrize("text", ["", "host", "host:", "host:65536", "host:-1", "host:²"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match=r"--metrics .*such as 127\.0\.0\.1:9464"):
        parse_listen(text, "--metrics")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
@pytest.mark.parametrize("upstream", ["http://127.0.0.1:8080", "https://localhost:8080", "http://[::1]:8080"])
def test_a_proxy_before_itself_is_refused(host: str, upstream: str) -> None:
    with pytest.raises(BadInput, match="the proxy itself listens there"):
        refuse_itself(upstream, host, 8080)
    refuse_itself(upstream, host, 8081)
    refuse_itself("http://server:8080", host, 8080)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "Address already in use; choose another port, or 0"),
        (
            OSError(errno.EADDRNOTAVAIL, "n"),
            "Cannot assign requested address; choose an address of this",
        ),
        (OSError(errno.EACCES, "no"), "Permission denied; choose a port above 1023"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known; choose a name or"),
    ],
)
def test_the_way_out_is_that_of_the_reason(error: OSError, told: str) -> None:
    assert str(not_bound("--listen", "h", 80, error)).startswith(f"--listen h:80: {told}")


def test_few_descriptors_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    for limit, warned in ((10 * free, 0), (free + 1, 1)):
        caplog.clear()
        watch = DescriptorWatch(limit)
        for _ in range(2):
            watch.look()
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * warned
        assert all("raise the limit" in record.getMessage() for record in caplog.records)


def test_a_server_that_is_away_is_told_of_once_and_that_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    server = tserver_conn()
    server.error = "[Errno 111] Connection refused"
    data = ServerConnectionHookData(server, tclient_conn())
    reachability = Reachability()
    for _ in range(3):
        reachability.server_connect_error(data)
    for _ in range(2):
        reachability.server_connected(data)
    reachability.server_connect_error(data)
    assert server.address is not None
    place = "{}:{}".format(*server.address)
    away = f"peaktape: {place} can't be reached, clients get 502 until it can: Connection refused"
    back = f"peaktape: {place} can be reached again"
    assert [record.getMessage() for record in caplog.records] == [away, back, away]
