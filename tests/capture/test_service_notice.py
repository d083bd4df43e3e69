"""What a service manager hears, on real datagram sockets (sd_notify(3)), and when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture import service_notice
from capture.service_notice import Listener, ServiceNotice


@contextlib.contextmanager
def manager(name: str) -> Iterator[socket.socket]:
    """A service manager's socket, in the file system or (@name) an abstract one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.setblocking(False)
        yield listening


def heard(listening: socket.socket) -> list[list[str]]:
    """All that has come, a list of assignments for each datagram."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listening.recv(4096).decode().split("\n"))
    return found


@pytest.fixture(params=["file", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "n") if request.param == "file" else f"@peaktape-{secrets.token_hex(8)}"


def test_one_datagram_has_all_that_is_told_at_once(address: str) -> None:
    with manager(address) as listening:
        Listener.of({"NOTIFY_SOCKET": address}).tell("READY=1", "STATUS=seen 0")
        assert heard(listening) == [["READY=1", "STATUS=seen 0"]]


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
    ids=["ours, unnamed", "ours by name", "another's", "none", "nonsense", "unset"],
)
def test_a_watchdog_is_heeded_if_it_is_ours(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Listener.of({"NOTIFY_SOCKET": "/n", **environment}).watchdog_s == watchdog_s


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_nobody_is_told_where_nobody_listens(address: str) -> None:
    listener = Listener.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    assert listener == Listener()
    listener.tell("READY=1")


def test_a_manager_that_is_gone_or_takes_nothing_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Listener(str(tmp_path / "gone")).tell("READY=1")
        with manager(str(tmp_path / "n")):
            for _ in range(1000):  # more than its queue takes
                Listener(str(tmp_path / "n")).tell("READY=1")
    assert "could not be told: No such file" in caplog.messages[0]
    assert any("temporarily unavailable" in line for line in caplog.messages)


async def test_ready_is_said_once_the_recorder_is_there_then_the_loop_beats(tmp_path: Path) -> None:
    here: list[int] = []
    with manager(str(tmp_path / "n")) as listening:
        notice = ServiceNotice(Listener(str(tmp_path / "n"), 0.02), lambda: bool(here), lambda: "seen 7")
        notice.begin()
        await asyncio.sleep(0.1)
        assert heard(listening) == []
        here.append(1)
        await asyncio.sleep(0.15)
        first, *beats = heard(listening)
        assert first == ["READY=1", "STATUS=seen 7"]
        assert beats
        assert all(beat == ["WATCHDOG=1", "STATUS=seen 7"] for beat in beats)
        notice.stopping()
        assert heard(listening)[-1][0] == "STOPPING=1"


async def test_clients_are_served_without_a_recorder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_notice, "RECORDER_PATIENCE_S", 0.0)
    with manager(str(tmp_path / "n")) as listening:
        ServiceNotice(Listener(str(tmp_path / "n")), lambda: False, lambda: "seen 7").begin()
        ((event, status),) = heard(listening)
    assert event == "READY=1"
    assert "has not come up: seen 7" in status
