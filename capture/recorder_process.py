"""The recorder's own process: spools in, journal out, and a compactor that makes segments of the journal.

Started by the proxy with the spool's folder as its argument and, as the first lines on stdin, what is never
on a disk: the policy's key, and the keys of encryption or nothing. Ends in order when its stdin does and
every proxy is gone, however they went. Killed, it leaves spools and journal from which the next one goes on.
What it counts it tells on stdout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from capture.capture_facts import CaptureFacts
from capture.child_processes import leave_to_the_parent
from capture.compactor import CompactorProcess
from capture.counts import totals
from capture.encryption_keys import Keys
from capture.intake import Intake
from capture.journal_folder import JournalFolder, LeftBehind, ended_in, journals_in, left_behind
from capture.outbox import OutboxRoom
from capture.retention import BYTES, FolderRetention
from capture.segments import remove_halves
from capture.structured_log import stderr_handler
from capture.trace_format import TraceMetadata

FACTS_NAME: Final = "capture.json"
LEAVE_A_TRACE: Final = b"leave a trace\n"
"""What the proxy says before it ends in order: a capture that saw nothing leaves an empty segment."""
_PROXY_COUNTS: Final = ("seen", "closed", "dropped", "not_chosen")
_IDLE_S: Final = 0.05
_SYNC_S: Final = 0.9
_STATUS_S: Final = 0.2
_RETRY_S: Final = 1.0

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A closed journal file to compact, and what its segment says of the capture."""

    journal: Path
    metadata: TraceMetadata
    empty_too: bool = False


class RecorderProcess:
    """One recorder of the capture that `facts` tells of; `run` does it all. Goes on from what lies there.

    `recorded` counts rows in segments, `cut_off` those that were in flight at the end.
    """

    def __init__(self, facts: CaptureFacts, stdin: int | None = None, stdout: int | None = None) -> None:
        self._facts = facts
        self._options = facts.options
        self._stdin, self._stdout = stdin, stdout
        self._empty_too = False
        self._jobs: deque[_Job] = deque()
        self._compactor = CompactorProcess(facts.options.keys)
        self._segment = self._segment_bytes = self.recorded = self.cut_off = 0
        self._compaction_trouble = ""
        self._retry_at_s = 0.0
        self._written_totals: dict[str, Any] | None = None
        self._finishing = False
        remove_halves(facts.folder)
        self._journal = JournalFolder(facts.folder, facts.options.keys)
        journals = journals_in(facts.folder)
        self._intake = Intake(facts, self._journal, self._left_behind(journals))
        self._jobs.extend(_Job(journal, self._metadata()) for journal in journals)
        self.recorded = self._intake.rows - sum(ended_in(path, facts.options.keys) for path in journals)
        for segment in facts.folder.glob("segment-*.parquet"):
            self._segment += 1
            self._segment_bytes += _size(segment)
        self._began_s = self._status_at_s = 0.0
        self._rows_before = self._intake.rows
        self._over = threading.Event()
        self._retention = FolderRetention(facts.folder, facts.options.retention)
        limit_bytes = facts.options.outbox_bytes
        self._outbox = None if limit_bytes is None else OutboxRoom(facts.folder.parent, limit_bytes)

    def _left_behind(self, journals: list[Path]) -> LeftBehind | None:
        """What the newest journal tells that can be read; one that can't is set aside."""
        while journals:
            try:
                return left_behind(journals[-1], self._options.keys, to_last_state=self._facts.spool.is_dir())
            except OSError as error:
                damaged = journals.pop()
                logger.warning("peaktape: %s is set aside: %s", damaged, error)
                with contextlib.suppress(OSError):
                    damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
        return None

    def run(self) -> None:
        """Record until the end, then leave everything that was seen in segments, or in the journal."""
        syncing = threading.Thread(target=self._sync_often, name="peaktape-sync", daemon=True)
        syncing.start()
        while True:
            ended = self._stdin is None and self._intake.is_over
            moved = (ended or self._has_room()) and self._intake.turn()
            self._roll()
            self._keep_bounds()
            self._compact()
            self._tell()
            if ended and not moved:
                break
            if not moved:
                self._wait()
        self._over.set()
        self._finish()

    def _has_room(self) -> bool:
        if self._outbox is not None and not self._outbox.has_room():
            return False
        if len(self._jobs) < 2:
            return True
        waiting_bytes = sum(job.journal.stat().st_size for job in self._jobs if job.journal.exists())
        return waiting_bytes < self._options.journal_bytes

    def _wait(self) -> None:
        watched = [fd for fd in (self._stdin, self._compactor.answers) if fd is not None]
        ready, _, _ = select.select(watched, [], [], _IDLE_S)
        if self._stdin is not None and self._stdin in ready:
            said = os.read(self._stdin, 4096)
            self._empty_too |= said == LEAVE_A_TRACE
            if not said:
                self._stdin = None

    def _sync_often(self) -> None:
        """The disk is waited for here, so that power loss takes a second at most and nobody else waits."""
        while not self._over.wait(_SYNC_S):
            try:
                self._journal.sync()
            except OSError as error:
                logger.warning("peaktape: the journal can't be synced: %s", error)

    def _roll(self) -> None:
        """Begin a new journal file when this one is large or old enough; the old one is compacted."""
        now_s = time.monotonic()
        if self._intake.rows == self._rows_before:
            self._began_s = now_s  # an age counts from the first row
        large = self._journal.new_bytes >= self._options.segment_bytes
        old = now_s - self._began_s >= self._options.segment_s
        if (large or old) and now_s >= self._retry_at_s:
            closed = self._journal.path
            if closed is not None and self._intake.begin_journal():
                self._jobs.append(_Job(closed, self._metadata()))
                self._rows_before, self._began_s = self._intake.rows, now_s
            else:
                self._retry_at_s = now_s + _RETRY_S

    def _metadata(self) -> TraceMetadata:
        intake = self._intake
        told = (intake.upstreams, intake.left_out, intake.recorded_ns, intake.expired)
        return self._facts.metadata(self._totals(), *told)

    def _totals(self) -> dict[str, Any]:
        intake = self._intake
        return totals(intake.seen, intake.rows, intake.dropped, intake.not_chosen)

    def _compact(self) -> None:
        """Give the compactor its next job and take its answers; a job that failed is tried again."""
        answer = self._compactor.answer()
        if answer is not None:
            self._take_answer(answer)
        # The newest file tells how far the spools are read: it stays until its successor does.
        safe = len(self._jobs) > 1 or self._journal.path is not None or self._finishing
        if self._jobs and safe and self._compactor.is_free and time.monotonic() >= self._retry_at_s:
            job = self._jobs[0]
            self._compactor.give(job.journal, job.metadata, empty_too=job.empty_too)

    def _take_answer(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            self._compaction_trouble = f"{answer['cause']}: {answer['error']}"
            self._retry_at_s = time.monotonic() + _RETRY_S
            return
        job = self._jobs.popleft()
        self._compaction_trouble = ""
        self.recorded += answer["rows"]
        lost = answer["dropped"]
        self._intake.own_dropped.update(lost)
        self._intake.rows -= sum(lost.values())
        if answer["segment_bytes"]:
            self._segment += 1
            self._segment_bytes += answer["segment_bytes"]
            self._written_totals = dict(job.metadata.counts) if not lost else self._totals()

    def _finish(self) -> None:
        """The last journal becomes the last segment, which says what the whole capture counted."""
        self.cut_off = self._intake.in_flight
        if not self._intake.cut_off():
            self._intake.give_up()
        self._intake.remove_spools()
        self._finishing = True
        last = self._journal.path
        self._journal.close()
        self._drain_jobs()
        self._keep_bounds(at_once=True)
        stale = self._totals() != self._written_totals and (self._intake.seen > 0 or self._empty_too)
        if last is not None:
            self._jobs.append(_Job(last, self._metadata(), empty_too=stale))
            self._drain_jobs()
            self._keep_bounds(at_once=True)
        self._compactor.end()
        self._tell(at_once=True)

    def _keep_bounds(self, *, at_once: bool = False) -> None:
        gone = self._retention.turn(at_once=at_once)
        if gone:
            self._intake.own_expired.update(gone)
            self._segment_bytes -= gone[BYTES]

    def _drain_jobs(self) -> None:
        """Compact what waits; stop trying when the disk refuses or the compactor dies again and again."""
        failures = 0
        while self._jobs and failures < 3:
            before = len(self._jobs)
            self._retry_at_s = 0.0
            self._compact()
            self._tell()
            if self._compaction_trouble and self._compactor.is_free and len(self._jobs) == before:
                failures += 1
            time.sleep(0.01)

    @property
    def trouble(self) -> str:
        """What is wrong right now, "cause: words", or nothing."""
        full = "" if self._outbox is None else self._outbox.trouble
        return self._intake.trouble or self._compaction_trouble or full

    def _tell(self, *, at_once: bool = False) -> None:
        """Tell the proxy how things stand: a line of JSON, small enough to be written whole or not at all."""
        now_s = time.monotonic()
        if not at_once and now_s < self._status_at_s:
            return
        self._status_at_s = now_s + _STATUS_S
        status = {
            "pid": os.getpid(),
            "compactor_pid": self._compactor.pid,
            "compactor_deaths": self._compactor.deaths,
            "seen": self._intake.seen,
            "journaled": self._intake.rows,
            "recorded": self.recorded,
            "dropped": dict(self._intake.own_dropped),
            "not_chosen": dict(self._intake.own_not_chosen),
            "left_out": dict(self._intake.left_out),
            "spool_bytes": self._intake.unread_bytes,
            "proxies": {
                name: {what: count for what, count in told.items() if what in _PROXY_COUNTS}
                for name, told in self._intake.reported.items()
            },
            "segment": self._segment,
            "disk_bytes": self._segment_bytes,
            "journal_bytes": self._journal.new_bytes + sum(_size(job.journal) for job in self._jobs),
            "journal_lag_s": self._lag_s(now_s),
            "expired": dict(self._intake.own_expired),
            "trouble": self.trouble,
        }
        if self._stdout is not None:
            with contextlib.suppress(OSError):  # nobody listens, or not now: recording goes on
                os.write(self._stdout, json.dumps(status).encode() + b"\n")

    def _lag_s(self, now_s: float) -> float:
        if self._intake.rows == self.recorded:
            return 0.0
        oldest_s = self._began_s
        with contextlib.suppress(OSError):
            if self._jobs:
                oldest_s = now_s - max(0.0, time.time() - self._jobs[0].journal.stat().st_mtime)
        return max(0.0, now_s - oldest_s)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _line_of(descriptor: int) -> str:
    """A line, and not a byte beyond it."""
    line = b""
    while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def step_back(steps: int) -> None:
    """Let clients go first: this process never takes the processor from the proxy by waking up."""
    with contextlib.suppress(OSError):
        os.nice(steps)
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main() -> None:
    """Record what comes through the spool named by the only argument."""
    spool = Path(sys.argv[1])
    # The proxy's end is ours, and it comes in order; the switch (SIGUSR1, SIGUSR2) is the proxy's alone.
    leave_to_the_parent(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    step_back(5)
    logging.basicConfig(handlers=[stderr_handler()], level=logging.WARNING)
    key = bytes.fromhex(_line_of(sys.stdin.fileno()))
    keys = Keys.taken_over(_line_of(sys.stdin.fileno()))
    facts = CaptureFacts.from_json((spool / FACTS_NAME).read_bytes(), str(spool / FACTS_NAME), key, keys)
    os.set_blocking(sys.stdout.fileno(), False)
    RecorderProcess(facts, sys.stdin.fileno(), sys.stdout.fileno()).run()


if __name__ == "__main__":
    main()
