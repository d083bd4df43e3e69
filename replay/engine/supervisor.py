"""The parent of a replay: starts the workers, gathers their rows into a run, watches, and ends it all.

Every scheduled request becomes exactly one row, also when a worker dies ("lost") or the replay is stopped
("interrupted", "not_sent"). Which target may be fired at is decided before, in `target`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import platform
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from capture.__about__ import VERSION
from capture.child_processes import child_environment, interrupts_held, wait_or_kill
from capture.failures import BadInput
from capture.trace_reader import Trace
from replay.engine.connecting import Connecting
from replay.engine.feed import dealt
from replay.engine.frames import FrameSplitter, frame
from replay.engine.requests import Rewrite
from replay.engine.rewriting import path_for
from replay.engine.run_format import RunMetadata
from replay.engine.run_rows import Gathering, batch_of_finished, batch_of_unsent
from replay.engine.run_writer import RunWriter
from replay.engine.scraping import ScrapeJob, ScraperProcess
from replay.engine.tuning import last
from replay.engine.worker import Job
from replay.transform.content_rules import ContentRules
from replay.transform.schedule_format import Lineage, Schedule

START_MARGIN_NS: Final = 400_000_000
READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0
RECENT: Final = 2000
UNSENT_ROWS: Final = 1000


@dataclasses.dataclass(frozen=True)
class ReplayOrder:
    """Everything a replay needs to know, decided beforehand."""

    schedule_path: Path
    schedule: Schedule
    lineage: Lineage
    schedule_fingerprint: str
    trace: Trace
    connecting: Connecting
    sender: str
    sender_reason: str
    rewrite: Rewrite
    label: str
    workers: int
    lead_ns: int
    mode: str
    weaving: bool
    bounds: Mapping[str, float]
    command: tuple[str, ...]
    scrape: ScrapeJob | None = None


@dataclasses.dataclass
class Progress:
    """How far a replay is; a fresh reading of `RECENT` requests for lateness and TTFT."""

    scheduled: int
    span_ns: int
    elapsed_ns: int = 0
    due: int = 0
    sent: int = 0
    in_flight: int = 0
    finished: int = 0
    errors: int = 0
    lateness_ns: collections.deque[int] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=RECENT)
    )
    ttft_ns: collections.deque[int] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=RECENT)
    )

    def finish(self, batch: pa.RecordBatch) -> None:
        """Count a batch of run rows."""
        self.finished += batch.num_rows
        failed = pc.or_kleene(batch["error"].is_valid(), pc.greater_equal(batch["status"], 400))
        self.errors += failed.true_count
        self.ttft_ns.extend(pc.subtract(batch["first_token_ns"], batch["due_ns"]).drop_null().to_pylist())


@dataclasses.dataclass
class _WorkerProcess:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    splitter: FrameSplitter = dataclasses.field(default_factory=FrameSplitter)
    ready: bool = False
    totals: Mapping[str, Any] | None = None
    failure: str | None = None
    sent: int = 0
    in_flight: int = 0


class Supervisor:
    """One replay. `run` blocks until it is over; `stop` (from a signal handler) ends it early."""

    def __init__(
        self, order: ReplayOrder, writer: RunWriter, on_progress: Callable[[Progress], None]
    ) -> None:
        self._order = order
        self._writer = writer
        self._on_progress = on_progress
        self._workers: list[_WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._gathering = Gathering(time.monotonic())
        self._reported = np.zeros(len(order.schedule), np.bool_)
        self._zero_ns = 0
        self._zero_wall_ns = 0
        self._stopping = False
        self._stopped_at_s: float | None = None
        self._scraper = None if order.scrape is None else ScraperProcess(order.scrape)
        self.progress = Progress(len(order.schedule), order.schedule.span_ns)

    def stop(self) -> None:
        """End the replay: what is under way becomes rows marked interrupted, the run is partial."""
        self._stopping = True

    def run(self) -> RunMetadata:
        """Fire the schedule; the metadata the run was written with. Raises `BadInput` when it can't be."""
        try:
            for number in range(self._order.workers):
                self._start(number)
            self._await_ready()
            if not self._stopping:
                self._begin()
            with last():
                while any(worker.totals is None for worker in self._workers):
                    self._gather(0.2)
                    self._tick()
        finally:
            self._end_processes()
            if self._scraper is not None:
                self._scraper.end()
        self._write_gathered()
        failures = [worker.failure for worker in self._workers if worker.failure]
        if failures:
            raise BadInput(f"replay: {failures[0]}")
        if not self._zero_ns:  # stopped before the start
            self._writer.begin(self._metadata())
        self._write_unreported()
        metadata = self._metadata()
        self._writer.finish(metadata)
        return metadata

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with interrupts_held():
            process = subprocess.Popen(
                [sys.executable, "-m", "replay.engine.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
            )
        theirs.close()
        worker = _WorkerProcess(process, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        order = self._order
        job = Job(
            number,
            order.workers,
            order.trace.name,
            str(order.schedule_path),
            order.connecting,
            order.sender,
            order.rewrite,
            order.lead_ns,
            order.mode,
            order.weaving,
            order.trace.keys,
        )
        ours.sendall(frame(("job", job)))

    def _await_ready(self) -> None:
        give_up_s = time.monotonic() + READY_TIMEOUT_S
        while not all(worker.ready or worker.totals is not None for worker in self._workers):
            self._gather(0.2)
            if self._stopping or any(worker.failure for worker in self._workers):
                return
            if time.monotonic() > give_up_s:
                raise BadInput(
                    f"replay: workers not ready after {READY_TIMEOUT_S:g}s; is the machine out of memory, "
                    "or the trace on a slow disk?"
                )

    def _begin(self) -> None:
        self._zero_ns = time.monotonic_ns() + START_MARGIN_NS
        self._zero_wall_ns = time.time_ns() + START_MARGIN_NS
        self._tell_all("start", self._zero_ns)  # before the disk is written to, which may take a while
        if self._scraper is not None:
            self._scraper.begin(self._zero_ns)
        self._writer.begin(dataclasses.replace(self._metadata(), partial=True))

    def _tell_all(self, kind: str, content: Any) -> None:
        for worker in self._workers:
            # A worker that has gone is noticed by its closed channel, in `_gather`.
            with contextlib.suppress(OSError):
                worker.channel.sendall(frame((kind, content)))

    def _gather(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            worker: _WorkerProcess = key.data
            try:
                data = worker.channel.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                self._selector.unregister(worker.channel)
                if worker.totals is None:
                    worker.totals = {"worker": self._workers.index(worker), "died": True}
                continue
            for message in worker.splitter.feed(data):
                self._take(worker, *message)

    def _write_gathered(self) -> None:
        for number, rows in self._gathering.take(time.monotonic()).items():
            batch = batch_of_finished(
                number, rows, self._zero_ns, self._writer.bodies, self._order.lineage.phases
            )
            self._reported[[values[0] for values in rows]] = True
            self.progress.finish(batch)
            self._writer.add(batch)

    def _take(self, worker: _WorkerProcess, kind: str, content: Any) -> None:
        progress = self.progress
        if kind == "finished":
            self._gathering.put(self._workers.index(worker), content)
            if self._gathering.is_due(time.monotonic()):
                self._write_gathered()
        elif kind == "stats":
            worker.sent, worker.in_flight, lateness_ns = content
            progress.lateness_ns.extend(lateness_ns)
        elif kind == "ready":
            worker.ready = True
        elif kind == "done":
            worker.totals = content
            worker.sent, worker.in_flight = content["sent"], 0
        elif kind == "failed":
            worker.failure = content

    def _tick(self) -> None:
        progress = self.progress
        if self._gathering.is_due(time.monotonic()):  # on a quiet stretch too, what has come goes to disk
            self._write_gathered()
        progress.elapsed_ns = max(0, time.monotonic_ns() - self._zero_ns) if self._zero_ns else 0
        progress.due = int(np.searchsorted(self._order.schedule.due_ns, progress.elapsed_ns, side="right"))
        progress.sent = sum(worker.sent for worker in self._workers)
        progress.in_flight = sum(worker.in_flight for worker in self._workers)
        self._on_progress(progress)
        if any(worker.failure for worker in self._workers):
            self._stopping = True  # the run can't be whole any more: spare the target the rest
        if self._stopping:
            if not self._zero_ns:  # stopped before the start: no worker listens for a stop yet
                self._end_processes()
            elif self._stopped_at_s is None:
                self._stopped_at_s = time.monotonic()
                self._tell_all("stop", None)
            elif time.monotonic() > self._stopped_at_s + STOP_TIMEOUT_S:
                for worker in self._workers:
                    worker.process.kill()  # what they had told is read first, up to the channel's end

    def _end_processes(self) -> None:
        for worker in self._workers:
            worker.channel.close()
            wait_or_kill(worker.process, 5 if worker.totals is not None else 0.1)
            if worker.totals is None:
                died = {"died": True} if self._zero_ns else {}
                worker.totals = {"worker": self._workers.index(worker), **died}
        self._selector.close()

    def _write_unreported(self) -> None:
        died = [number for number, worker in enumerate(self._workers) if (worker.totals or {}).get("died")]
        missing = np.flatnonzero(~self._reported)
        of_dead = np.isin(dealt(self._order.schedule, self._order.workers)[missing], died)
        for at, lost in zip(_pieces(missing), _pieces(of_dead), strict=True):
            facts = scheduled_facts(self._order, at)
            self._writer.add(batch_of_unsent(facts, ["lost" if gone else "not_sent" for gone in lost]))

    def _wall_step_ns(self) -> int:
        if not self._zero_ns:
            return 0
        elapsed_ns = time.monotonic_ns() - self._zero_ns
        return time.time_ns() - self._zero_wall_ns - elapsed_ns

    def _metadata(self) -> RunMetadata:
        order = self._order
        return RunMetadata(
            label=order.label,
            target=order.connecting.target.base_url,
            mode=order.mode,
            sender=order.sender,
            sender_reason=order.sender_reason,
            zero_monotonic_ns=self._zero_ns,
            zero_wall_ns=self._zero_wall_ns,
            trace_fingerprint=order.lineage.trace_fingerprint,
            schedule_fingerprint=order.schedule_fingerprint,
            steps=order.lineage.steps,
            scheduled=len(order.schedule),
            partial=self._stopping,
            bodies=self._writer.bodies,
            wall_step_ns=self._wall_step_ns(),
            longest_write_s=self._writer.longest_write_s,
            workers=tuple(worker.totals or {} for worker in self._workers),
            bounds=dict(order.bounds),
            host=host_facts(),
            command=order.command,
            tool_version=VERSION,
        )


def scheduled_facts(order: ReplayOrder, at: np.ndarray) -> list[dict[str, Any]]:
    """What a run row says of a scheduled request before anything happened to it."""
    schedule, content = order.schedule, order.rewrite.content or ContentRules()
    rows = order.trace.take(schedule.row[at], ["request_id", "method", "path", "model", "stream"]).to_pylist()
    return [
        {
            "request_id": row["request_id"],
            "copy": int(schedule.copy[index]),
            "session": int(schedule.session[index]),
            "phase": order.lineage.phases[schedule.phase[index]],
            "endpoint": f"{row['method']} {path_for(row['path'], content).partition('?')[0]}",
            "model": content.model_for(row["model"]),
            "stream": row["stream"],
            "due_ns": int(schedule.due_ns[index]),
        }
        for index, row in zip(at, rows, strict=True)
    ]


def _pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), UNSENT_ROWS):
        yield values[start : start + UNSENT_ROWS]


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (OSError, AttributeError, ValueError):
        return False
    return True


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def host_facts() -> dict[str, Any]:
    """What the run's machine was: system, processor count, versions of what paces and sends."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version_of(name) for name in ("aiohttp", "httptools", "uvloop")},
    }
