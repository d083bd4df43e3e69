"""Sending closed segments to a store: one after the other, and again when it fails.

`Uploader` does it, step by step; it is run by a process of its own beside a capture (`upload_process`), and
by a recovery. Nothing is deleted here before the store has shown it: killed at any time, it is begun again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from capture.counts import UploadCounts
from capture.object_store import ObjectStore, StoreFailure
from capture.outbox import OBJECT_NAME, Waiting, remove_ended, waiting_in
from capture.retention import BYTES, Held, Retention, outdated

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0
PATIENCE_S: Final = 30.0
"""For so long without any success a store is waited for at the end."""
_BOUNDS_S: Final = 300.0  # each look lists all that is there, and costs requests
_LOOK_S: Final = 1.0

logger = logging.getLogger(__name__)


def wait_s(failures: int, chance: np.random.Generator, first_s: float = FIRST_WAIT_S) -> float:
    """Seconds until the next try after so many failures in a row: doubled each time, then half of it drawn.

    The jitter keeps the proxies of a site from coming back all at once ("equal jitter" in M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    longest_s = min(LONGEST_WAIT_S, first_s * 2.0 ** min(failures - 1, 30))
    return longest_s / 2 + float(chance.uniform(0, longest_s / 2))


class Uploader:
    """Sends what waits in `outbox` to `store`, and keeps what lies there within `retention`.

    `counts` tells how it stands; nothing is raised for a store that is away or refuses.
    """

    def __init__(
        self,
        outbox: Path,
        store: ObjectStore,
        retention: Retention,
        chance: np.random.Generator,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._retention = retention
        self._chance = chance
        self._first_wait_s = first_wait_s
        self._sent_segments = self._sent_bytes = self._failures = self._in_a_row = 0
        self._waiting: list[Waiting] = []
        self._unreadable: set[Path] = set()
        self._failing_since_s = self._not_before_s = self._look_due_s = self._bounds_due_s = 0.0
        self._trouble = ""
        self._expired: Counter[str] = Counter()

    def counts(self) -> UploadCounts:
        """How the sending stands; may be asked by another thread."""
        waiting = self._waiting
        now_s = time.time()
        oldest_s = min((segment.closed_s for segment in waiting), default=now_s)
        return UploadCounts(
            sent_segments=self._sent_segments,
            sent_bytes=self._sent_bytes,
            waiting_segments=len(waiting),
            waiting_bytes=sum(segment.size_bytes for segment in waiting),
            oldest_s=max(0.0, now_s - oldest_s),
            failures=self._failures,
            failing_s=time.monotonic() - self._failing_since_s if self._trouble else 0.0,
            trouble=self._trouble,
            expired=dict(self._expired),
        )

    def turn(self) -> bool:
        """Send the oldest segment, if it is time to try; whether one was sent."""
        now_s = time.monotonic()
        if now_s >= self._look_due_s or not self._ready:
            self._look_due_s = now_s + _LOOK_S
            self._waiting = waiting_in(self._outbox)
        sent = bool(self._ready) and now_s >= self._not_before_s and self._send(self._ready[0])
        if not self._trouble and time.monotonic() >= self._bounds_due_s:
            self._keep_bounds()
        return sent

    @property
    def _ready(self) -> list[Waiting]:
        return [segment for segment in self._waiting if segment.path not in self._unreadable]

    def drain(self, patience_s: float = PATIENCE_S, on_turn: Callable[[], None] = lambda: None) -> bool:
        """Send all that waits; whether nothing is left. Given up when the store takes nothing for so long."""
        until_s = time.monotonic() + patience_s
        self._not_before_s = 0.0
        while time.monotonic() < until_s:
            if self.turn():
                until_s = time.monotonic() + patience_s
            on_turn()
            if not self._ready and not self.turn():
                break
            time.sleep(max(0.0, min(self._not_before_s - time.monotonic(), 0.1)))
        if not self._trouble:
            self._keep_bounds()
        remove_ended(self._outbox)
        return not self._waiting

    def _send(self, segment: Waiting) -> bool:
        try:
            self._store.put(segment.path, segment.object_name)
        except StoreFailure as failure:
            self._failed(failure)
            return False
        except FileNotFoundError:  # somebody else sent it
            return False
        except OSError as error:
            logger.error("peaktape: %s can't be read (%s) and stays", segment.path, error.strerror)
            self._unreadable.add(segment.path)
            return False
        self._worked()
        self._sent_segments += 1
        self._sent_bytes += segment.size_bytes
        segment.path.unlink(missing_ok=True)
        self._waiting = [other for other in self._waiting if other.path != segment.path]
        return True

    def _failed(self, failure: StoreFailure) -> None:
        self._failures += 1
        self._in_a_row += 1
        if not self._trouble:
            self._failing_since_s = time.monotonic()
            logger.warning("peaktape: %s: %s; tried again", self._store.url, failure.reason)
        self._trouble = failure.reason
        self._not_before_s = time.monotonic() + wait_s(self._in_a_row, self._chance, self._first_wait_s)

    def _worked(self) -> None:
        if self._trouble:
            logger.warning("peaktape: %s takes segments again", self._store.url)
        self._trouble, self._in_a_row = "", 0

    def _keep_bounds(self) -> None:
        """Delete what is outdated in the store: segments of captures, by their names, and nothing else."""
        self._bounds_due_s = time.monotonic() + _BOUNDS_S
        if not self._retention:
            return
        try:
            held = [
                Held(file.name, file.size_bytes, file.modified_s)
                for file in self._store.held()
                if OBJECT_NAME.fullmatch(file.name)
            ]
            for segment, bound in outdated(held, self._retention, time.time()):
                self._store.delete(segment.name)
                self._expired.update({bound: 1, BYTES: segment.size_bytes})
        except StoreFailure as failure:
            logger.warning("peaktape: %s: nothing is deleted (%s)", self._store.url, failure.reason)
