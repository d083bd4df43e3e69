"""The process that sends a capture's segments to a store, beside the proxy: neither waits for the other.

It gets an `UploadOrder` as its only argument and tells its counts on stdout, a line of JSON each. It works
until stdin ends, as it does however the capture ends; after `DRAIN` on stdin until all is sent, or the store
takes nothing for a while. What is left stays in the outbox. The other end is in `sending`.
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
from pathlib import Path
from typing import Final

import numpy as np

from capture.child_processes import leave_to_the_parent
from capture.object_store import ObjectStore, StoreUrl
from capture.outbox import remove_ended
from capture.periodic import every
from capture.retention import Retention
from capture.structured_log import stderr_handler
from capture.uploads import PATIENCE_S, Uploader

DRAIN: Final = b"drain\n"
_TELL_S: Final = 0.2
_IDLE_S: Final = 0.2
_LEFT: Final = 3
"""The exit status when something is left."""


@dataclasses.dataclass(frozen=True)
class UploadOrder:
    """What is sent where: the outbox of one destination, its URL, and the bounds that are kept there."""

    outbox: Path
    url: StoreUrl
    retention: Retention = dataclasses.field(default_factory=Retention)
    patience_s: float = PATIENCE_S

    def to_json(self) -> str:
        """All of it, for `from_json`."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> UploadOrder:
        """What `to_json` wrote."""
        found = json.loads(text)
        options = tuple((name, value) for name, value in found["url"]["options"])
        return cls(
            Path(found["outbox"]),
            StoreUrl(found["url"]["bucket"], found["url"]["path"], options),
            Retention(**found["retention"]),
            found["patience_s"],
        )

    def uploader(self) -> Uploader:
        """What carries it out."""
        return Uploader(self.outbox, ObjectStore(self.url), self.retention, np.random.default_rng())


def _tell(uploader: Uploader) -> None:
    line = json.dumps(dataclasses.asdict(uploader.counts())).encode() + b"\n"
    with contextlib.suppress(OSError):  # nobody listens, or not now: sending goes on
        os.write(sys.stdout.fileno(), line)


def _work(order: UploadOrder, uploader: Uploader) -> bool:
    """Send until stdin ends or all is to be sent; whether nothing is left that should have been."""
    heard = b""
    while True:
        sent = uploader.turn()
        ready, _, _ = select.select([sys.stdin], [], [], 0 if sent else _IDLE_S)
        if not ready:
            continue
        said = os.read(sys.stdin.fileno(), 4096)
        heard += said
        if DRAIN in heard:
            return uploader.drain(order.patience_s)
        if not said:
            remove_ended(order.outbox)
            return True


def main() -> None:
    """Send until told otherwise."""
    # The capture ends us, in order; a terminal's Ctrl-C and its switch are the proxy's alone.
    leave_to_the_parent(signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    with contextlib.suppress(OSError):
        os.nice(9)
    logging.basicConfig(handlers=[stderr_handler()], level=logging.WARNING)
    os.set_blocking(sys.stdout.fileno(), False)
    order = UploadOrder.from_json(sys.argv[1])
    uploader = order.uploader()
    with every(_TELL_S, lambda: _tell(uploader), "peaktape-tell"):
        done = _work(order, uploader)
    _tell(uploader)
    sys.exit(0 if done else _LEFT)


if __name__ == "__main__":
    main()
