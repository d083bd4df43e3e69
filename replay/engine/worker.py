"""A worker process: fires its share of the schedule and reports every exchange to the parent.

It paces and stamps; what responses say is parsed by the parent, and woven into later turns by the feeder. It
ends with its parent, because the socket between them then closes.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from capture.child_processes import leave_to_the_parent
from capture.descriptors import allow_many_files
from capture.encryption_keys import Keys
from capture.failures import PeaktapeError
from replay.engine.connecting import Connecting
from replay.engine.exchange import Exchange, finished
from replay.engine.feed import Feed, FeederGoneError, Share
from replay.engine.frames import FrameSplitter, frame, plain_frame
from replay.engine.pacer import Pacer
from replay.engine.rehearsing import rehearsal
from replay.engine.requests import Prepared, Rewrite
from replay.engine.run_format import OPEN, PARTLY_OPEN
from replay.engine.sender import WIRE, Sender
from replay.engine.tuning import Collector, go_first, reserve_descriptors
from replay.engine.turns import Turns
from replay.engine.watch import Watch
from replay.transform.schedule_format import read_schedule

TICK_S: Final = 0.02
REPORT_EVERY_TICKS: Final = 5
STATS_EVERY_TICKS: Final = 15
REPORT_ROWS: Final = 64
REPORT_BYTES: Final = 128 << 10
"""So many finished exchanges, or bytes in them, make one message to the parent; every fifth tick sends what
there is. Packing a larger one would keep what is due, and what comes in, waiting."""
STAMP_BYTES: Final = 16
MANY_STREAMS: Final = 100
LEAST_SLACK_NS: Final = 8_000_000
"""With less time than this before its own due instant, a request is staged at once."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs to know; sent to it as its first message."""

    worker: int
    workers: int
    trace: str
    schedule: str
    connecting: Connecting
    sender: str
    rewrite: Rewrite
    lead_ns: int
    mode: str = OPEN
    weaving: bool = False
    keys: Keys | None = None


class Worker:
    """One worker's life: make ready, wait for the start, fire, report, end."""

    def __init__(self, job: Job, inbox: Inbox, writer: asyncio.StreamWriter, scheduling: str) -> None:
        self._job = job
        self._inbox = inbox
        self._writer = writer
        self._watch = Watch()
        self._scheduling = scheduling
        self._finished: list[tuple[Any, ...]] = []
        self._finished_bytes = 0
        self._collector = Collector()
        self._starved = False
        self._sender: Sender | None = None
        self._turns: Turns | None = None
        self._zero_ns = 0
        self._upcoming: collections.deque[Prepared] = collections.deque()

    def _tell(self, kind: str, content: Any = None) -> None:
        # Never drained: what the parent has not taken yet waits in the buffer, so that the pacer never does.
        self._writer.write(frame((kind, content)))

    async def run(self) -> None:
        """The whole life; returns when everything has been reported."""
        job = self._job
        feed = Feed(_share(job))
        await feed.start()
        rehearse = rehearsal()
        pacer = Pacer(asyncio.get_running_loop(), rehearse)
        self._sender = sender = _sender(job, pacer, self._note_sent, self._note_finished)
        if job.mode == PARTLY_OPEN:
            schedule, _ = read_schedule(Path(job.schedule))
            weave = feed.weave if job.weaving else None
            self._turns = Turns(schedule, job.lead_ns, feed.fetch, self._stage, weave)
        self._collector.take_over()
        self._tell("ready")  # whatever takes time is done: the start leaves little of it
        self._zero_ns = sender.zero_monotonic_ns = await self._inbox.next("start")
        if self._turns is not None:
            self._turns.zero_monotonic_ns = self._zero_ns
        self._watch.begin()
        ticking = asyncio.create_task(self._tick(sender))
        firing = asyncio.create_task(self._fire(feed, sender, pacer))
        stopping = asyncio.create_task(self._inbox.next("stop"))
        try:
            await asyncio.wait({firing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self._wind_down(sender, firing, stopping)
        finally:
            feed.stop()
            ticking.cancel()
            self._report()
            # A worker that ends without this word has died, for its parent: what it had not sent is lost.
            if not self._starved:
                self._tell("done", self._watch.totals(job.worker, self._scheduling))
            await sender.close()
            pacer.close()
            if rehearse is not None:
                rehearse.close()

    async def _wind_down(
        self, sender: Sender, firing: asyncio.Task[None], stopping: asyncio.Task[Any]
    ) -> None:
        firing.cancel()
        self._upcoming.clear()
        await asyncio.wait({firing})
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.stop()
        error = None if firing.cancelled() else firing.exception()
        self._starved = isinstance(error, FeederGoneError)
        if not self._starved:
            sender.stop()
        await sender.drained()
        stopping.cancel()
        if error is not None and not self._starved:
            self._tell("failed", str(error) if isinstance(error, PeaktapeError) else repr(error))

    async def _fire(self, feed: Feed, sender: Sender, pacer: Pacer) -> None:
        clock = time.monotonic_ns
        while (window := await feed.next()) is not None:
            self._upcoming.extend(window)
            self._guard(feed, pacer)
            while self._upcoming:
                prepared = self._upcoming[0]
                slack_ns = self._zero_ns + prepared.due_ns - clock()
                if slack_ns > self._job.lead_ns + sender.staging_step_ns:
                    await asyncio.sleep((slack_ns - self._job.lead_ns) / 1e9)
                    slack_ns = self._job.lead_ns
                if slack_ns > LEAST_SLACK_NS:
                    await pacer.calm(sender.staging_ns, clock() + slack_ns - LEAST_SLACK_NS)
                if self._upcoming and self._upcoming[0] is prepared:  # else the guard has, meanwhile
                    self._stage(self._upcoming.popleft())
                pacer.catch_up(clock())
            await asyncio.sleep(0)
        await sender.drained()
        while self._turns is not None and self._turns.waiting:
            await self._turns.settled()
            await sender.drained()

    def _guard(self, feed: Feed, pacer: Pacer) -> None:
        """See that what comes next is staged `LEAST_SLACK_NS` before it is due, whatever the loop does.

        A turn of the loop may take tens of ms when a thousand streams have something to read; the pacer is
        asked between two reads.
        """
        if self._upcoming:
            due_ns = self._zero_ns + self._upcoming[0].due_ns
            pacer.between(due_ns - LEAST_SLACK_NS, lambda: self._hurry(feed, pacer))

    def _hurry(self, feed: Feed, pacer: Pacer) -> None:
        last_ns = time.monotonic_ns() + LEAST_SLACK_NS - self._zero_ns
        if self._upcoming and self._upcoming[0].due_ns <= last_ns:
            self._stage(self._upcoming.popleft())  # one at a time: others are due, too
            if not self._upcoming:
                self._upcoming.extend(feed.at_hand())
        self._guard(feed, pacer)

    def _stage(self, prepared: Prepared) -> None:
        if self._sender is None:
            return
        if self._turns is not None:
            self._turns.staged(prepared)
        self._sender.stage(prepared)

    def _note_finished(self, exchange: Exchange) -> None:
        if self._turns is not None:
            self._turns.ended(exchange)
        self._finished.append(finished(exchange))
        self._finished_bytes += len(exchange.body) + STAMP_BYTES * len(exchange.read_ns)
        if len(self._finished) >= REPORT_ROWS or self._finished_bytes >= REPORT_BYTES:
            self._report()

    def _report(self) -> None:
        if self._finished:
            self._writer.write(plain_frame(("finished", self._finished)))
            self._finished, self._finished_bytes = [], 0

    def _note_sent(self, exchange: Exchange) -> None:
        self._watch.sent += 1
        if exchange.sent_ns is not None:
            self._watch.lateness_ns.append(exchange.sent_ns - self._zero_ns - exchange.prepared.due_ns)

    async def _tick(self, sender: Sender) -> None:
        for ticks in itertools.count(1):
            began_ns = time.monotonic_ns()
            await asyncio.sleep(TICK_S)
            self._watch.look(began_ns, began_ns + int(TICK_S * 1e9), self._zero_ns)
            # A pause now would falsify the stamps of what many streams bring.
            self._collector.tidy(0 if sender.in_flight > MANY_STREAMS else sender.pacer.slack_ns())
            if ticks % REPORT_EVERY_TICKS == 0:
                self._report()
            if ticks % STATS_EVERY_TICKS == 0:
                lateness_ns, self._watch.lateness_ns = self._watch.lateness_ns, []
                self._tell("stats", (self._watch.sent, sender.in_flight, lateness_ns[-500:]))


def _share(job: Job) -> Share:
    return Share(
        *(job.trace, job.schedule, job.worker, job.workers, job.rewrite),
        serialise_for=job.connecting.target if job.sender == WIRE else None,
        first_turns_only=job.mode == PARTLY_OPEN,
        weaving=job.weaving,
        keys=job.keys,
    )


def _sender(job: Job, *given: Any) -> Sender:
    # Each room brings its own libraries; the other's need not be loaded.
    if job.sender == WIRE:
        from replay.engine.wire_sender import WireSender

        return WireSender(job.connecting, *given)
    from replay.engine.session_sender import SessionSender

    return SessionSender(job.connecting, *given)


class Inbox:
    """Messages from the parent, waited for by kind."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._splitter = FrameSplitter()
        self._waiting: list[tuple[str, Any]] = []

    async def next(self, wanted: str) -> Any:
        """The content of the next message of this kind; ends the process when the parent has gone."""
        while True:
            for at, (kind, content) in enumerate(self._waiting):
                if kind == wanted:
                    del self._waiting[: at + 1]
                    return content
            try:
                data = await self._reader.read(65536)
            except ConnectionError:  # it went with something of ours unread
                data = b""
            if not data:
                # There is nobody left to tell anything, and winding down would wait for the target.
                os._exit(1)
            self._waiting.extend(self._splitter.feed(data))


async def _main(channel: socket.socket, scheduling: str) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    inbox = Inbox(reader)
    job = await inbox.next("job")
    await Worker(job, inbox, writer, scheduling).run()
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


def main(descriptor: int) -> None:
    """Entry of the worker process; `descriptor` is its end of the socket pair."""
    leave_to_the_parent(signal.SIGINT, signal.SIGTERM)
    allow_many_files()
    reserve_descriptors()
    scheduling = go_first()
    channel = socket.socket(fileno=descriptor)
    channel.setblocking(False)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(_main(channel, scheduling))


if __name__ == "__main__":
    main(int(sys.argv[1]))
