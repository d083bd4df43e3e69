"""The pacer: calls each action at its due instant, by the absolute clock, late ones at once, none dropped.

A sleep (timerfd) ends shortly before the instant and a short spin covers the rest: as short as the timer's
own lateness on this machine allows, some 50 µs on a busy core and some 200 µs where idle cores sleep deeply,
and never more than a share of the time that passes, so that spinning doesn't eat the core at high rates.
After a quiet moment, part of the spin is spent on a rehearsal, so that the first send is not a cold one.
Nothing is ever re-anchored: an action that is late is late, and the next one is still due when it was due.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Final

from replay.engine import timerfd

LEAST_SPIN_NS: Final = 50_000
MOST_SPIN_NS: Final = 400_000
ACTIONS_A_WAKE: Final = 16
ACTIONS_BETWEEN: Final = 4
"""So many at most between two pieces of other work, which must get on, too."""
SPIN_SHARE: Final = 0.15
ACTION_BUSY_NS: Final = 200_000
"""About what one request takes of a core, all processes together: not time to be spun away."""
SPIN_SAVED_NS: Final = 2_000_000
QUIET_NS: Final = 1_000_000
"""After so long without an action, the next one would be slow: see `rehearsing`."""
REHEARSAL_NS: Final = 120_000
"""A cold rehearsal takes up to this; without so much time it would itself make the action late."""
_NEVER_NS: Final = 2**63 - 1


class DueQueue:
    """The pure part: actions ordered by due instant, ties in the order they were put. No clock in here."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, due_ns: int, action: Callable[[], None]) -> bool:
        """Add an action; true when it is now the first."""
        self._count += 1
        heapq.heappush(self._heap, (due_ns, self._count, action))
        return self._heap[0][1] == self._count

    def first_ns(self) -> int | None:
        """The earliest due instant, or None."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ns: int) -> Callable[[], None] | None:
        """The first action whose instant has come by `now_ns`, or None."""
        if self._heap and self._heap[0][0] <= now_ns:
            return heapq.heappop(self._heap)[2]
        return None


def next_spin_ns(spin_ns: int, overshoot_ns: int) -> int:
    """How long to spin from now on, given that a timer came `overshoot_ns` late.

    Rises at once to what would have covered it, and sinks by a 64th each time: about the timer's p98.
    """
    wanted = max(overshoot_ns + LEAST_SPIN_NS // 2, spin_ns - spin_ns // 64)
    return min(MOST_SPIN_NS, max(LEAST_SPIN_NS, wanted))


class SpinAllowance:
    """The pure part of spinning: a share of the time that actions leave, saved up to `most_ns`.

    Where requests follow one another closely, each gets less of a spin, and at last none: the core stays free
    for what they bring back. No clock in here.
    """

    def __init__(self, share: float = SPIN_SHARE, most_ns: int = SPIN_SAVED_NS) -> None:
        self._share = share
        self._most_ns = most_ns
        self._saved_ns = float(most_ns)
        self._at_ns: int | None = None

    def at(self, now_ns: int) -> int:
        """What may be spun away from now on, in ns."""
        if self._at_ns is not None:
            self._saved_ns = min(self._most_ns, self._saved_ns + self._share * (now_ns - self._at_ns))
        self._at_ns = now_ns
        return max(0, int(self._saved_ns))

    def spend(self, spun_ns: int) -> None:
        """Take what was spun off the allowance."""
        self._saved_ns -= spun_ns

    def act(self) -> None:
        """An action was called: the time that it takes is none to spin in. A burst's debt is limited."""
        self._saved_ns = max(-self._most_ns, self._saved_ns - self._share * ACTION_BUSY_NS)


def _nothing() -> None: ...


class Pacer:
    """Runs actions of a `DueQueue` on an event loop, on time to some 10 µs where timerfd exists.

    `rehearse` is called shortly before an action that follows on a quiet moment.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rehearse: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._queue = DueQueue()
        self._spin_ns = 2 * LEAST_SPIN_NS
        self._allowance = SpinAllowance()
        self._rehearse = rehearse
        self._armed_ns = self._acted_ns = 0
        self._timer = timerfd.TimerFd() if timerfd.available() else None
        self._handle: asyncio.TimerHandle | None = None
        self._between_ns, self._between = _NEVER_NS, _nothing
        if self._timer is not None:
            loop.add_reader(self._timer.fileno(), self._wake)

    def at(self, due_monotonic_ns: int, action: Callable[[], None]) -> None:
        """Call `action` at this instant of the monotonic clock. It must not raise, nor take long."""
        if self._queue.put(due_monotonic_ns, action):
            self._arm(due_monotonic_ns)

    def between(self, due_monotonic_ns: int, action: Callable[[], None]) -> None:
        """Call `action` once, from the first `catch_up` at this instant or later: no timer wakes for it.

        For what is to be done only if other work keeps the loop from it. A new one replaces the last.
        """
        self._between_ns, self._between = due_monotonic_ns, action

    def catch_up(self, now_ns: int) -> None:
        """Call what is due by `now_ns`, the monotonic instant, a few actions at most.

        For whoever does many small pieces of work in one turn of the loop, answers read or requests staged:
        called between them, it keeps a due action from waiting for them all.
        """
        if now_ns >= self._between_ns:
            self._between_ns = _NEVER_NS
            self._between()
        if (due_ns := self._queue.first_ns()) is None or due_ns > now_ns:
            return
        for _ in range(ACTIONS_BETWEEN):
            if (action := self._queue.pop_due(now_ns)) is None:
                break
            action()
            self._acted_ns = now_ns
            self._allowance.act()
        if (due_ns := self._queue.first_ns()) is not None:
            self._arm(due_ns)

    async def calm(self, for_ns: int, until_ns: int) -> None:
        """Return when nothing falls due within `for_ns`, or it is `until_ns`: a moment for other work."""
        while (due_ns := self._queue.first_ns()) is not None:
            now_ns = time.monotonic_ns()
            if due_ns - now_ns >= for_ns or now_ns >= until_ns:
                return
            passed = self._loop.create_future()
            self.at(due_ns, lambda passed=passed: passed.done() or passed.set_result(None))  # type: ignore[misc]
            await passed
            await asyncio.sleep(0)  # uvloop writes at the end of an iteration: let that pass too

    def slack_ns(self) -> int | None:
        """Time until the next action is due, in ns, negative for one that is late; None without any."""
        due_ns = self._queue.first_ns()
        return None if due_ns is None else due_ns - time.monotonic_ns()

    def close(self) -> None:
        """Forget what is queued."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fileno())
            self._timer.close()
        elif self._handle is not None:
            self._handle.cancel()

    def _arm(self, due_ns: int) -> None:
        if self._timer is not None:
            now_ns = time.monotonic_ns()
            self._set(max(due_ns - self._lead_ns(due_ns, now_ns), now_ns))
            return
        if self._handle is not None:
            self._handle.cancel()
        delay_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
        self._handle = self._loop.call_later(delay_s, self._wake)

    def _set(self, at_ns: int) -> None:
        self._armed_ns = at_ns
        if self._timer is not None:
            self._timer.arm(at_ns)

    def _is_cold(self, now_ns: int) -> bool:
        return now_ns - self._acted_ns > QUIET_NS

    def _lead_ns(self, due_ns: int, now_ns: int) -> int:
        """How long before it is due an action is waited for awake."""
        rehearsal_ns = REHEARSAL_NS if self._rehearse and self._is_cold(due_ns) else 0
        return min(self._spin_ns + rehearsal_ns, self._allowance.at(now_ns))

    def _wake(self) -> None:
        if self._timer is not None and self._armed_ns:
            self._spin_ns = next_spin_ns(self._spin_ns, time.monotonic_ns() - self._armed_ns)
            self._armed_ns = 0
        clock = time.monotonic_ns
        for _ in range(ACTIONS_A_WAKE):
            if (due_ns := self._queue.first_ns()) is None:
                break
            began_ns = now_ns = clock()
            if now_ns < due_ns:
                if due_ns - now_ns > (lead_ns := self._lead_ns(due_ns, now_ns)):
                    if self._timer is not None:
                        self._set(due_ns - lead_ns)
                        return
                    break
                if self._is_cold(now_ns) and self._rehearse and due_ns - now_ns > REHEARSAL_NS:
                    self._rehearse()
                    now_ns = clock()
                while now_ns < due_ns:
                    now_ns = clock()
                self._allowance.spend(now_ns - began_ns)
            if (action := self._queue.pop_due(now_ns)) is not None:
                action()
                self._acted_ns = now_ns
                self._allowance.act()
        # Enough, or nothing due soon: the loop must see to its sockets in between.
        if (due_ns := self._queue.first_ns()) is not None:
            self._arm(due_ns)
        elif self._timer is not None:
            self._timer.acknowledge()  # one that is armed anew needs none
