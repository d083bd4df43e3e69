"""Partly-open replays: a session's later turns are due when their predecessor has ended and its user thought.

B. Schroeder, A. Wierman, M. Harchol-Balter: Open versus closed: a cautionary tale. NSDI 2006. First turns
come by the clock and are not this room's; which turn follows which is in the schedule (`after`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from replay.engine.exchange import Exchange
from replay.engine.requests import Prepared
from replay.engine.weaving import Said
from replay.transform.schedule_format import Schedule

ENDS = (None, "aborted")
"""Errors after which a conversation may go on: none, or its reader had left on purpose."""


def followers(schedule: Schedule) -> npt.NDArray[np.int64]:
    """The index of the turn that follows each row, int64[n], -1 for none."""
    following = np.full(len(schedule), -1, np.int64)
    later = np.flatnonzero(schedule.after >= 0)
    following[schedule.after[later]] = later
    return following


class Turns:
    """Stages sessions' later turns: `fetch` brings a prepared request, `stage` hands it to the sender.

    With `weave`, which puts into a request what was said before it, each turn passes through that.
    """

    def __init__(
        self,
        schedule: Schedule,
        lead_ns: int,
        fetch: Callable[[int], asyncio.Future[Prepared]],
        stage: Callable[[Prepared], None],
        weave: Callable[[Prepared, Said], asyncio.Future[Prepared]] | None = None,
    ) -> None:
        self._schedule = schedule
        self._following = followers(schedule)
        self.zero_monotonic_ns = 0
        self._lead_ns = lead_ns
        self._fetch = fetch
        self._stage = stage
        self._weave = weave
        self._fetched: dict[int, asyncio.Future[Prepared]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def staged(self, prepared: Prepared) -> None:
        """A request is staged: have the turn after it brought."""
        following = int(self._following[prepared.number])
        if following >= 0:
            self._fetched[following] = self._fetch(following)

    def ended(self, exchange: Exchange) -> None:
        """A request has ended: the turn after it becomes due, unless the conversation is broken off."""
        following = int(self._following[exchange.prepared.number])
        coming = self._fetched.pop(following, None)
        if coming is None:
            return
        if exchange.error not in ENDS or exchange.end_ns is None:
            coming.cancel()
            return
        due_ns = exchange.end_ns - self.zero_monotonic_ns + int(self._schedule.think_ns[following])
        task = asyncio.get_running_loop().create_task(self._follow(exchange, coming, due_ns))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _follow(self, exchange: Exchange, coming: asyncio.Future[Prepared], due_ns: int) -> None:
        prepared = await coming
        if self._weave is not None:
            said = (exchange.body, exchange.content_type, exchange.content_encoding)
            prepared = await self._weave(prepared, Said(exchange.prepared.body, *said))
        prepared = prepared._replace(due_ns=due_ns)
        slack_ns = self.zero_monotonic_ns + due_ns - time.monotonic_ns() - self._lead_ns
        if slack_ns > 0:
            await asyncio.sleep(slack_ns / 1e9)
        self._stage(prepared)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error

    @property
    def waiting(self) -> bool:
        """Whether a later turn waits for its time, or could not be brought (`settled` then says why)."""
        return bool(self._tasks) or self._failure is not None

    async def settled(self) -> None:
        """Return when no later turn waits for its time to be staged; raises what kept one from being read."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stage no more."""
        for task in self._tasks:
            task.cancel()
