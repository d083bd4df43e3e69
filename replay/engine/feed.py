"""The feed: the worker's side of its feeder, which reads the trace ahead of time in a process of its own.

What is read and how it becomes requests is in `feeder`; here windows are waited for, and no more of them
are taken than will soon be sent.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import socket
import subprocess
import sys
from typing import Final

import numpy as np

from capture.encryption_keys import Keys
from capture.failures import BadInput
from replay.engine.frames import FrameSplitter, frame, unpack
from replay.engine.requests import Prepared, Rewrite
from replay.engine.target import Target
from replay.engine.weaving import Said
from replay.transform.schedule_format import Schedule

WINDOW: Final = "window"
END: Final = "end"
FAILED: Final = "failed"
_GONE: Final = b""
"""Stands where the feeder's next window would: it died."""
logger = logging.getLogger(__name__)

AHEAD_WINDOWS: Final = 256
AHEAD_BYTES: Final = 16 << 20
READ_BYTES: Final = 32 << 10
"""Larger pieces come from fresh pages each time, and those take the kernel ms of what is due."""


def dealt(schedule: Schedule, workers: int) -> np.ndarray:
    """The worker of each row, int64[n] in 0 … workers − 1: whole sessions, dealt round by their first due.

    By rank and not by number: numbers are hashes, and few of them may leave a worker with nothing.
    """
    if workers == 1:
        return np.zeros(len(schedule), np.int64)
    _, first, session = np.unique(schedule.session, return_index=True, return_inverse=True)
    worker = np.empty(len(first), np.int64)
    worker[np.argsort(first)] = np.arange(len(first)) % workers
    return worker[session]


@dataclasses.dataclass(frozen=True)
class Share:
    """Which requests a worker is fed, and in which form.

    `serialise_for` is the target of a sender that takes bytes. With `first_turns_only` the later turns are
    left out; `Feed.fetch` brings them one by one. With `weaving`, bodies stay beside those bytes. `keys` open
    the trace.
    """

    trace: str
    schedule: str
    worker: int
    workers: int
    rewrite: Rewrite
    serialise_for: Target | None = None
    first_turns_only: bool = False
    weaving: bool = False
    keys: Keys | None = None

    def rows(self, schedule: Schedule) -> np.ndarray:
        """Indices of the share's requests, int64, ascending."""
        mine = np.flatnonzero(dealt(schedule, self.workers) == self.worker)
        return mine[schedule.after[mine] < 0] if self.first_turns_only else mine


class FeederGoneError(Exception):
    """The feeder died: what it had not handed over is lost."""


class Feed:
    """Windows of prepared requests, in due order, from a feeder process that this starts."""

    def __init__(self, share: Share) -> None:
        self._share = share
        # Packed: unpacking all that one read brings, hundreds of requests, would take ms from what is due.
        self._windows: collections.deque[bytes] = collections.deque()
        self._held_bytes = 0
        self._singles_over = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._asked: dict[int, asyncio.Future[Prepared]] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the feeder; returns when its first window is there, or its first failure."""
        readers = []
        for ours in self._start_process():
            reader, writer = await asyncio.open_connection(sock=ours, limit=READ_BYTES)
            readers.append(reader)
            self._writers.append(writer)
        self._writers[1].write(frame(self._share))
        self._tasks = [
            asyncio.create_task(self._take_windows(readers[0])),
            asyncio.create_task(self._take_singles(readers[1])),
        ]
        await self._more.wait()

    def _start_process(self) -> list[socket.socket]:
        pairs = [socket.socketpair() for _ in range(2)]
        theirs = [their.fileno() for _, their in pairs]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "replay.engine.feeder", *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
        )
        for ours, their in pairs:
            their.close()
            ours.setblocking(False)
        return [ours for ours, _ in pairs]

    async def _take_windows(self, reader: asyncio.StreamReader) -> None:
        """Keep some windows in hand: a feeder that is held up for a while holds up nobody."""
        splitter = FrameSplitter()
        while data := await reader.read(READ_BYTES):
            for packed in splitter.split(data):
                self._windows.append(packed)
                self._held_bytes += len(packed)
            if self._windows:
                self._more.set()
            while len(self._windows) >= AHEAD_WINDOWS or self._held_bytes >= AHEAD_BYTES:
                self._room.clear()
                await self._room.wait()
        self._windows.append(_GONE)
        self._more.set()

    async def next(self) -> list[Prepared] | None:
        """The next window, None at the end.

        Raises `BadInput` with what went wrong while reading, and `FeederGoneError` when the feeder has died.
        """
        while not self._windows:
            self._more.clear()
            await self._more.wait()
        packed = self._windows.popleft()
        self._take_note(packed)
        if packed == _GONE:
            raise FeederGoneError
        kind, content = unpack(packed)
        if kind == FAILED:
            raise BadInput(content)
        return None if kind == END else list(map(Prepared._make, content))

    def at_hand(self) -> list[Prepared]:
        """The next window if it is here already, else nothing; the end, or what is wrong, `next` tells."""
        if not self._windows or self._windows[0] == _GONE:
            return []
        kind, content = unpack(self._windows[0])
        if kind != WINDOW:
            return []
        self._take_note(self._windows.popleft())
        return list(map(Prepared._make, content))

    def _take_note(self, packed: bytes) -> None:
        """A window was taken: there may be room for more."""
        self._held_bytes -= len(packed)
        if len(self._windows) < AHEAD_WINDOWS // 2 and self._held_bytes < AHEAD_BYTES // 2:
            self._room.set()

    def fetch(self, index: int) -> asyncio.Future[Prepared]:
        """One request by its index in the schedule, apart from the windows; raises as `next` does."""
        return self._ask(index, index)

    def weave(self, prepared: Prepared, said: Said) -> asyncio.Future[Prepared]:
        """A request with what was said before it woven in; raises as `next` does."""
        return self._ask(prepared.number, (prepared, said))

    def _ask(self, index: int, question: int | tuple[Prepared, Said]) -> asyncio.Future[Prepared]:
        found: asyncio.Future[Prepared] = asyncio.get_running_loop().create_future()
        if self._singles_over:
            found.set_exception(FeederGoneError())
        else:
            self._asked[index] = found
            self._writers[1].write(frame(question))
        return found

    async def _take_singles(self, reader: asyncio.StreamReader) -> None:
        splitter = FrameSplitter()
        try:
            while data := await reader.read(READ_BYTES):
                for index, answer in splitter.feed(data):
                    found = self._asked.pop(index, None)
                    if found is None or found.done():
                        continue
                    if isinstance(answer, str):
                        found.set_exception(BadInput(answer))
                    else:
                        found.set_result(answer)
        except OSError:
            logger.debug("the feeder died with a question unread")
        finally:
            self._singles_over = True
            for found in self._asked.values():
                if not found.done():
                    found.set_exception(FeederGoneError())

    def stop(self) -> None:
        """Read no further; the feeder ends, since its channels close."""
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
