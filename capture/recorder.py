"""One capture's recording as its proxy sees it: its facts, its recorder's process, and what is counted.

Meaning, redaction, journal and segments are other processes' (`recorder_process`), which are started here
and started again when they die. How requests get there is in `handover`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from capture.capture_facts import CaptureFacts, RecorderOptions
from capture.child_processes import child_environment, interrupts_held, last_told
from capture.counts import Counts
from capture.failures import where_it_failed
from capture.frame_files import FolderLock
from capture.handover import REPORT_S, Handover
from capture.recorder_process import FACTS_NAME, LEAVE_A_TRACE
from capture.sealing import sealed_text
from capture.segments import MARKER_NAME
from capture.sending import Sending
from capture.spool_folder import new_spool
from capture.trace_format import TraceMetadata

__all__ = ["Recorder", "RecorderOptions"]

FIRST_PROXY: Final = "proxy-0"
_CHECK_S: Final = 0.1
_RESTART_S: Final = 0.5

logger = logging.getLogger(__name__)


class Recorder(Handover):
    """Records one capture into `folder`: the handover of its first proxy, and all that is common to several.

    `sending` is who sends the segments to a store, if they go there. `counts` may be called by anyone; `stop`
    once, at the end. With keys, making one raises `BadInput` when there is no folder in memory for the spool,
    or a key service gives no key.
    """

    def __init__(
        self,
        folder: Path,
        options: RecorderOptions,
        source: str,
        upstreams: tuple[str, ...] = (),
        sending: Sending | None = None,
    ) -> None:
        if options.keys is not None:
            options.keys.data_key  # noqa: B018 - a key service that gives none is told now
        facts = CaptureFacts(
            capture_id=secrets.token_hex(8),
            folder=folder.absolute(),
            spool=new_spool(in_memory_only=options.keys is not None),
            zero_ns=time.monotonic_ns(),
            wall_zero_ns=time.time_ns(),
            source=source,
            upstreams=upstreams,
            options=options,
        )
        (facts.spool / FACTS_NAME).write_text(facts.to_json())
        super().__init__(facts, FIRST_PROXY)
        self.switch.limit(0)
        if not options.choice.paused:
            self.switch.turn_on(0)
        self._lock = FolderLock(facts.folder / MARKER_NAME)
        self._status: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peaktape-watch", daemon=True)
        self._started = False
        self.restarts = 0
        self._told_at_s = math.inf
        self._to_store = sending

    def start(self) -> None:
        """Start the recorder's process and the thread that looks after it.

        What is handed over before waits. The folder must be prepared, and cleared of what shall not stay.
        """
        self._started = True
        self._told_at_s = time.monotonic()
        self._mark()
        self._start_process()
        self._thread.start()

    def has_answered(self) -> bool:
        """Whether the recorder's process has come up, and has nothing to complain of."""
        return bool(self._status) and not self.trouble

    def _mark(self) -> None:
        """Leave the capture's facts in its folder, locked, for whoever finds it without us."""
        marker = self.facts.folder / MARKER_NAME
        try:
            if not self._lock.take():
                logger.error("peaktape: another capture writes into %s as well", self.facts.folder)
            marker.write_bytes(sealed_text(self.facts.to_json(), self.facts.options.keys))
        except OSError as error:
            logger.warning("peaktape: %s can't be written: %s", marker, error.strerror)

    def counts(self) -> Counts:
        """What has been counted up to now."""
        status, now_ns = self._status, time.monotonic_ns() - self.zero_ns
        others = [told for name, told in status.get("proxies", {}).items() if name != FIRST_PROXY]
        seen, closed = self._seen, self._closed
        dropped = self._dropped + Counter(status.get("dropped", {}))
        not_chosen = self._not_chosen + Counter(status.get("not_chosen", {}))
        for told in others:
            seen, closed = seen + told["seen"], closed + told["closed"]
            dropped.update(told["dropped"])
            not_chosen.update(told["not_chosen"])
        return Counts(
            seen=seen,
            recorded=status.get("recorded", 0),
            dropped=dict(dropped),
            not_chosen=dict(not_chosen),
            in_flight=seen - closed,
            segment=status.get("segment", 0),
            disk_bytes=status.get("disk_bytes", 0),
            journaled=status.get("journaled", 0),
            spool_bytes=max(self._spool.waiting_bytes, status.get("spool_bytes", 0) if others else 0),
            journal_bytes=status.get("journal_bytes", 0),
            journal_lag_s=status.get("journal_lag_s", 0.0),
            restarts=self.restarts,
            paused=not self._stopping.is_set() and bool(self.switch.why_not(now_ns)),
            silent_s=max(0.0, time.monotonic() - self._told_at_s),
            trouble=self.trouble,
            expired=status.get("expired", {}),
            uploads=None if self._to_store is None else self._to_store.counts(),
        )

    def metadata(self) -> TraceMetadata:
        """The trace's metadata as it stands now."""
        left_out, spans = self._status.get("left_out"), self.switch.recorded()
        return self.facts.metadata(self.counts().totals(), (), left_out, spans)

    def _besides(self) -> dict[str, Any]:
        expired = {} if self._to_store is None else {"expired": self._to_store.counts().expired}
        return {"recorded_ns": self.switch.recorded(), **expired}

    def stop(self, *, empty_too: bool = True) -> None:
        """Have everything that was taken written, and end the process.

        A capture that saw nothing leaves one segment without rows, unless `empty_too` is false.
        """
        if not self._started:
            if not self._seen and not empty_too:
                self.forget()
                return
            self.start()
        self._stopping.set()
        self._thread.join()
        self.switch.turn_off(time.monotonic_ns() - self.zero_ns)
        self.close()
        for _ in range(3):  # killed while it finishes, it is started again and goes on
            process = self._process
            if process is None or process.poll() is not None:
                self._start_process()
                process = self._process
            ended = process is not None and self._end(process, empty_too=empty_too) == 0
            self._read_status()
            if ended:
                break

    def _end(self, process: subprocess.Popen[bytes], *, empty_too: bool) -> int:
        with contextlib.suppress(OSError):
            if empty_too and process.stdin:
                process.stdin.write(LEAVE_A_TRACE)
            if process.stdin:
                process.stdin.close()
        while process.poll() is None:
            self._read_status()
            time.sleep(0.005)
        return process.returncode

    def let_go(self) -> None:
        """Leave everything as it is to a recovery."""
        self._lock.release()

    def forget(self) -> None:
        """Remove the spool and the marker: the capture has ended in order and nothing is left in them."""
        shutil.rmtree(self.facts.spool, ignore_errors=True)
        self.let_go()
        with contextlib.suppress(OSError):
            (self.facts.folder / MARKER_NAME).unlink(missing_ok=True)

    def _watch(self) -> None:
        """Read what the recorder counts, tell it what is counted here, start it again when it is dead."""
        report_at_s = restart_at_s = 0.0
        was_on = self.switch.is_on
        while not self._stopping.wait(_CHECK_S):
            try:
                now_s = time.monotonic()
                self._read_status()
                if self.switch.is_on != was_on:
                    was_on, report_at_s = self.switch.is_on, 0.0
                    logger.warning(
                        "peaktape: recording is %s", "on" if was_on else "paused; SIGUSR1 resumes it"
                    )
                if now_s >= report_at_s:
                    self.report()
                    report_at_s = now_s + REPORT_S
                if now_s >= restart_at_s and (self._process is None or self._process.poll() is not None):
                    logger.warning("peaktape: the recorder's process died; it is started again")
                    self.restarts += 1
                    restart_at_s = now_s + _RESTART_S
                    self._start_process()
            except Exception as error:
                said = "peaktape: looking after the recorder failed; it goes on (%s)"
                logger.error(said, where_it_failed(error))

    def _start_process(self) -> None:
        keys = self.facts.options.keys
        try:
            with interrupts_held():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "capture.recorder_process", str(self.facts.spool)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    pass_fds=() if self._lock.descriptor is None else (self._lock.descriptor,),
                    env=child_environment(),
                )
            if self._process.stdin:
                told = (self.facts.options.redaction.key.hex(), keys.handed_over() if keys else "")
                with contextlib.suppress(OSError):
                    self._process.stdin.write("".join(f"{line}\n" for line in told).encode())
            if self._process.stdout:
                os.set_blocking(self._process.stdout.fileno(), False)
        except OSError as error:
            self._process = None
            logger.warning("peaktape: the recorder's process can't be started: %s", error)

    def _read_status(self) -> None:
        told = last_told(self._process)
        if told is not None:
            self._status, self._told_at_s = told, time.monotonic()
            self.trouble = told.get("trouble", "")
