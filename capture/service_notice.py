"""What systemd is told of a capture that it started: that it is ready, alive, and stopping (sd_notify(3)).

Without a NOTIFY_SOCKET nobody is told anything. A capture whose recorder does not come up is ready all the
same after a while, since its clients are served, and says so: to be started again would only break them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
RECORDER_PATIENCE_S: Final = 20.0
"""A service that is not ready after TimeoutStartSec (90 s) is ended."""
_LOOK_S: Final = 0.05
_STATUS_S: Final = 10.0

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Listener:
    """Where a service manager listens, "" where there is none; it wants to hear of us every `watchdog_s`."""

    address: str = ""
    watchdog_s: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Listener:
        """The one that the environment names; a watchdog is ours only if it names our process or none."""
        address = environment.get(SOCKET_VARIABLE, "")
        if address and address[0] not in "/@":
            logger.warning("peaktape: %s=%s: no Unix socket, nobody is told", SOCKET_VARIABLE, address)
            address = ""
        limit_us = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = address and is_ours and limit_us.isdigit() and int(limit_us) > 0
        return cls(address, int(limit_us) / 1e6 if watched else None)

    def tell(self, *assignments: str) -> None:
        """Send "NAME=value" assignments as one datagram, without waiting for who takes it."""
        if not self.address:
            return
        path = f"\0{self.address[1:]}" if self.address[0] == "@" else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
            sending.setblocking(False)
            try:
                sending.sendto("\n".join(assignments).encode(), path)
            except OSError as error:
                logger.warning("peaktape: the service manager could not be told: %s", error.strerror)


class ServiceNotice:
    """Tells `listener` of a capture: `begin` in the running loop once it listens, `stopping` at its end.

    `records` says whether the recorder has come up, `status` is a line for a person. The beats that a
    watchdog waits for are the event loop's own: they stop when it does.
    """

    def __init__(self, listener: Listener, records: Callable[[], bool], status: Callable[[], str]) -> None:
        self._listener = listener
        self._records, self._status = records, status
        self._waits_until_s = 0.0

    def begin(self) -> None:
        """Say that the service is ready as soon as it records, and from then on how it is."""
        if self._listener.address:
            self._waits_until_s = time.monotonic() + RECORDER_PATIENCE_S
            self._look()

    def _look(self) -> None:
        records = self._records()
        if records or time.monotonic() >= self._waits_until_s:
            status = "" if records else "clients are served, but the recorder has not come up: "
            self._listener.tell("READY=1", f"STATUS={status}{self._status()}")
            self._beat_later()
        else:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _beat_later(self) -> None:
        within_s = self._listener.watchdog_s
        period_s = _STATUS_S if within_s is None else min(_STATUS_S, within_s / 2)
        asyncio.get_running_loop().call_later(period_s, self._beat)

    def _beat(self) -> None:
        alive = () if self._listener.watchdog_s is None else ("WATCHDOG=1",)
        self._listener.tell(*alive, f"STATUS={self._status()}")
        self._beat_later()

    def stopping(self) -> None:
        """Say that the end has begun: what was seen is being written."""
        self._listener.tell("STOPPING=1", "STATUS=writing what was seen")
