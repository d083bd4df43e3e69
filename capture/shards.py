"""Further proxies beside the first, one process each on the same address: the kernel deals out connections.

All hand over to one recorder, so their requests are one trace. `Shards` is the first proxy's view of them;
run as a program this module is one of them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from capture.capture_facts import CaptureFacts
from capture.child_processes import child_environment, leave_to_the_parent
from capture.handover import REPORT_S, Handover
from capture.periodic import every
from capture.proxy import ProxyOptions, run_proxy
from capture.recorder_process import FACTS_NAME

_CHECK_S: Final = 0.2
_START_S: Final = 30.0

logger = logging.getLogger(__name__)


class Shards:
    """So many further proxies; one that dies is replaced."""

    def __init__(self, count: int, facts: CaptureFacts, chosen: ProxyOptions) -> None:
        self._facts = facts
        self._chosen = dataclasses.replace(chosen, parent_pid=os.getpid())
        self._running: list[subprocess.Popen[bytes]] = []
        self._names = iter(range(1, 1 << 30))
        self._count = count
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peaktape-shards", daemon=True)

    def start(self, port: int) -> None:
        """Start them on the port that the first proxy has got; returns when all listen, or are late."""
        self._chosen = dataclasses.replace(self._chosen, listen_port=port)
        self._running = [self._begin() for _ in range(self._count)]
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s and not all(map(self._listens, self._running)):
            time.sleep(0.02)
        self._thread.start()

    def stop(self) -> None:
        """End them in order, and wait: all they saw is handed over then."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        for shard in self._running:
            shard.terminate()
        for shard in self._running:
            shard.wait()

    def _begin(self) -> subprocess.Popen[bytes]:
        told = {"name": f"proxy-{next(self._names)}", "proxy": dataclasses.asdict(self._chosen)}
        return subprocess.Popen(
            [sys.executable, "-m", "capture.shards", str(self._facts.spool), json.dumps(told, default=str)],
            env=child_environment(),
            start_new_session=True,  # Ctrl-C is the first proxy's, which ends the others
        )

    def _listens(self, shard: subprocess.Popen[bytes]) -> bool:
        return shard.poll() is not None or (self._facts.spool / f"{shard.pid}.listens").exists()

    def _watch(self) -> None:
        while not self._stopping.wait(_CHECK_S):
            for at, shard in enumerate(self._running):
                if shard.poll() is not None:
                    logger.warning("peaktape: one of the proxies died; another is started in its place")
                    try:
                        self._running[at] = self._begin()
                    except OSError as error:  # tried again
                        logger.warning("peaktape: a proxy can't be started: %s", error)


def proxy_options_of(found: dict[str, Any]) -> ProxyOptions:
    """The options that `dataclasses.asdict` took apart, paths as text."""
    for name in ("upstream_ca", "certificates"):
        found[name] = None if found[name] is None else Path(found[name])
    return ProxyOptions(**found)


def main() -> None:
    """Serve as one of several proxies until SIGTERM, or until the first one is gone."""
    leave_to_the_parent(signal.SIGUSR1, signal.SIGUSR2)  # the first proxy turns the switch for all
    spool, told = Path(sys.argv[1]), json.loads(sys.argv[2])
    facts = CaptureFacts.from_json((spool / FACTS_NAME).read_bytes(), str(spool / FACTS_NAME))
    handover = Handover(facts, told["name"])
    listens = spool / f"{os.getpid()}.listens"
    with every(REPORT_S, handover.report, "peaktape-report"):
        run_proxy(proxy_options_of(told["proxy"]), handover, lambda address: listens.touch())
    handover.close()


if __name__ == "__main__":
    main()
