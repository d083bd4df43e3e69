"""A capture's end of sending its segments to a store: the process that does it, and what that one counts.

The process is started again when it dies. Whatever happens here, segments stay in the outbox until the store
has them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from capture.child_processes import child_environment, close_pipes, interrupts_held, last_told
from capture.counts import UploadCounts
from capture.upload_process import DRAIN, UploadOrder

_CHECK_S: Final = 0.1
_RESTART_S: Final = 1.0

logger = logging.getLogger(__name__)


class Sending:
    """Has `order` carried out from `start` to `finish` or `stop`; `counts` may be asked by anyone."""

    def __init__(self, order: UploadOrder) -> None:
        self._order = order
        self._before = UploadCounts()  # of processes that died
        self._status = UploadCounts()
        self._told_at_s = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peaktape-sending", daemon=True)

    def start(self) -> None:
        """Begin with what waits already."""
        self._start_process()
        self._thread.start()

    def counts(self) -> UploadCounts:
        """How it stands."""
        before, now = self._before, self._status
        return dataclasses.replace(
            now,
            sent_segments=before.sent_segments + now.sent_segments,
            sent_bytes=before.sent_bytes + now.sent_bytes,
            failures=before.failures + now.failures,
            expired=dict(Counter(before.expired) + Counter(now.expired)),
            silent_s=max(0.0, time.monotonic() - self._told_at_s),
        )

    def stop(self) -> None:
        """End it at once; what is not sent waits for the next time."""
        if self._thread.ident is not None and not self._stopping.is_set():
            self._stopping.set()
            self._thread.join()
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            close_pipes(process)
            self._process = None

    def finish(self, show: Callable[[UploadCounts], None]) -> UploadCounts:
        """Wait until all is sent or the store takes nothing for a while; how it stands then.

        `show` gets the counts every now and then. An interrupt ends the waiting and is raised on.
        """
        self._stopping.set()
        self._thread.join()
        try:
            for _ in range(3):  # killed while it works, it is started again and goes on
                if self._process is None or self._process.poll() is not None:
                    self._start_process()
                if self._drained(show):
                    break
        finally:
            self.stop()
        return self.counts()

    def _drained(self, show: Callable[[UploadCounts], None]) -> bool:
        process = self._process
        if process is None:
            time.sleep(_RESTART_S)
            return False
        with contextlib.suppress(OSError):
            if process.stdin:
                process.stdin.write(DRAIN)
        while process.poll() is None:
            self._read_status()
            show(self.counts())
            time.sleep(_CHECK_S)
        self._read_status()
        return process.returncode >= 0

    def _watch(self) -> None:
        restart_at_s = 0.0
        while not self._stopping.wait(_CHECK_S):
            self._read_status()
            now_s = time.monotonic()
            if now_s >= restart_at_s and (self._process is None or self._process.poll() is not None):
                logger.warning("peaktape: the process that sends segments died; it is started again")
                restart_at_s = now_s + _RESTART_S
                self._start_process()

    def _start_process(self) -> None:
        if self._process is not None:
            self._read_status()
            close_pipes(self._process)
            self._before, self._status = self.counts(), UploadCounts()
        try:
            with interrupts_held():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "capture.upload_process", self._order.to_json()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    env=child_environment(),
                )
            if self._process.stdout:
                os.set_blocking(self._process.stdout.fileno(), False)
        except OSError as error:
            self._process = None
            logger.warning("peaktape: the process that sends segments can't be started: %s", error)

    def _read_status(self) -> None:
        told = last_told(self._process)
        if told is not None:
            self._status, self._told_at_s = UploadCounts(**told), time.monotonic()
